"""Encoded pictures written in FFCV's file format, in order, from this process."""

import logging
import math
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from dsnet.errors import InputError
from dsnet.io.files import room
from pipeline.cluster.progress import Progress
from pipeline.data.beton_format import PAGE_SIZE
from pipeline.data.ffcv import DatasetWriter, IntField, MemoryAllocator, RGBImageField
from pipeline.data.ingest.bad_pictures import BadPictures
from pipeline.data.ingest.encode import Encoded
from pipeline.data.sources.base import Source
from pipeline.data.sources.walk import listed

logger = logging.getLogger(__name__)


def write(
    source: Source,
    encoded: Iterable[Encoded | InputError],
    field: RGBImageField,
    temporary: Path,
    folder: Path,
    bad: BadPictures,
) -> dict[str, Any]:
    """Write every picture of `source` that can be used to `temporary`, which will lie in `folder`.

    encoded: all of them, in order, or why one cannot be used; `bad` takes note of those. field:
    FFCV's, which encoded them. Returns what a manifest has of the pictures. Errors: see `ingest`.
    """
    writer = _Writer(temporary, field, len(source), len(source.classes))
    progress = Progress(f"ingest {source.split}", total=len(source), unit="images")
    with room(folder, writer.bytes_in_all), progress, writer:
        for number, picture in enumerate(encoded, start=1):
            if isinstance(picture, InputError):
                bad.add(picture)
            else:
                writer.add(picture)
            progress.update(number)
    if bad.count:
        writer.tell_emptied(source)
    return writer.statistics()


class _Writer:
    """FFCV's file format, written from this process, in order.

    FFCV's own `from_indexed_dataset` waits for ever when one of its processes fails, and its
    processes write pages in whatever order they finish, so no two files are alike.
    """

    def __init__(self, path: Path, field: RGBImageField, samples: int, classes: int) -> None:
        fields = {"image": field, "label": IntField()}
        self._file = DatasetWriter(str(path), fields, page_size=PAGE_SIZE)
        self._file.num_samples = samples
        self._done = self._bytes = 0
        self._counts = np.zeros(classes, np.int64)
        self._sums = np.zeros((2, 3))
        self._max_height = self._max_width = 0

    def __enter__(self) -> None:
        self._file.prepare()
        # FFCV shares the headers between processes, in a file system that containers keep small
        # and that outlives a killed process. One process writes here: an array does.
        self._file.metadata_sm.close()
        self._file.metadata_sm.unlink()
        self._headers = np.zeros(self._file.num_samples, self._file.metadata_type)
        self._file.metadata_sm = SimpleNamespace(buf=self._headers)
        self._allocator = MemoryAllocator(
            self._file.fname, self._file.data_region_start, self._file.page_size
        )
        self._allocator.__enter__()
        # FFCV's own file is not buffered, and does not notice that a write was cut short: of a disk
        # that has room for half a page.
        self._allocator.fp.close()
        self._allocator.fp = open(self._file.fname, "ab")

    def add(self, picture: Encoded) -> None:
        """Append a picture."""
        self._allocator.set_current_sample(self._done)
        address, memory = self._allocator.malloc(picture.data.nbytes)
        memory[:] = picture.data
        header = self._headers[self._done]
        header["f0"] = picture.header[0]
        header["f0"]["data_ptr"] = address
        header["f1"] = picture.label
        self._counts[picture.label] += 1
        self._sums += picture.mean, picture.square_mean
        self._max_height = max(self._max_height, int(picture.header[0]["height"]))
        self._max_width = max(self._max_width, int(picture.header[0]["width"]))
        self._bytes += picture.data.nbytes
        self._done += 1

    def tell_emptied(self, source: Source) -> None:
        """Warn of classes that have no picture here."""
        empty = [source.classes[label] for label in np.flatnonzero(self._counts == 0)]
        if empty:
            logger.warning(
                "%s %s: no picture is left of %s", source.name, source.split, listed(empty)
            )

    def bytes_in_all(self) -> int:
        """About how many bytes the whole file has, judging by the pictures so far."""
        data = self._bytes * self._file.num_samples / max(self._done, 1)
        return math.ceil(data / self._file.page_size + 1) * int(self._file.page_size)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._allocator.__exit__(None, None, None)
        if kind is None:
            # Of pictures that were left out there is no record; their room stays empty.
            self._file.header["num_samples"] = self._done
            self._file.metadata_sm.buf = self._headers[: self._done]
            self._file.finalize(self._allocator.allocations)

    def statistics(self) -> dict[str, Any]:
        """The manifest's fields that come from the pictures."""
        mean, square_mean = self._sums / self._done
        return {
            "samples": self._done,
            "class_counts": tuple(self._counts.tolist()),
            "mean": tuple(mean.tolist()),
            "std": tuple(np.sqrt(np.maximum(square_mean - mean**2, 0)).tolist()),
            "max_height": self._max_height,
            "max_width": self._max_width,
        }
