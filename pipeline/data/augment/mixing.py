"""Mixup (Zhang et al. 2018, arXiv 1710.09412) and CutMix (Yun et al. 2019, arXiv 1905.04899).

A picture's partner is the one at its place in the reversed batch, the first with the last, so that
the middle one of an odd batch stays as it is; one lambda, or one rectangle, holds for the batch.
They follow from (seed, epoch, view) and the number of the batch's first sample. So a training that
is taken up again mixes as before, while another batch size or number of workers makes other pairs.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.data.random_bits import random_key

_MIXING = 1
"""Tells these random numbers from those of the first sample itself."""


@dataclass(frozen=True)
class Mixing:
    """How one batch is mixed; with both alphas above 0, one of the two, by chance."""

    mixup: float
    """Alpha, of Beta(alpha, alpha); 0: no mixup."""
    cutmix: float
    """The same of CutMix."""
    key: np.uint64
    """Of the seed, epoch and view."""
    first: int
    """Number of the batch's first sample."""

    def of(self, images: Tensor, labels: Tensor, classes: int | None) -> tuple[Tensor, Tensor]:
        """Normalised images, float (N, 3, H, W), and labels, int64 (N,), mixed.

        classes: how many there are: labels become probabilities, float32 (N, classes). None where
        labels are not what is learned, and are left as they are.
        """
        key = random_key(int(self.key.view(np.int64)), self.first, _MIXING)
        random = np.random.Generator(np.random.Philox(key=int(key)))
        cut = self.cutmix > 0 and (self.mixup == 0 or random.random() < 0.5)
        alpha = self.cutmix if cut else self.mixup
        kept = float(random.beta(alpha, alpha))
        if cut:
            images, kept = _cut(images, kept, *random.random(2))
        else:
            images = kept * images + (1 - kept) * images.flip(0)
        if classes is None:
            return images, labels
        ours = F.one_hot(labels, classes).float()
        return images, kept * ours + (1 - kept) * ours.flip(0)


def _cut(images: Tensor, kept: float, x: float, y: float) -> tuple[Tensor, float]:
    """A rectangle about (x, y), of 1 - kept of the area before it is cut at the edges, from the
    partners; and the share that is kept in truth.
    """
    height, width = images.shape[2:]
    half = np.sqrt(1 - kept) / 2
    top, bottom = _ends(y, half, height)
    left, right = _ends(x, half, width)
    mixed = images.clone(memory_format=torch.preserve_format)
    mixed[:, :, top:bottom, left:right] = images.flip(0)[:, :, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def _ends(middle: float, half: float, side: int) -> tuple[int, int]:
    first, end = round((middle - half) * side), round((middle + half) * side)
    return max(first, 0), min(end, side)
