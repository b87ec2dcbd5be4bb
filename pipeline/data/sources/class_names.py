"""The names of labels that are numbers, in a file beside the pictures."""

from collections import Counter
from pathlib import Path

import numpy as np

from dsnet.errors import InputError
from pipeline.data.walk import listed

FILE = "classes.txt"
MOST_BYTES = 2**24  # a million names


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


def named(values: list[str], folder: Path, source: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels, int64 (samples,), and classes from each picture's label as text.

    Whole numbers are labels: classes.txt in `folder` has their names, or else the numbers are the
    names. Other texts are names: classes.txt gives their order, or else they are sorted.
    Raises InputError, naming `source`, for a label that classes.txt lacks.
    """
    names, distinct = names_in(folder), set(values)
    if all(value.isascii() and value.isdigit() and str(int(value)) == value for value in distinct):
        numbers = np.array([int(value) for value in values], np.int64)
        names = names or tuple(str(label) for label in range(int(numbers.max()) + 1))
        if numbers.max() >= len(names):
            raise InputError(
                f"source {source}: expected labels from 0 to {len(names) - 1}, as {FILE} has "
                f"names, found {numbers.max()}"
            )
        return numbers, names
    names = names or tuple(sorted(distinct))
    if unknown := sorted(distinct - set(names)):
        raise InputError(
            f"source {source}: expected the classes in {folder / FILE}, found others: "
            f"{listed(unknown)}"
        )
    label = {name: number for number, name in enumerate(names)}
    return np.array([label[value] for value in values], np.int64), names
