"""The photographs that come with Python packages, for demonstrations: pictures without labels."""

import importlib.util
from importlib.metadata import version
from pathlib import Path

import numpy as np

from dsnet.errors import InputError
from pipeline.data.sources.base import Files, Source, digest, unknown_split
from pipeline.data.sources.unlabelled import CLASSES

PHOTOGRAPHS = "photographs"
EXPECTED = f"the word {PHOTOGRAPHS}"

# What lies in the packages themselves: the rest their own loaders would fetch. Drawings, pages of
# text and charts are left out, and of stereo pairs one.
_MATPLOTLIB = "matplotlib/mpl-data/sample_data"
_SKIMAGE = "skimage/data"
_SKLEARN = "sklearn/datasets/images"
_PROJECTS = {_MATPLOTLIB: "matplotlib", _SKIMAGE: "scikit-image", _SKLEARN: "scikit-learn"}
_FILES = {
    "train": (
        (_SKIMAGE, "astronaut.png"),
        (_SKIMAGE, "brick.png"),
        (_SKLEARN, "china.jpg"),
        (_SKIMAGE, "coins.png"),
        (_SKLEARN, "flower.jpg"),
        (_MATPLOTLIB, "grace_hopper.jpg"),
        (_SKIMAGE, "grass.png"),
        (_SKIMAGE, "gravel.png"),
        (_SKIMAGE, "hubble_deep_field.jpg"),
        (_SKIMAGE, "moon.png"),
        (_SKIMAGE, "motorcycle_left.png"),
        (_SKIMAGE, "retina.jpg"),
        (_SKIMAGE, "rocket.jpg"),
    ),
    # A man on a lawn in grey, fur, and smooth china: unlike those above, and unlike each other.
    "test": ((_SKIMAGE, "camera.png"), (_SKIMAGE, "chelsea.png"), (_SKIMAGE, "coffee.png")),
}


def opened(spec: str, split: str) -> Source | None:
    """The photographs, where `spec` is the word."""
    return Photographs(split) if spec == PHOTOGRAPHS else None


class Photographs(Files):
    """Thirteen photographs to train on and three to test on, of 300 to 1,411 pixels a side."""

    name = PHOTOGRAPHS
    classes = CLASSES
    lossless = True  # a JPEG's noise is none that is to be learned

    def __init__(self, split: str) -> None:
        if split not in _FILES:
            raise unknown_split(PHOTOGRAPHS, sorted(_FILES), split)
        self.split = split
        self._paths = [str(_folder(place) / name) for place, name in _FILES[split]]
        self._labels = np.zeros(len(self._paths), np.int64)

    def fingerprint(self) -> str:
        """A digest of which they are: they come with their packages, and change with them alone."""
        files = _FILES[self.split]
        versions = [version(_PROJECTS[place]) for place in sorted({place for place, _ in files})]
        return digest([self.name, self.split, *versions, *(f"{a}/{b}" for a, b in files)])


def _folder(place: str) -> Path:
    """Where a package keeps its pictures; the package itself, which is large, is not loaded."""
    package, _, inside = place.partition("/")
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise InputError(
            f"source {PHOTOGRAPHS}: expected the package {_PROJECTS[place]}, of which are some of "
            "its pictures, found it not installed: pip install 'dsnet[pipeline]'"
        )
    return Path(found.origin).parent / inside
