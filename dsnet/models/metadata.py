"""What a model knows of its images and classes besides its weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dsnet.errors import InputError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Prices = tuple[tuple[float, float], ...]
"""A calibrated curve: (price, average multiply-adds per image), by rising price."""


@dataclass(frozen=True)
class Metadata:
    """How to prepare an image for the model and how to name what it answers.

    resolution: height and width of the model's input, in pixels.
    mean, std: per channel, of pixels scaled to [0, 1].
    crop: side of the middle square that is resized to it, as a fraction of the shorter side.
    classes: names in label order; empty when they are not known.
    prices: the curve of the gates in place, as `dsnet.routing.budget` calibrates it; empty when
        they are not calibrated.
    price: what multiply-adds cost, in units of logits, where nobody asks for another budget: the
        price that meets the target the gates were trained for; 0 where they had none.

    Raises InputError, naming the field, for a number that is not finite and a `std` or `crop` that
    is not above 0.
    """

    resolution: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    classes: tuple[str, ...] = ()
    crop: float = 1.0
    prices: Prices = ()
    price: float = 0.0

    def __post_init__(self) -> None:
        check_numbers("metadata.mean", self.mean)
        check_numbers("metadata.std", self.std, above_zero=True)
        check_numbers("metadata.crop", [self.crop], above_zero=True)
        check_prices("metadata", self.price, self.prices)


def check_prices(where: str, price: float, prices: Prices) -> None:
    """Raise InputError unless a price and a calibrated curve are finite numbers."""
    check_numbers(f"{where}.price", [price])
    check_numbers(f"{where}.prices", [number for point in prices for number in point])


def check_numbers(where: str, numbers: Sequence[float], *, above_zero: bool = False) -> None:
    """Raise InputError unless `numbers` are finite, and above 0 if they have to be."""
    for number in numbers:
        if not math.isfinite(number) or (above_zero and number <= 0):
            kind = "finite numbers above 0" if above_zero else "finite numbers"
            raise InputError(f"{where}: expected {kind}, found {number}")
