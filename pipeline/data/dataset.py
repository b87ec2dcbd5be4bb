"""The data of a chain: its splits as beton files, and what a model must know of them."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from dsnet import Metadata
from pipeline.config import Config, data_dir
from pipeline.data.in_common import compared
from pipeline.data.ingest import ingest as ingest_split
from pipeline.data.ingest import written
from pipeline.data.manifest import Manifest
from pipeline.data.recipes import get_recipe
from pipeline.data.sources.base import Source
from pipeline.data.train_and_test import evaluated_on, train_and_test

SMALLEST_STD = 1e-3  # a channel that is the same everywhere must not be divided by zero


@dataclass(frozen=True)
class Dataset:
    """The betons of a chain."""

    train: Manifest
    test: Manifest

    @property
    def digest(self) -> str:
        """SHA-256 over both betons' digests, hexadecimal."""
        return hashlib.sha256(f"{self.train.digest} {self.test.digest}".encode()).hexdigest()

    @property
    def counts(self) -> tuple[int, int, int]:
        """Training pictures, test pictures, classes."""
        return self.train.samples, self.test.samples, len(self.train.classes)

    def metadata(self, config: Config) -> Metadata:
        """How to prepare images like the training images, and what their labels mean."""
        red, green, blue = (max(value, SMALLEST_STD) for value in self.train.std)
        return Metadata(
            resolution=config.data.resolution,
            mean=self.train.mean,
            std=(red, green, blue),
            crop=get_recipe(config.data.recipe).crop,
            classes=self.train.classes,
        )


def ingest(config: Config) -> Dataset:
    """Write what is not there yet. Raises InputError for a source that is not as expected."""
    train, test = train_and_test(config.data)  # refused before anything is written
    written = _written(config, train)
    return Dataset(written, compared(written, _written(config, test)))


def held(config: Config) -> Dataset | None:
    """The betons that `ingest` would find there and leave as they are; None where it would write.

    They are not looked into. Raises InputError for a source that is not as expected.
    """
    sources = train_and_test(config.data)
    train, test = (
        written(source, _beton(config, source), max_resolution=config.data.max_resolution)
        for source in sources
    )
    return Dataset(train, test) if train and test else None


def counted(config: Config) -> tuple[int, int, int]:
    """Training pictures, test pictures and classes of the source; errors as `ingest`."""
    train, test = train_and_test(config.data)
    return len(train), len(test), len(train.classes)


def ingest_test(config: Config) -> Manifest:
    """The test images alone, written if they are not there yet; errors as `ingest`."""
    return _written(config, evaluated_on(config.data))


def _beton(config: Config, source: Source) -> Path:
    stem = re.sub(r"[*?\[\]]", "_", Path(config.data.source).stem)  # of a pattern
    return data_dir(config) / f"{stem}-{source.split}.beton"


def _written(config: Config, source: Source) -> Manifest:
    return ingest_split(
        source,
        _beton(config, source),
        max_resolution=config.data.max_resolution,
        max_bad=config.data.max_bad,
    )
