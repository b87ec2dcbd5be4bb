"""What a source's pictures are like, from their labels and the headers of a sample of them."""

from dataclasses import dataclass

import numpy as np

from dsnet.errors import InputError
from dsnet.errors.text import line
from dsnet.runtime.pictures import GREY_MODES, opened
from pipeline.data.random_bits import permutation
from pipeline.data.sources.base import Sample, Source

SAMPLED = 200


@dataclass(frozen=True)
class Survey:
    """Pictures by their number, classes, sizes and colours."""

    counts: dict[str, int]
    """Pictures of each class."""
    sampled: int
    """How many pictures `side` to `unreadable` were found from."""
    side: int
    """Shorter side in pixels of the picture in the middle, when ordered by it."""
    longer: tuple[int, ...]
    """Longer side in pixels of each that was looked at, ascending."""
    grey: float
    """Share that has no colours."""
    unreadable: tuple[str, ...]
    """What is wrong with those that are no pictures."""

    @property
    def longest(self) -> int:
        """Longer side in pixels of the largest."""
        return self.longer[-1]

    def larger(self, pixels: int) -> float:
        """Share of the pictures whose longer side has more pixels."""
        return sum(side > pixels for side in self.longer) / len(self.longer)

    @property
    def pictures(self) -> int:
        """How many there are in all."""
        return sum(self.counts.values())


def survey(source: Source) -> Survey:
    """Look at the labels, and at the headers of 200 pictures that are the same every time.

    No picture is decoded whole. Raises InputError where none of the sample can be read.
    """
    labels = source.labels()
    counts = np.bincount(labels, minlength=len(source.classes)).tolist()
    sizes, greys, unreadable = [], [], []
    chosen = permutation(len(source), 0)[:SAMPLED]
    for index in sorted(chosen.tolist()):
        try:
            size, grey = looked_at(source[index])
        except InputError as error:
            unreadable.append(line(error))
        else:
            sizes.append(size)
            greys.append(grey)
    if not sizes:
        raise InputError(
            f"source {source.name}: expected pictures that can be read, found none among "
            f"{len(chosen)}: {unreadable[0]}"
        )
    shorter = sorted(min(size) for size in sizes)
    return Survey(
        counts=dict(zip(source.classes, counts, strict=True)),
        sampled=len(chosen),
        side=shorter[len(shorter) // 2],
        longer=tuple(sorted(map(max, sizes))),
        grey=sum(greys) / len(greys),
        unreadable=tuple(unreadable),
    )


def looked_at(sample: Sample) -> tuple[tuple[int, int], bool]:
    """Width and height, and whether it has no colours. Raises InputError for what is no picture."""
    image = sample.image
    if isinstance(image, np.ndarray):
        return (image.shape[1], image.shape[0]), bool((image == image[..., :1]).all())
    with opened(image, sample.path, enough=0) as picture:
        return picture.size, picture.mode in GREY_MODES
