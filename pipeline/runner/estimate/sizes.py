"""How many pictures a chain has, and how large they are: counted where they are, else as stated."""

import math
from dataclasses import dataclass

from dsnet.errors import InputError
from pipeline.config import Config
from pipeline.data.dataset import Counts, Dataset, counted

# 200 photographs of ImageNet, the longer side at most 400 pixels, as JPEG of quality 90.
JPEG_BYTES_PER_PIXEL = 0.33
PIXELS_OF_SQUARE = 0.70
RAW_SIDE = 64
"""Pixels up to which a beton keeps them raw."""
PAGE = 2**23
"""Bytes that FFCV writes at once."""
ENTRY = 24
"""Bytes of where a picture lies."""
_MANY_PAGES = 20


@dataclass(frozen=True)
class Sizes:
    """The data of a chain."""

    train: int
    """Training pictures, those that will be kept aside among them."""
    test: int
    classes: int
    picture_bytes: float
    """Of one picture in the betons."""
    beton_bytes: int
    """Of both betons."""
    known: str
    """Where these numbers are from: counted, stated."""

    def holdout(self, config: Config) -> int:
        """Training pictures that are kept aside; by classes it may be a few others."""
        return round(self.train * config.data.holdout)


def sizes_of(
    config: Config,
    dataset: Dataset | None,
    train: int | None,
    test: int | None,
    classes: int | None,
    found: Counts | None = None,
) -> Sizes:
    """The sizes of the betons, or of the source; what is stated wins over both.

    found: the counts of either, where they are known already.
    Raises InputError where neither says how many pictures there are, naming the flags that would.
    """
    classes = classes or config.model.num_classes
    stated = "stated"
    if train is None or test is None or classes is None:
        try:
            found = found or counted(config)
        except InputError as error:
            given = {"--images": train, "--test-images": test, "--classes": classes}
            missing = " and ".join(name for name, value in given.items() if value is None)
            raise InputError(
                f"{error}; without the data, state their size: expected {missing}"
            ) from error
        train, test, classes = train or found[0], test or found[1], classes or found[2]
        stated = "counted, in " + ("the betons" if dataset else "the source")
    each = picture_bytes(config)
    if dataset is None:
        both = _beton(train, each) + _beton(test, each)
        return Sizes(train, test, classes, each, both, stated)
    total = dataset.train.size + dataset.test.size
    # A small beton is mostly the rest of its last page.
    each = total / (train + test) if total > _MANY_PAGES * PAGE else each
    return Sizes(train, test, classes, each, total, stated)


def _beton(pictures: int, each: float) -> int:
    """Bytes of one: pages of pictures, one of their records, and a line for each where it lies."""
    return (1 + math.ceil(pictures * each / PAGE)) * PAGE + pictures * ENTRY


def picture_bytes(config: Config) -> float:
    """Of a picture in a beton that will be written."""
    if config.data.tile is not None:
        return 3.0 * config.data.tile**2
    side = config.data.max_resolution or config.data.resolution
    if side <= RAW_SIDE:
        return 3.0 * side * side
    return JPEG_BYTES_PER_PIXEL * PIXELS_OF_SQUARE * side * side
