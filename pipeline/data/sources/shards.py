"""The files that hold a split, where a source is several files of one kind."""

import re
from collections.abc import Callable, Sequence
from glob import has_magic, iglob
from itertools import chain
from pathlib import Path

from pipeline.data.sources.base import SPLIT_NAMES, refuse_other_split, unknown_split


def found(
    spec: str, suffix: str, split: str, is_one: Callable[[Path], bool] = lambda path: True
) -> list[Path]:
    """The files of a split, sorted; none where `spec` is not of this kind.

    spec: a file, a folder of them or of a folder for each split, or a pattern with *, ? or [].
    suffix: that the files' names end in, such as ".parquet". is_one: of a folder's files with that
    suffix, which are meant; a folder of class folders may have a list of something in it, or the
    archive that it came in.

    Of several, those of a split have its name among the words of theirs: train-00000-of-00005,
    photos_train_17. Where none has such a word all are "train". A single file is "train", or what
    it is called. Raises InputError where there is no such split.
    """
    path = Path(spec)
    if path.is_file():
        if path.suffix != suffix:
            return []
        refuse_other_split(spec, path.stem, split)
        return [path]
    if path.is_dir():
        own, files = (
            sorted(filter(is_one, folder.glob(f"*{suffix}"))) for folder in (path / split, path)
        )
        return own or _of_split(spec, files, split)
    if has_magic(spec):
        matching = (Path(name) for name in iglob(spec, recursive=True))
        return _of_split(spec, sorted(p for p in matching if p.suffix == suffix), split)
    return []


def _of_split(spec: str, files: Sequence[Path], split: str) -> list[Path]:
    words = {path: re.split(r"[-_.]", path.stem) for path in files}
    if own := [path for path in files if split in words[path]]:
        return own
    splits = sorted(SPLIT_NAMES.intersection(chain.from_iterable(words.values())))
    if files and (splits or split != "train"):
        raise unknown_split(spec, splits or ["train"], split)
    return list(files)
