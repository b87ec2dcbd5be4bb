"""The files that hold a split, where a source is several of one kind, and what lies beside them."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from glob import has_magic, iglob
from itertools import chain
from pathlib import Path

from pipeline.data.sources.base import SPLIT_NAMES, refuse_other_split, unknown_split
from pipeline.data.sources.class_names import FILE
from pipeline.data.sources.walk import is_passed_over, kind_of_file


def found(
    spec: str, suffix: str, split: str, is_one: Callable[[Path], bool] = lambda path: True
) -> list[Path]:
    """The files of a split, sorted; none where `spec` is not of this kind.

    spec: a file, a folder of them or of a folder for each split, or a pattern with *, ? or []. The
    files may lie one folder deeper where that is the only one, as `data` is at Hugging Face.
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
        if not own and not files and (inner := _only_folder(path)) is not None:
            files = sorted(filter(is_one, inner.glob(f"*{suffix}")))
        return own or _of_split(spec, files, split)
    if has_magic(spec):
        matching = (Path(name) for name in iglob(spec, recursive=True))
        return _of_split(spec, sorted(p for p in matching if p.suffix == suffix), split)
    return []


def _of_split(spec: str, files: Sequence[Path], split: str) -> list[Path]:
    words = {path: _words(path) for path in files}
    if own := [path for path in files if split in words[path]]:
        return own
    splits = sorted(SPLIT_NAMES.intersection(chain.from_iterable(words.values())))
    if files and (splits or split != "train"):
        raise unknown_split(spec, splits or ["train"], split)
    return list(files)


def _words(path: Path) -> list[str]:
    return re.split(r"[-_.]", path.stem)


def _only_folder(path: Path) -> Path | None:
    """The folder in `path`, where there is one alone and it is none of a split."""
    folders = [
        child for child in path.iterdir() if child.is_dir() and not is_passed_over(child.name)
    ]
    return folders[0] if len(folders) == 1 and folders[0].name not in SPLIT_NAMES else None


def beside(spec: str, used: Sequence[Path]) -> Counter[str]:
    """What lies in a folder with the files that are used and is of no split of the source, by kind.

    spec: beside a file, or what matches a pattern, nothing is asked for.
    """
    unused: Counter[str] = Counter()
    if not Path(spec).is_dir():
        return unused
    folders = {path.parent for path in used} | {Path(spec)}
    known = {*used, *folders, *(folder / FILE for folder in folders)}
    suffixes = {path.suffix for path in used}
    for child in chain.from_iterable(folder.iterdir() for folder in folders):
        of_another_split = child.suffix in suffixes and SPLIT_NAMES.intersection(_words(child))
        if child in known or is_passed_over(child.name) or child.name in SPLIT_NAMES:
            continue
        if child.is_dir():
            unused["folders"] += 1
        elif not of_another_split:
            unused[kind_of_file(child.name)] += 1
    return unused
