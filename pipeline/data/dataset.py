"""The data of a chain: its splits as beton files, and what a model must know of them."""

import hashlib
import logging
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from dsnet import InputError, Metadata
from pipeline.config import Config, data_dir
from pipeline.data.in_common import compared
from pipeline.data.ingest import ingest as ingest_split
from pipeline.data.manifest import Manifest
from pipeline.data.matched import Matched
from pipeline.data.recipes import get_recipe
from pipeline.data.sources import open_source
from pipeline.data.sources.base import Source, other_classes
from pipeline.data.walk import listed

logger = logging.getLogger(__name__)

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
    data = config.data
    train, test = (open_source(data.source, split) for split in (data.train_split, data.test_split))
    test = _alike(test, train)  # before anything is written
    written = _written(config, train)
    return Dataset(written, compared(written, _written(config, test)))


def _alike(test: Source, train: Source) -> Source:
    """The test split with the training split's labels. Raises InputError for classes of its own."""
    if test.classes == train.classes:
        return test
    names = Counter(test.classes)
    if names - Counter(train.classes) or max(Counter(train.classes).values()) > 1:
        differ = other_classes(train.classes, test.classes, train.split, test.split)
        raise InputError(
            f"data.source {train.name}: expected the same classes in {train.split} and "
            f"{test.split}, found {differ}"
        )
    if missing := [name for name in train.classes if name not in names]:
        logger.warning(
            "%s %s: no picture of %s, of which nothing can be said",
            test.name,
            test.split,
            listed(missing),
        )
    return Matched(test, train.classes)


def ingest_test(config: Config) -> Manifest:
    """The test images alone, written if they are not there yet; errors as `ingest`."""
    return _written(config, open_source(config.data.source, config.data.test_split))


def _written(config: Config, source: Source) -> Manifest:
    stem = re.sub(r"[*?\[\]]", "_", Path(config.data.source).stem)  # of a pattern
    name = f"{stem}-{source.split}.beton"
    return ingest_split(
        source,
        data_dir(config) / name,
        max_resolution=config.data.max_resolution,
        max_bad=config.data.max_bad,
    )
