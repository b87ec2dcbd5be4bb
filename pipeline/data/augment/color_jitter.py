"""Colour jitter: brightness, contrast and saturation at random, in an order drawn for each."""

from itertools import permutations

import numpy as np
from torch import Tensor

from pipeline.data.augment.pixels import brightness, contrast, grouped, saturation

RANDOM = 4
"""Random numbers of each picture."""
_OPERATIONS = (brightness, contrast, saturation)
_ORDERS = np.array([*permutations(range(len(_OPERATIONS)))])


def color_jitter(images: Tensor, most: float, random: np.ndarray) -> Tensor:
    """Factors from 1 - most to 1 + most, as torchvision's and timm's ColorJitter draw them.

    images: uint8 (N, 3, H, W). random: (N, RANDOM), in [0, 1).
    """
    factors = 1 + most * (2 * random[:, :3] - 1)
    orders = _ORDERS[(random[:, 3] * len(_ORDERS)).astype(int)]
    rows = np.arange(len(images))
    for kinds in orders.T:
        images = grouped(images, kinds, factors[rows, kinds][:, None], _OPERATIONS)
    return images
