"""The pictures below class folders: each once, under one class, and none left out in silence.

And what other sources say of the files that they do not use.
"""

import logging
import os
from collections import Counter
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path

from PIL import Image

from dsnet.errors import InputError
from dsnet.runtime.pictures import FORMATS

logger = logging.getLogger(__name__)

# Left by desktops and archivers; these and hidden ones (.DS_Store, .ipynb_checkpoints) pass
# without a word, files and folders alike.
DESKTOP_FILES = frozenset(("thumbs.db", "desktop.ini", "__macosx"))
PACKED = frozenset((".csv", ".parquet", ".tar"))  # kinds of files that are sources of their own


@cache
def picture_suffixes() -> frozenset[str]:
    """How the names of pictures end, in lower case: of FORMATS, those that Pillow here knows."""
    formats = Image.registered_extensions()
    wanted = {*FORMATS, "MPO"}  # several JPEGs in a file, opened as JPEG
    floating = {".pfm"}  # pixels that are no whole numbers
    return frozenset(s for s, name in formats.items() if name in wanted) - floating


def class_pictures(
    source: Path, beside: Counter[str] | None = None
) -> tuple[dict[str, list[str]], dict[str, int]]:
    """The paths of the pictures in each folder of `source`, by the folders' names, both sorted; and
    how many other files were come by, by kind.

    beside: what else is not used, to be counted with them.

    Links are followed. Only those to a folder that lead back are not, and a warning names them:
    back to `source` or a folder around it, to a class folder or into one, or to a folder that was
    read before. So each folder is read once and for one class.
    Files of other kinds, sockets, pipes and devices are not opened; one warning counts them.

    Raises InputError if a class has no picture, a link leads nowhere, a folder cannot be read, or
    two classes share a folder.
    """
    walk = _Walk(source, beside)
    found = {folder.name: walk.pictures(folder) for folder in walk.folders}
    walk.report()
    if not any(found.values()):
        loose = len(walk.loose)
        raise InputError(
            f"source {source}: expected one folder of pictures per class, found "
            + (f"{loose} pictures in no class folder" if loose else "no picture at all")
            + (f", but {walk.packed}: give the folder that holds it" if walk.packed else "")
        )
    for name, pictures in found.items():
        if not pictures:
            raise InputError(
                f"class folder {source / name}: expected at least one picture, found none; add "
                "some or remove the folder"
            )
    return found, dict(walk.unused().most_common())


def all_pictures(
    source: Path, beside: Counter[str] | None = None
) -> tuple[list[str], dict[str, int]]:
    """The paths of every picture below `source`, sorted; and how many files below it are none.

    By the rules of `class_pictures`, with its `beside`, as if `source` were the only class. Raises
    InputError as it does, and where there is no picture at all.
    """
    walk = _Walk(source, beside, classes=False)
    found = walk.pictures(source)
    walk.report()
    if not found:
        raise InputError(f"source {source}: expected pictures, found none in it or below it")
    return found, dict(walk.unused().most_common())


def warn_of_unused(source: object, unused: Counter[str]) -> None:
    """Say how many files of a source are not used, by kind, where there are any."""
    if unused:
        logger.warning(
            "source %s: %d files are not used: %s", source, unused.total(), in_words(unused)
        )


def in_words(unused: Counter[str]) -> str:
    """`3 .txt, 1 .heic`."""
    return listed([f"{count} {kind}" for kind, count in unused.most_common()])


def others_in(folder: Path, known: Collection[str]) -> Counter[str]:
    """What lies in a folder beside the files whose names are known, by kind."""
    return Counter(
        "folders" if child.is_dir() else kind_of_file(child.name)
        for child in folder.iterdir()
        if child.name not in known and not is_passed_over(child.name)
    )


def is_passed_over(name: str) -> bool:
    """Whether a file or folder of that name is hidden, or one that desktops and archivers leave."""
    return name.startswith(".") or name.lower() in DESKTOP_FILES


def kind_of_file(name: str) -> str:
    """How files that are not used are counted: `.txt`."""
    return os.path.splitext(name)[1].lower() or "without a suffix"


def listed(names: Sequence[str], most: int = 10) -> str:
    """The names, or the first of many and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class _Walk:
    """One pass over a source, and what it comes by."""

    def __init__(
        self, source: Path, beside: Counter[str] | None = None, classes: bool = True
    ) -> None:
        """classes: whether the folders in `source` are classes; else it is the only one."""
        self._source = source
        self._unused: Counter[str] = Counter()
        self._unused.update(beside or {})
        self._nowhere: list[str] = []
        self._back: list[str] = []
        self._read: dict[tuple[int, int], Path] = {}  # device and inode of a folder: its class
        self.loose: list[str] = []
        self.packed = ""  # the first file deeper down that is a source of its own
        self.folders = [source]
        root = _real(source)
        self._classes: set[Path] = set()
        self._around = {root, *root.parents}
        if classes:
            self._find_classes(source, root)

    def _find_classes(self, source: Path, root: Path) -> None:
        self.folders = [Path(path) for path in self._scan(source, self.loose)]
        classes: dict[Path, Path] = {}
        for folder in self.folders:
            real = _real(folder)
            if real == root or real in root.parents:
                raise InputError(
                    f"class folder {folder}: expected a folder of pictures, found a link to "
                    f"{real}, around all classes; remove the link"
                )
            _refuse_shared(folder, classes.setdefault(real, folder))
        for real, folder in classes.items():
            for parent in real.parents:
                _refuse_shared(folder, classes.get(parent, folder))
        self._classes = set(classes)
        self._around = self._around.union(*(real.parents for real in classes))

    def pictures(self, folder: Path) -> list[str]:
        """Every picture of a class folder."""
        found: list[str] = []
        pending = [str(folder)]
        while pending:
            path = pending.pop()
            status = os.stat(path)
            reader = self._read.get((status.st_dev, status.st_ino))
            if path != str(folder) and os.path.islink(path) and self._leads_back(path):
                self._back.append(path)
            elif reader is None:
                self._read[status.st_dev, status.st_ino] = folder
                pending += self._scan(path, found)
            else:
                _refuse_shared(folder, reader)
                self._back.append(path)
        return sorted(found)

    def report(self) -> None:
        """Say what was not used. Raises InputError if a link leads nowhere."""
        if self._nowhere:
            raise InputError(
                f"source {self._source}: expected links to pictures and folders, found "
                f"{len(self._nowhere)} to what is not there: {listed(self._nowhere)}; mend or "
                "remove them"
            )
        if self._back:
            logger.warning(
                "source %s: not followed, since they lead back: %s",
                self._source,
                listed(self._back),
            )
        if self.folders:
            warn_of_unused(self._source, self.unused())

    def unused(self) -> Counter[str]:
        """Files that are no class's pictures, by kind."""
        return self._unused + Counter({"pictures in no class folder": len(self.loose)})

    def _scan(self, folder: Path | str, pictures: list[str]) -> list[str]:
        """The paths of a folder's folders, sorted; its pictures are appended to `pictures`."""
        folders = []
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(
                f"{folder}: expected a folder that can be read, found {error.strerror}"
            ) from error
        for entry in entries:
            if is_passed_over(entry.name):
                continue
            kind = kind_of_file(entry.name)
            if entry.is_symlink() and not os.path.exists(entry.path):
                self._nowhere.append(entry.path)
            elif entry.is_dir():
                folders.append(entry.path)
            elif not entry.is_file():
                self._unused["no regular files"] += 1
            elif kind in picture_suffixes():
                pictures.append(entry.path)
            else:
                self._unused[kind] += 1
                if kind in PACKED and Path(folder) != self._source:
                    self.packed = self.packed or entry.path
        return folders

    def _leads_back(self, link: str) -> bool:
        real = _real(link)
        return real in self._around or not self._classes.isdisjoint([real, *real.parents])


def _real(path: Path | str) -> Path:
    return Path(os.path.realpath(path))


def _refuse_shared(folder: Path, other: Path) -> None:
    if folder != other:
        raise InputError(
            f"class folders {other} and {folder}: expected pictures of their own, found links by "
            "which they share a folder; remove one"
        )
