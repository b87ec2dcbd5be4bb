"""Which pictures a chain trains on, and which it is tested on: never the same ones."""

import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np

from dsnet.errors import InputError
from pipeline.config import Data
from pipeline.data.sources import open_source
from pipeline.data.sources.base import Source, UnknownSplit, other_classes
from pipeline.data.sources.derived import Relabeled, Subset
from pipeline.data.sources.tiles import Tiles
from pipeline.data.sources.walk import listed
from pipeline.data.split import held_out

logger = logging.getLogger(__name__)

TEST_SPLITS = ("test", "val", "valid", "validation")  # the first that a source has is tested on


def train_and_test(data: Data, labelled: bool = True) -> tuple[Source, Source]:
    """The source of the training pictures and that of the test pictures, with the same classes.

    labelled: whether a folder must have a folder for each class. Where data.tile says so, both are
    cut into tiles.
    Raises InputError for a source that is not as expected, classes that differ, and pictures that
    would be both trained and tested on.
    """
    train = open_source(data.source, data.train_split, labelled)
    test = _own_test(data, labelled)
    if test is None:
        train, test = _parts(train, data.test_share)
        return _cut(train, data), _cut(test, data)
    if train.name == test.name and train.fingerprint() == test.fingerprint():
        raise InputError(
            f"source {train.name}: expected other pictures to test on (split {test.split}) than to "
            f"train on (split {train.split}), found the same; give it another name than "
            f"{test.split} and leave data.test_split out, and a share of them is held out"
        )
    return _cut(train, data), _cut(_alike(test, train), data)


def evaluated_on(data: Data, labelled: bool = True) -> Source:
    """The source of the test pictures, the same ones as `train_and_test` gives; errors as there.

    Where it is a split of its own, the source need not have one to train on.
    """
    test = _own_test(data, labelled)
    if test is None:
        train = open_source(data.source, data.train_split, labelled)
        _, test = _parts(train, data.test_share)
    return _cut(test, data)


def _cut(source: Source, data: Data) -> Source:
    """In tiles, where they are asked for: whole pictures are held out, not tiles of all."""
    return source if data.tile is None else Tiles(source, data.tile)


def _own_test(data: Data, labelled: bool) -> Source | None:
    """The test split of the source's own, where it has one."""
    if data.test_split is not None:
        return open_source(data.source, data.test_split, labelled)
    for split in TEST_SPLITS:
        try:
            test = open_source(data.source, split, labelled)
        except UnknownSplit:
            continue
        if split != TEST_SPLITS[0]:
            logger.info(
                "%s has no split %s: tested on is %s (%s pictures), or what data.test_split names",
                data.source,
                TEST_SPLITS[0],
                split,
                f"{len(test):,}",
            )
        return test
    return None


def _parts(source: Source, share: float) -> tuple[Source, Source]:
    """The source without its held-out share, and that share."""
    labels = source.labels()
    train, test = held_out(labels, share)
    if not len(test):
        raise InputError(
            f"source {source.name}: expected a class with at least two pictures, of which one can "
            f"be held out to test on, found {len(labels)} pictures of {len(source.classes)} "
            "classes; add pictures, or folders train and test of your own"
        )
    logger.info(
        "%s: %s of %s pictures are held out to test on (data.test_share %g); folders train and "
        "test of your own would be used instead",
        source.name,
        f"{len(test):,}",
        f"{len(labels):,}",
        share,
    )
    part = Subset(source, TEST_SPLITS[0], test)
    present = set(np.unique(part.labels()).tolist())
    _warn_of_missing(
        part, [name for label, name in enumerate(source.classes) if label not in present]
    )
    return Subset(source, source.split, train), part


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
    _warn_of_missing(test, [name for name in train.classes if name not in names])
    return Relabeled(test, train.classes)


def _warn_of_missing(test: Source, missing: Sequence[str]) -> None:
    if missing:
        logger.warning(
            "%s %s: no picture of %s, of which nothing can be said",
            test.name,
            test.split,
            listed(missing),
        )
