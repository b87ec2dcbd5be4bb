"""Pictures to read: those of a folder, or made ones that are as hard to decode as photographs."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pipeline.data.ingest.encode import shrink
from pipeline.data.sources import open_source
from pipeline.data.sources.base import Source
from pipeline.data.sources.digits import Digits

JPEG_QUALITY = 90
CLASSES = 4
FADING = 0.4


def photographs(folder: Path, count: int, longest: int = 400, source: Path | None = None) -> Source:
    """`count` JPEGs in class folders, no side longer than `longest` pixels.

    Those of `source`, again and again if there are fewer, or made ones.
    """
    given = None if source is None else open_source(str(source), "train")
    generator = np.random.default_rng(0)
    for index in range(count):
        if given is None:
            height, width = generator.permutation([longest, longest * 3 // 4])
            image = photograph_like(generator, int(height), int(width))
            name = str(index % CLASSES)
        else:
            sample = given[index % len(given)]
            image, name = shrink(sample.pixels(), longest), given.classes[sample.label]
        _write(folder / name / f"{index:05}.jpg", image)
    return open_source(str(folder), "train")


def small(folder: Path, count: int, side: int) -> Source:
    """`count` made pictures of `side` x `side` pixels, as PNGs in class folders."""
    generator = np.random.default_rng(0)
    for index in range(count):
        image = photograph_like(generator, side, side)
        _write(folder / str(index % CLASSES) / f"{index:05}.png", image)
    return open_source(str(folder), "train")


def digits(folder: Path, count: int | None = None) -> Source:
    """The first `count` training digits, or all 1,437, as PNGs in class folders."""
    source = Digits("train")
    for index in range(count or len(source)):
        sample = source[index]
        _write(folder / source.classes[sample.label] / f"{index:05}.png", sample.pixels())
    return open_source(str(folder), "train")


def photograph_like(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Noise of all wavelengths, uint8 (H, W, 3).

    How fast short wavelengths fade is chosen so that a JPEG of 400x300 pixels has 37 kB, like
    photographs of that size (200 of ImageNet: 35 kB on average).
    """
    image = np.zeros((height, width, 3), np.float32)
    wavelength = float(max(height, width))
    while wavelength >= 1:
        size = (max(2, round(width / wavelength)), max(2, round(height / wavelength)))
        noise = generator.standard_normal((size[1], size[0], 3)).astype(np.float32)
        noise += 2 * noise.mean(2, keepdims=True)  # mostly light and dark, less colour
        image += wavelength**FADING * cv2.resize(
            noise, (width, height), interpolation=cv2.INTER_CUBIC
        )
        wavelength /= 2
    image = 128 + 50 * (image - image.mean()) / image.std()
    return np.clip(image, 0, 255).astype(np.uint8)


def _write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=JPEG_QUALITY)
