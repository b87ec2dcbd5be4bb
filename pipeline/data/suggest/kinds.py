"""Which network and which augmentation suit which pictures: a table, read from the top."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.data.suggest.survey import Survey

SMALL = 64  # pixels of the shorter side: up to there a picture is no photograph
MIDDLING = 160  # up to there it would have to be enlarged for a network of 224 pixels
FEW = 20_000  # photographs: a large network learns as many by heart

WEAKEST_CROP, FEW_TO_CROP = 0.5, 2_000
"""Smallest part of a photograph that a random crop shows, for up to so many pictures."""
STRONGEST_CROP = 0.08
SHIFTED = {False: "digits", True: "cifar"}
"""Recipes of small shifts, by whether they mirror."""
SIDES = re.compile(r"(?i)(^|[^a-z])(left|right|l|r)([^a-z]|$)")


@dataclass(frozen=True)
class Kind:
    """Pictures of one kind, and what does well on such."""

    fits: Callable[[Survey], bool]
    recipe: Callable[[Survey], tuple[str | dict[str, Any], str]]
    """The value of `data.recipe`, and the reason for it."""
    resolution: int
    max_resolution: int
    arch: str
    arch_why: str
    from_paper: bool = False
    """Whether stage I is the paper's; else it is what reaches most in minutes on two cores."""


def mirrors(found: Survey) -> bool:
    """Whether a mirrored picture is likely one of the same class.

    Not so for signs (a class name of one character or of digits alone) and for classes that are
    told apart by their side (left, right); grey pictures are often scans of signs.
    """
    names = list(found.counts)
    signs = any(len(name) == 1 or name.isdigit() for name in names)
    return found.grey < 1 and not signs and not any(SIDES.search(name) for name in names)


def smallest_crop(pictures: int) -> float:
    """The smallest part of a photograph's area that training shows, by the number of photographs.

    A half for few of them, which weaker crops leave more alike; as many more there are, the less,
    down to the 8% of ImageNet's.
    """
    part = WEAKEST_CROP * (FEW_TO_CROP / max(pictures, FEW_TO_CROP)) ** 0.3
    return round(max(part, STRONGEST_CROP), 2)


def _shifted(found: Survey) -> tuple[str | dict[str, Any], str]:
    if mirrors(found):
        return SHIFTED[True], (
            "small shifts, half of the pictures mirrored; where left and right differ, write "
            "digits, which mirrors nothing"
        )
    return SHIFTED[False], (
        "small shifts and nothing mirrored, as for signs and letters; where a mirrored picture is "
        "of the same class, write cifar"
    )


def _cropped(found: Survey) -> tuple[str | dict[str, Any], str]:
    flip = mirrors(found)
    mirrored = (
        "half of them mirrored (where left and right differ, write flip: false)"
        if flip
        else "nothing mirrored (where a mirrored picture is of the same class, write flip: true)"
    )
    scale = [smallest_crop(found.pictures), 1.0]
    return (
        {"base": "imagenet", "scale": scale, "flip": flip, "crop": 1.0},
        f"random parts of at least {scale[0]:.0%} of each photograph, smaller ones for more "
        f"photographs; {mirrored}",
    )


def _scans(found: Survey) -> tuple[str | dict[str, Any], str]:
    return "digits", "shifts of a pixel and nothing mirrored: so small a picture is often a sign"


def _imagenet(found: Survey) -> tuple[str | dict[str, Any], str]:
    return "imagenet", "photographs: random parts of each, half of them mirrored"


KINDS = (
    Kind(
        fits=lambda found: found.side <= 12,
        recipe=_scans,
        resolution=8,
        max_resolution=16,
        arch="ds_mbnet_digits",
        arch_why="made for 8 pixels",
    ),
    Kind(
        fits=lambda found: found.side <= SMALL and found.grey == 1,
        recipe=_shifted,
        resolution=28,
        max_resolution=56,
        arch="ds_resnet8_cifar",
        arch_why="made for small pictures and minutes of training; ds_resnet12_mnist multiplies a "
        "third as much, and its gate, of four units, needs longer trainings",
    ),
    Kind(
        fits=lambda found: found.side <= SMALL,
        recipe=_shifted,
        resolution=32,
        max_resolution=64,
        arch="ds_resnet8_cifar",
        arch_why="made for 32 pixels and minutes of training; ds_resnet12_cifar takes longer and "
        "reaches more with tens of thousands of pictures",
    ),
    Kind(
        fits=lambda found: found.side <= MIDDLING or found.pictures < FEW,
        recipe=_cropped,
        resolution=64,
        max_resolution=128,
        arch="ds_resnet8_photos",
        arch_why="made for 64 pixels and minutes of training; ds_mbnet at 224 pixels is for more "
        "photographs than these, or with supernet.from",
    ),
    Kind(
        fits=lambda found: True,
        recipe=_imagenet,
        resolution=224,
        max_resolution=400,
        arch="ds_mbnet",
        arch_why="the paper's, for 224 pixels",
        from_paper=True,
    ),
)


def kind_of(found: Survey) -> Kind:
    """The first kind that these pictures fit."""
    return next(kind for kind in KINDS if kind.fits(found))
