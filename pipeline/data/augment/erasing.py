"""Random erasing (Zhong et al. 2020, arXiv 1708.04896)."""

import numpy as np
import torch
from torch import Tensor

AREA = (0.02, 1 / 3)
"""Smallest and largest part of the picture that is erased, as in the paper and timm."""
ASPECT = (0.3, 1 / 0.3)
"""Lowest and highest height over width of it."""
TRIES = 10
RANDOM = 1 + 4 * TRIES
"""Random numbers of each picture."""


def boxes(share: float, random: np.ndarray, side: int) -> np.ndarray:
    """Top, left, height and width of what is erased: int64 (N, 4), of no size where nothing is.

    random: (N, RANDOM). The first try that lies within the picture counts; none in ten is rare.
    """
    tries = random[:, 1:].reshape(len(random), TRIES, 4)
    area = side**2 * (AREA[0] + (AREA[1] - AREA[0]) * tries[..., 0])
    low, high = np.log(ASPECT)
    aspect = np.exp(low + (high - low) * tries[..., 1])
    height, width = np.round(np.sqrt(area * aspect)), np.round(np.sqrt(area / aspect))
    fits = (height >= 1) & (width >= 1) & (height < side) & (width < side)
    rows = np.arange(len(random))
    chosen = fits.argmax(1)
    size = np.stack([height, width], axis=-1)[rows, chosen]
    corner = np.floor(tries[rows, chosen, 2:] * (side - size + 1))
    erased = (random[:, 0] < share) & fits.any(1)
    return np.where(erased[:, None], np.concatenate([corner, size], axis=1), 0).astype(np.int64)


def erase(
    images: Tensor, share: float, fill: tuple[float, float, float], random: np.ndarray
) -> Tensor:
    """A rectangle of a `share` of the pictures filled with the data's mean colour.

    images: uint8 (N, 3, S, S). fill: from 0 to 1: normalising makes it nought, which is what is
    erased where that is done afterwards. random: (N, RANDOM), in [0, 1).
    """
    colour = torch.tensor([round(255 * value) for value in fill], dtype=torch.uint8)
    colour = colour.to(images.device, non_blocking=True)[:, None, None]
    erased = images.clone()
    found = boxes(share, random, images.shape[-1])
    for picture, (top, left, height, width) in zip(erased, found.tolist(), strict=True):
        if height:
            picture[:, top : top + height, left : left + width] = colour
    return erased
