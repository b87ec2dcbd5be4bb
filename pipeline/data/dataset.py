"""The data of a chain: its splits as beton files, and what a model must know of them."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from dsnet import Metadata
from pipeline.config import Config, data_dir
from pipeline.data.in_common import compared
from pipeline.data.ingest import ingest as ingest_split
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


def ingest_test(config: Config) -> Manifest:
    """The test images alone, written if they are not there yet; errors as `ingest`."""
    return _written(config, evaluated_on(config.data))


def _written(config: Config, source: Source) -> Manifest:
    stem = re.sub(r"[*?\[\]]", "_", Path(config.data.source).stem)  # of a pattern
    name = f"{stem}-{source.split}.beton"
    return ingest_split(
        source,
        data_dir(config) / name,
        max_resolution=config.data.max_resolution,
        max_bad=config.data.max_bad,
    )
