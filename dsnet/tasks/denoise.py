"""Denoising: the clean picture from a noisy one."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from dsnet.tasks.base import Measured, Task
from dsnet.tasks.measure import DENOISE, PSNR, SSIM
from dsnet.tasks.noise import Noise
from dsnet.tasks.similarity import ssim

EASY = 0.1  # dB that the slimmest path may be worse by where it will do
FLOOR = 1e-6  # added to the mean squared error of the loss: nothing is gained beyond 60 dB
LEAST = 1e-10  # mean squared error that counts as none: 100 dB


class Denoise(Task):
    """Inputs are noisy pictures, targets and outputs clean ones, float (N, 3, H, W), of 0 to 1.

    noise: what is added in training, and where networks are measured. It is drawn from a picture's
    key alone, so that whoever asks for the same view of it sees the same noise.
    """

    name = DENOISE
    measures = (PSNR, SSIM)
    normalized = False
    pictures = True

    def __init__(self, noise: Noise | None = None) -> None:
        self.noise = noise or Noise()

    def configured(self, settings: Mapping[str, Any]) -> "Denoise":
        """For a level of noise (`noise: 25`), a range ([5, 50]), and shot noise (`shot: 10`)."""
        return Denoise(Noise.of(settings))

    def settings(self) -> dict[str, Any]:
        """The noise."""
        return self.noise.settings()

    def pair(self, images: Tensor, labels: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """(noisy, clean)."""
        return self.noise.on(images, keys), images

    def loss(self, outputs: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """10 log10 of the mean squared error, which is PSNR negated, in dB: (N,).

        So that a tenth of a decibel counts as much where there is little noise as where there is
        much, in training and in what gates weigh.
        """
        error = (outputs.float() - targets).square().mean((1, 2, 3))
        return 10 * (error + FLOOR).log10()

    def soften(self, outputs: Tensor) -> Tensor:
        """As they are: the teacher's picture is the target."""
        return outputs.detach().float()

    def distill(self, outputs: Tensor, soft: Tensor) -> Tensor:
        """`loss` against the teacher's picture."""
        return self.loss(outputs, soft)

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """PSNR, 10 log10(1 / mean squared error), in dB, and SSIM, of what a file would show."""
        shown = outputs.float().clamp(0, 1)
        error = (shown - targets).square().mean((1, 2, 3))
        return {"psnr": -10 * error.clamp(min=LEAST).log10(), "ssim": ssim(shown, targets)}

    def easy(self, slim: Measured, wide: Callable[[], Measured]) -> Tensor:
        """The slimmest path comes within 0.1 dB of the widest."""
        return slim["psnr"] >= wide()["psnr"] - EASY

    def hopeless(self, wide: Measured) -> Tensor:
        """No picture is: width always takes some noise away."""
        return torch.zeros_like(wide["psnr"], dtype=torch.bool)
