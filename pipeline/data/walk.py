"""The pictures below class folders: each once, under one class, and none left out in silence."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image

from dsnet.errors import InputError
from dsnet.runtime.pictures import FORMATS

logger = logging.getLogger(__name__)

# Left by desktops and archivers; these and hidden ones (.DS_Store, .ipynb_checkpoints) pass
# without a word, files and folders alike.
DESKTOP_FILES = frozenset(("thumbs.db", "desktop.ini", "__macosx"))


@cache
def picture_suffixes() -> frozenset[str]:
    """How the names of pictures end, in lower case: of FORMATS, those that Pillow here knows."""
    formats = Image.registered_extensions()
    wanted = {*FORMATS, "MPO"}  # several JPEGs in a file, opened as JPEG
    floating = {".pfm"}  # pixels that are no whole numbers
    return frozenset(s for s, name in formats.items() if name in wanted) - floating


def class_pictures(source: Path) -> tuple[dict[str, list[str]], dict[str, int]]:
    """The paths of the pictures in each folder of `source`, by the folders' names, both sorted; and
    how many other files were come by, by kind.

    Links are followed. Only those to a folder that lead back are not, and a warning names them:
    back to `source` or a folder around it, to a class folder or into one, or to a folder that was
    read before. So each folder is read once and for one class.
    Files of other kinds, sockets, pipes and devices are not opened; one warning counts them.

    Raises InputError if a class has no picture, a link leads nowhere, a folder cannot be read, or
    two classes share a folder.
    """
    walk = _Walk(source)
    found = {folder.name: walk.pictures(folder) for folder in walk.folders}
    walk.report()
    if not any(found.values()):
        loose = len(walk.loose)
        raise InputError(
            f"source {source}: expected one folder of pictures per class, found "
            + (f"{loose} pictures in no class folder" if loose else "no picture at all")
        )
    for name, pictures in found.items():
        if not pictures:
            raise InputError(
                f"class folder {source / name}: expected at least one picture, found none; add "
                "some or remove the folder"
            )
    return found, dict(walk.unused().most_common())


def all_pictures(source: Path) -> tuple[list[str], dict[str, int]]:
    """The paths of every picture below `source`, sorted; and how many files below it are none.

    By the rules of `class_pictures`, as if `source` were the only class. Raises InputError as it
    does, and where there is no picture at all.
    """
    walk = _Walk(source, classes=False)
    found = walk.pictures(source)
    walk.report()
    if not found:
        raise InputError(f"source {source}: expected pictures, found none in it or below it")
    return found, dict(walk.unused().most_common())


def listed(names: Sequence[str], most: int = 10) -> str:
    """The names, or the first of many and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class _Walk:
    """One pass over a source, and what it comes by."""

    def __init__(self, source: Path, classes: bool = True) -> None:
        """classes: whether the folders in `source` are classes; else it is the only one."""
        self._source = source
        self._unused: Counter[str] = Counter()
        self._nowhere: list[str] = []
        self._back: list[str] = []
        self._read: dict[tuple[int, int], Path] = {}  # device and inode of a folder: its class
        self.loose: list[str] = []
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
        unused = self.unused()
        if unused and self.folders:
            kinds = [f"{count} {kind}" for kind, count in unused.most_common()]
            total = unused.total()
            logger.warning(
                "source %s: %d files are not used: %s", self._source, total, listed(kinds)
            )

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
            suffix = os.path.splitext(entry.name)[1].lower()
            if entry.name.startswith(".") or entry.name.lower() in DESKTOP_FILES:
                continue
            if entry.is_symlink() and not os.path.exists(entry.path):
                self._nowhere.append(entry.path)
            elif entry.is_dir():
                folders.append(entry.path)
            elif not entry.is_file():
                self._unused["no regular files"] += 1
            elif suffix in picture_suffixes():
                pictures.append(entry.path)
            else:
                self._unused[suffix or "without a suffix"] += 1
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
