"""The data of a chain: its splits as beton files, and what a model must know of them."""

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from glob import iglob
from pathlib import Path

from dsnet import Metadata
from dsnet.errors import InputError
from dsnet.models.create import task_of
from pipeline.config import Config, Uri, data_dir, is_uri, parse_uri
from pipeline.config.schema import DIGITS
from pipeline.data.augment.recipes import get_recipe
from pipeline.data.ingest.ingest_to import ingest_to, written_to
from pipeline.data.ingest.overlap import compared
from pipeline.data.manifest import Manifest
from pipeline.data.remote.beton import published, staged
from pipeline.data.sources.base import Source, other_classes
from pipeline.data.sources.idx import FASHION_MNIST
from pipeline.data.sources.photographs import PHOTOGRAPHS
from pipeline.data.sources.train_and_test import TEST_SPLITS, evaluated_on, train_and_test

logger = logging.getLogger(__name__)

SMALLEST_STD = 1e-3  # a channel that is the same everywhere must not be divided by zero


Counts = tuple[int, int, int]
"""Training pictures, test pictures, classes."""


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
    def counts(self) -> Counts:
        """Training pictures, test pictures, classes."""
        return self.train.samples, self.test.samples, len(self.train.classes)

    def metadata(self, config: Config) -> Metadata:
        """How to prepare images like the training images, and what their labels mean."""
        task = task_of(config.model.arch).configured(config.task)
        mean, std = self.train.mean, (1.0, 1.0, 1.0)
        if task.normalized:
            red, green, blue = (max(value, SMALLEST_STD) for value in self.train.std)
            std = (red, green, blue)
        else:
            mean = (0.0, 0.0, 0.0)
        return Metadata(
            resolution=config.data.resolution,
            mean=mean,
            std=std,
            crop=get_recipe(config.data.recipe).crop,
            classes=self.train.classes if task.labelled else (),
            task=task.settings(),
        )


def ingest(config: Config) -> Dataset:
    """Write what is not there yet. Raises InputError for a source that is not as expected."""
    ours = _published(config, [config.data.train_split])
    theirs = _published(config, _tested(config)) if ours else None
    if ours is not None and theirs is not None:
        _refuse_other_classes(ours, theirs)
        return Dataset(ours, compared(ours, theirs))
    train, test = _sources(config)  # refused before anything is written
    ours = _written(config, train)
    return Dataset(ours, compared(ours, _written(config, test)))


def held(config: Config) -> tuple[Dataset | None, Counts]:
    """The betons that `ingest` would find there and leave as they are; None where it would write.

    They are not looked into. Beside them the counts of the source, which is opened once for both.
    Raises InputError for a source that is not as expected.
    """
    ours = _listed(config, [config.data.train_split])
    theirs = _listed(config, _tested(config)) if ours else None
    if ours is not None and theirs is not None:
        return Dataset(ours, theirs), Dataset(ours, theirs).counts
    train, test = _sources(config)
    ours, theirs = (
        written_to(source, _beton(config, source), max_resolution=config.data.max_resolution)
        for source in (train, test)
    )
    if ours is not None and theirs is not None:
        return Dataset(ours, theirs), Dataset(ours, theirs).counts
    return None, (len(train), len(test), len(train.classes))


def counted(config: Config) -> Counts:
    """Training pictures, test pictures and classes of the source; errors as `ingest`."""
    train, test = _sources(config)
    return len(train), len(test), len(train.classes)


def ingest_test(config: Config) -> Manifest:
    """The test images alone, written if they are not there yet; errors as `ingest`."""
    return _published(config, _tested(config)) or _written(
        config, evaluated_on(config.data, task_of(config.model.arch).labelled)
    )


def _tested(config: Config) -> Sequence[str]:
    return TEST_SPLITS if config.data.test_split is None else (config.data.test_split,)


def _refuse_other_classes(train: Manifest, test: Manifest) -> None:
    """Raise InputError where labels of the two splits mean different classes."""
    if train.classes != test.classes:
        differ = other_classes(train.classes, test.classes, train.split, test.split)
        raise InputError(
            f"{train.place} and {test.place}: expected the same classes, found {differ}"
        )


def _written(config: Config, source: Source) -> Manifest:
    return ingest_to(
        source,
        _beton(config, source),
        max_resolution=config.data.max_resolution,
        max_bad=config.data.max_bad,
    )


def _sources(config: Config) -> tuple[Source, Source]:
    return train_and_test(config.data, task_of(config.model.arch).labelled)


def _beton(config: Config, source: Source) -> Path | Uri:
    return data_dir(config) / _name(config, source.split)


def _published(config: Config, splits: Sequence[str]) -> Manifest | None:
    """What `_listed` finds, staged to this node."""
    listed = _listed(config, splits)
    if listed is None or listed.origin is None:
        return None
    logger.info("%s is read as it is; %s is not looked at", listed.origin, config.data.source)
    return staged(listed.origin)


def _listed(config: Config, splits: Sequence[str]) -> Manifest | None:
    """The first of these splits that is in the store of betons, for who does not see the source.

    None where the source is on this machine, which the betons are then held to, or has no beton.
    """
    folder, source = data_dir(config), config.data.source
    known = source in (DIGITS, FASHION_MNIST, PHOTOGRAPHS)
    here = not is_uri(source) and (known or any(iglob(source, recursive=True)))
    if not isinstance(folder, Uri) or here:
        return None
    for split in splits:
        uri = folder / _name(config, split)
        manifest = published(uri)
        if manifest is not None:
            wanted = config.data.max_resolution
            if (found := manifest.options.get("max_resolution")) != wanted:
                raise InputError(
                    f"{uri}: expected a beton made with data.max_resolution {wanted}, found "
                    f"{found}; set it to that, or make the beton anew in another data.dir"
                )
            return manifest
    return None


def _name(config: Config, split: str) -> str:
    source = config.data.source
    place = parse_uri(source) if is_uri(source) else Path(source)
    stem = re.sub(r"[*?\[\]]", "_", Path(place.name).stem)  # of a pattern
    tiles = "" if config.data.tile is None else f"-{config.data.tile}"
    return f"{stem}{tiles}-{split}.beton"
