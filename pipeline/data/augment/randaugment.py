"""RandAugment (Cubuk et al. 2020, arXiv 1909.13719) on whole batches.

The operations are the paper's fourteen, as torchvision has them, and so is what the greatest
strength of each is. Strengths go up to 10, as in the paper and in timm's `rand-m9-mstd0.5`:
magnitude 9 is nine tenths of an operation's greatest strength. torchvision's RandAugment counts to
30, so that its default, 9, is 3 here.
"""

import numpy as np
from torch import Tensor

from pipeline.config.recipe import RandAugment
from pipeline.data.augment.pixels import (
    PARAMETERS,
    affine,
    autocontrast,
    brightness,
    contrast,
    equalize,
    grouped,
    posterize,
    saturation,
    sharpness,
    solarize,
)

MOST = 10
RANDOM = 5
"""Random numbers of each picture and operation."""
OPERATIONS = (
    *("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"),
    *("Brightness", "Color", "Contrast", "Sharpness"),
    *("Posterize", "Solarize", "AutoContrast", "Equalize"),
)
_FUNCTIONS = {
    "Brightness": brightness,
    "Color": saturation,
    "Contrast": contrast,
    "Sharpness": sharpness,
    "Posterize": posterize,
    "Solarize": solarize,
    "AutoContrast": autocontrast,
    "Equalize": equalize,
    "affine": affine,
}
_AFFINE = {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"}


def strength(operation: str, level: np.ndarray, side: int) -> np.ndarray:
    """What a level, 0 to MOST, means to an operation, before its sign.

    Shear in pixels a pixel, translation in whole pixels, rotation in degrees, how far a factor is
    from 1, the bits that are kept, the value from which pixels are inverted.
    """
    share = level / MOST
    match operation:
        case "ShearX" | "ShearY":
            return 0.3 * share
        case "TranslateX" | "TranslateY":
            return np.trunc(150 / 331 * side * share)
        case "Rotate":
            return 30 * share
        case "Brightness" | "Color" | "Contrast" | "Sharpness":
            return 0.9 * share
        case "Posterize":
            return 8 - np.round(4 * share)
        case "Solarize":
            return 255 * (1 - share)
    return np.zeros_like(share)


def randaugment(images: Tensor, how: RandAugment, random: np.ndarray) -> Tensor:
    """images: uint8 (N, 3, S, S). random: (N, how.num_ops * RANDOM), in [0, 1)."""
    for drawn in np.split(random, how.num_ops, axis=1):
        kinds, numbers = draw(how, drawn, images.shape[-1])
        images = grouped(images, kinds, numbers, [*_FUNCTIONS.values()])
    return images


def draw(how: RandAugment, random: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Operation and strength of one operation for each picture, as `grouped` takes them.

    random: (N, RANDOM): which, whether, its sign, and two for a normal deviate (Box and Muller).
    """
    which, whether, sign, first, second = random.T
    normal = np.sqrt(-2 * np.log(1 - first)) * np.cos(2 * np.pi * second)
    level = np.clip(how.magnitude + how.magnitude_std * normal, 0, MOST)
    signs = np.where(sign < 0.5, -1.0, 1.0)
    drawn = (which * len(OPERATIONS)).astype(int)
    kinds = np.full(len(random), -1)
    numbers = np.zeros((len(random), PARAMETERS))
    for index, name in enumerate(OPERATIONS):
        rows = np.flatnonzero((drawn == index) & (whether < how.probability))
        if name != "Identity" and len(rows):
            kinds[rows] = [*_FUNCTIONS].index("affine" if name in _AFFINE else name)
            numbers[rows] = parameters(name, strength(name, level[rows], side), signs[rows], side)
    return kinds, numbers


def parameters(name: str, amount: np.ndarray, signs: np.ndarray, side: int) -> np.ndarray:
    """What an operation's function takes: (n, PARAMETERS)."""
    numbers = np.zeros((len(amount), PARAMETERS))
    if name in _AFFINE:
        numbers[:, (0, 4)] = 1
        amount = signs * amount
        if name == "Rotate":
            angle = -np.deg2rad(amount)
            sine, cosine = np.sin(angle), np.cos(angle)
            middle = side / 2
            numbers[:, (0, 1, 3, 4)] = np.stack([cosine, sine, -sine, cosine], axis=1)
            numbers[:, 2] = middle - middle * (cosine + sine)
            numbers[:, 5] = middle - middle * (cosine - sine)
        else:
            place, sign = {
                "ShearX": (1, 1),
                "TranslateX": (2, -1),
                "ShearY": (3, 1),
                "TranslateY": (5, -1),
            }[name]
            numbers[:, place] = sign * amount
    elif name in ("Posterize", "Solarize"):
        numbers[:, 0] = amount
    else:
        numbers[:, 0] = 1 + signs * amount
    return numbers
