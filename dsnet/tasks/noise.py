"""Noise from counters: a pixel's is a hash of its picture's key and its place, on any device."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dsnet.errors import InputError
from dsnet.errors.checks import check_numbers
from dsnet.errors.text import shown

STRONGEST = 255.0
PIXEL = 1 / 255  # as `dsnet.normalize` scales by it, so that the same byte is the same number
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # torch's int64 wraps around as uint64 does
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64
_LEVEL = -1  # place of the number that a picture's level is drawn from; pixels count from 0


@dataclass(frozen=True)
class Noise:
    """Gaussian noise, whose level may be drawn for each picture, and shot noise on top.

    Raises InputError for what is no number, or out of 0 to 255.
    """

    low: float = 25.0
    """The least standard deviation, of 255."""
    high: float = 25.0
    """The greatest; where it is more than `low`, each picture has a level in between, drawn
    uniformly ("blind")."""
    shot: float = 0.0
    """Variance, of 255², that a full intensity of 255 adds, and half of that half as much: the
    normal approximation of Poisson noise; 0 for none."""

    def __post_init__(self) -> None:
        check_numbers("task.noise", [self.low, self.high])
        check_numbers("task.shot", [self.shot])
        if not 0 <= self.low <= self.high <= STRONGEST:
            raise InputError(
                "task.noise: expected a level, or two that rise, of 0 to 255, found "
                f"{shown([self.low, self.high])}"
            )
        if not 0 <= self.shot <= STRONGEST**2:
            raise InputError(f"task.shot: expected 0 to {STRONGEST**2:.0f}, found {self.shot}")
        if self.high == self.shot == 0:
            raise InputError("task.noise: expected some noise to take away, found none at all")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Noise":
        """Of a configuration's section `task`: noise, a level or two, and shot."""
        if unknown := sorted(set(settings) - {"noise", "shot"}):
            raise InputError(f"task: expected noise and shot, found {shown(unknown)}")
        level = settings.get("noise", cls.low)
        ends = list(level) if isinstance(level, list | tuple) else [level, level]
        if len(ends) != 2:
            raise InputError(f"task.noise: expected a level, or two that rise, found {shown(ends)}")
        check_numbers("task.noise", ends)
        check_numbers("task.shot", [settings.get("shot", cls.shot)])
        return cls(float(ends[0]), float(ends[1]), float(settings.get("shot", cls.shot)))

    def settings(self) -> dict[str, Any]:
        """What `of` reads back."""
        level = self.low if self.low == self.high else [self.low, self.high]
        return {"noise": level} | ({"shot": self.shot} if self.shot else {})

    def on(self, images: Tensor, keys: Tensor) -> Tensor:
        """Noisy pictures as a file could hold them: float32 (N, 3, H, W), whole 255ths of 0 to 1.

        images: clean, of 0 to 1, (N, 3, H, W). keys: int64 (N,), one for each picture; the same
        ones give the same noise, in any batch and on any device.
        """
        places = torch.arange(images[0].numel(), device=images.device)
        standard = _normal(keys, places).view(images.shape)
        levels = self.levels(keys)[:, None, None, None]
        clean = images.float() / PIXEL
        deviation = levels if not self.shot else (levels**2 + self.shot / 255 * clean).sqrt()
        return (clean + deviation * standard).round_().clamp_(0, 255) * PIXEL

    def levels(self, keys: Tensor) -> Tensor:
        """The level of each picture, of 255: float32 (N,)."""
        drawn = _bits(keys, torch.tensor([_LEVEL], device=keys.device))[:, 0]
        return self.low + (self.high - self.low) * _unit(_shifted(drawn, 40))


def _normal(keys: Tensor, places: Tensor) -> Tensor:
    """Standard normal numbers, float32 (N, P): Box and Muller's (1958) of two halves of a hash."""
    bits = _bits(keys, places)
    radius = (-2 * (1 - _unit(_shifted(bits, 40))).log()).sqrt_()
    return radius * (2 * math.pi * _unit(bits & 0xFFFFFF)).cos_()


def _bits(keys: Tensor, places: Tensor) -> Tensor:
    """64 random bits for each key, int64 (N,), and place, int64 (P,): (N, P)."""
    return _splitmix64(_splitmix64(keys)[:, None] + places * _GOLDEN)


def _splitmix64(counters: Tensor) -> Tensor:
    """The splitmix64 finaliser (Steele, Lea, Flood 2014), elementwise; int64 for uint64."""
    z = counters + _GOLDEN
    z = (z ^ _shifted(z, 30)) * _FIRST
    z = (z ^ _shifted(z, 27)) * _SECOND
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """To the right as if without a sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _unit(bits: Tensor) -> Tensor:
    """24 bits as float32 in [0, 1)."""
    return bits.to(torch.float32) * 2.0**-24
