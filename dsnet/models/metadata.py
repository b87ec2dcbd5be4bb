"""What a model knows of its images and classes besides its weights."""

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dsnet.errors import InputError
from dsnet.errors.checks import check_count, check_name, check_numbers, check_whole
from dsnet.errors.text import shown
from dsnet.models.architecture import MOST_CLASSES, MOST_PIXELS

MOST_PRICES = 10_000

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Prices = tuple[tuple[float, float], ...]
"""A calibrated curve: (price, average multiply-adds per image), by rising price."""


@dataclass(frozen=True)
class Metadata:
    """How to prepare an image for the model and how to name what it answers.

    Raises InputError, naming the field, for what is of another type, a number that is not finite, a
    `std` or `crop` that is not above 0, a crop above 1, or a name with control codes.
    """

    resolution: int = 224
    """Height and width of the model's input, in pixels."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Per channel, of pixels scaled to [0, 1]."""
    std: tuple[float, float, float] = IMAGENET_STD
    """As `mean`."""
    classes: tuple[str, ...] = ()
    """Names in label order; empty when they are not known."""
    crop: float = 1.0
    """Side of the middle square that is resized to the resolution, as a fraction of the image's
    shorter side."""
    prices: Prices = ()
    """The curve of the gates in place, as `dsnet.routing.budget` calibrates it; empty when they are
    not calibrated."""
    price: float = 0.0
    """What multiply-adds cost, in units of logits, where nobody asks for another budget: the price
    that meets the target the gates were trained for; 0 where they had none."""
    task: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    """Settings of what the network is for, see `Task.configured`."""

    def __post_init__(self) -> None:
        check_whole("metadata.resolution", self.resolution, MOST_PIXELS)
        for field, values in (("mean", self.mean), ("std", self.std)):
            check_count(f"metadata.{field}", values, 3)
            if len(values) < 3:
                raise InputError(f"metadata.{field} must have 3 entries, found {len(values)}")
            check_numbers(f"metadata.{field}", values, above_zero=field == "std")
        check_classes("metadata.classes", self.classes)
        check_numbers("metadata.crop", [self.crop], above_zero=True)
        if self.crop > 1:
            raise InputError(f"metadata.crop: expected a fraction up to 1, found {self.crop}")
        check_prices("metadata", self.price, self.prices)
        if not isinstance(self.task, Mapping):
            raise InputError(f"metadata.task: expected settings by name, found {shown(self.task)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; without settings of the task where it has none."""
        values = asdict(self)
        if not self.task:
            del values["task"]
        return values


def check_classes(where: str, names: Any) -> None:
    """Raise InputError unless `names` is a list of as many names as a network may have classes."""
    check_count(where, names, MOST_CLASSES)
    for name in names:
        check_name(where, name)


def check_prices(where: str, price: float, prices: Prices) -> None:
    """Raise InputError unless a price is a finite number, and a curve falls as prices rise."""
    check_numbers(f"{where}.price", [price])
    check_count(f"{where}.prices", prices, MOST_PRICES)
    for point in prices:
        if not isinstance(point, (list, tuple)) or len(point) != 2:
            raise InputError(f"{where}.prices: expected pairs of numbers, found {shown(point)}")
        check_numbers(f"{where}.prices", point)
    for (price, average), (higher, less) in itertools.pairwise(prices):
        if not (price < higher and average >= less):
            raise InputError(
                f"{where}.prices: expected rising prices with falling averages, found "
                f"{shown([price, average])} before {shown([higher, less])}"
            )
