"""Labels and the names of their classes, held to bounds before they are believed.

A number in a source is no size of anything until then: a label of ten digits is a line of text.
"""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dsnet.errors import InputError
from dsnet.errors.text import shown
from dsnet.models.architecture import MOST_CLASSES
from dsnet.models.metadata import check_classes
from pipeline.data.sources.walk import listed

logger = logging.getLogger(__name__)

FILE = "classes.txt"
MOST_BYTES = 2**24  # a million names
# Of numbers without names the largest is below the first, or so many times the number of different
# ones: a part of a large data set may lack most of its classes.
SPARSE, SPARSE_TIMES = 10_000, 10
_WHOLE = re.compile("0|-?[1-9][0-9]*")  # as numbers are written: 007 is a name
_DIGITS = 18  # that int64 holds


def names_in(folder: Path) -> tuple[str, ...]:
    """The lines of classes.txt in a folder: label 0's name first; none where there is no such file.

    Raises InputError for one that is too large, is no text, or has an empty or a repeated name.
    """
    path = folder / FILE
    if not path.is_file():
        return ()
    if (size := path.stat().st_size) > MOST_BYTES:
        raise InputError(f"{path}: expected up to {MOST_BYTES:,} bytes, found {size:,}")
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected text in UTF-8, found other bytes ({error})") from error
    if not all(names):
        raise InputError(f"{path}: expected a class name in every line, found an empty line")
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"{path}: expected every name once, found twice: {listed(repeated)}")
    return tuple(names)


def named(
    values: list[str], folder: Path, source: str, split: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels, int64 (samples,), and classes from each picture's label as text.

    Whole numbers are labels: classes.txt in `folder` has their names, or else the numbers are the
    names. Other texts are names: classes.txt gives their order, or else they are sorted.
    Raises InputError, naming `source`, for a label that classes.txt lacks, and as `checked`,
    `numbered` and `counted` do.
    """
    names, distinct = names_in(folder), set(values)
    if all(_WHOLE.fullmatch(value) for value in distinct):
        longest = max(distinct, key=len)
        if len(longest) > _DIGITS:
            raise _too_large(source, split, shown(longest), len(distinct))
        numbers = np.array([int(value) for value in values], np.int64)
        return numbered(numbers, names, source, split)
    names = names or tuple(sorted(distinct))
    if unknown := sorted(distinct - set(names)):
        raise InputError(
            f"source {source}: expected the classes in {folder / FILE}, found others: "
            f"{listed([shown(name)[1:-1] for name in unknown])}"
        )
    label = {name: number for number, name in enumerate(checked(names, f"source {source}"))}
    return counted(np.array([label[value] for value in values], np.int64), names, source, split)


def numbered(
    labels: np.ndarray, names: tuple[str, ...], source: str, split: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels, int64 (samples,), and classes from each picture's label as a number.

    labels: whole numbers of any type, one or more. names: of all classes; () where they have none
    but their numbers. The numbers of classes without names are bounded before there is a list of
    them: they are dates or identifiers else, which would make millions of classes without pictures.
    Raises InputError for a label that is no class's, and as `checked` does.
    """
    least, largest = int(labels.min()), int(labels.max())
    if least < 0:
        raise InputError(
            f"source {source}, split {split}: expected labels from 0, found {least}, which stands "
            f"for no label, in {int((labels < 0).sum()):,} of {len(labels):,} rows; leave these "
            "out, or name another split (data.test_split, --split)"
        )
    if names and largest >= len(names):
        raise InputError(
            f"source {source}: expected labels from 0 to {len(names) - 1}, as there are names "
            f"({FILE}, or in the files), found {largest}"
        )
    if not names:
        distinct = len(np.unique(labels))
        if largest >= min(max(SPARSE, SPARSE_TIMES * distinct), MOST_CLASSES):
            raise _too_large(source, split, f"{largest}", distinct)
        names = tuple(str(label) for label in range(largest + 1))
    return counted(labels.astype(np.int64), checked(names, f"source {source}"), source, split)


def counted(
    labels: np.ndarray, names: tuple[str, ...], source: str, split: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The same, after a warning where there are classes without a picture."""
    empty = np.flatnonzero(np.bincount(labels, minlength=len(names)) == 0)
    if len(empty):
        logger.warning(
            "%s %s: %d of %d classes have no picture: %s",
            source,
            split,
            len(empty),
            len(names),
            listed([names[label] for label in empty]),
        )
    return labels, names


def checked(names: Sequence[object], where: str) -> tuple[str, ...]:
    """Names of classes: texts within bounds, on one line each.

    Raises InputError, naming `where`, for others; a name of a folder may be no text at all.
    """
    check_classes(f"{where}: class names", names)
    return tuple(str(name) for name in names)


def _too_large(source: str, split: str, largest: str, distinct: int) -> InputError:
    return InputError(
        f"source {source}, split {split}: expected labels that number the classes from 0, found "
        f"{distinct:,} different ones up to {largest}; number them from 0, or write names instead"
    )
