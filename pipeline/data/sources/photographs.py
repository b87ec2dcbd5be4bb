"""The photographs in scikit-image, for demonstrations: real pictures without labels."""

import importlib.util
from importlib.metadata import version
from pathlib import Path

import numpy as np

from dsnet.errors import InputError
from pipeline.data.sources.base import Files, Source, digest, unknown_split
from pipeline.data.sources.unlabelled import CLASSES

PHOTOGRAPHS = "photographs"
EXPECTED = f"the word {PHOTOGRAPHS}"

# What lies in the package itself: the rest its own loaders would fetch. Drawings, pages of text and
# charts are left out, and of stereo pairs one.
_FILES = {
    "train": (
        "astronaut.png",
        "brick.png",
        "coins.png",
        "grass.png",
        "gravel.png",
        "hubble_deep_field.jpg",
        "moon.png",
        "motorcycle_left.png",
        "retina.jpg",
        "rocket.jpg",
    ),
    # A man on a lawn in grey, fur, and smooth china: unlike those above, and unlike each other.
    "test": ("camera.png", "chelsea.png", "coffee.png"),
}


def opened(spec: str, split: str) -> Source | None:
    """The photographs, where `spec` is the word."""
    return Photographs(split) if spec == PHOTOGRAPHS else None


class Photographs(Files):
    """Ten photographs to train on and three to test on, of 300 to 1,411 pixels a side."""

    name = PHOTOGRAPHS
    classes = CLASSES
    lossless = True  # a JPEG's noise is none that is to be learned

    def __init__(self, split: str) -> None:
        if split not in _FILES:
            raise unknown_split(PHOTOGRAPHS, sorted(_FILES), split)
        self.split = split
        folder = _folder()
        self._paths = [str(folder / name) for name in _FILES[split]]
        self._labels = np.zeros(len(self._paths), np.int64)

    def fingerprint(self) -> str:
        """A digest of which they are: they come with scikit-image, and change with it alone."""
        return digest([self.name, self.split, version("scikit-image"), *_FILES[self.split]])


def _folder() -> Path:
    """Where scikit-image keeps its pictures; the package itself, which is large, is not loaded."""
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        raise InputError(
            f"source {PHOTOGRAPHS}: expected the package scikit-image, whose pictures they are, "
            "found it not installed: pip install 'dsnet[pipeline]'"
        )
    return Path(found.origin).parent / "data"
