"""Pictures encoded and written in FFCV's file format, in order, from this process."""

import logging
import math
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from dsnet.errors import InputError
from dsnet.files import room
from dsnet.runtime.pictures import read_picture
from pipeline.cluster.progress import Progress
from pipeline.data.bad_pictures import BadPictures
from pipeline.data.ffcv import DatasetWriter, IntField, MemoryAllocator, RGBImageField
from pipeline.data.headers import LONGEST_SIDE, PAGE_SIZE
from pipeline.data.sources.base import Sample, Source
from pipeline.data.walk import listed

logger = logging.getLogger(__name__)

# "smart" stores pictures of up to 64x64 pixels as they are: JPEG would lose detail and gain little.
SMART_THRESHOLD = 64 * 64 * 3


def write(
    source: Source,
    temporary: Path,
    folder: Path,
    bad: BadPictures,
    *,
    max_resolution: int | None,
    quality: int,
    write_mode: str,
    workers: int | None,
) -> dict[str, Any]:
    """Write every picture of `source` that can be used to `temporary`, which will lie in `folder`.

    bad: takes note of the others. Returns what a manifest has of the pictures. Options and errors:
    see `ingest`.
    """
    field = RGBImageField(write_mode, smart_threshold=SMART_THRESHOLD, jpeg_quality=quality)
    threads = workers or len(os.sched_getaffinity(0))
    writer = _Writer(temporary, field, len(source), len(source.classes))
    progress = Progress(f"ingest {source.split}", total=len(source), unit="images")
    with room(folder, writer.bytes_in_all), progress, writer:
        for number, picture in enumerate(_encoded(source, field, max_resolution, threads), start=1):
            if isinstance(picture, InputError):
                bad.add(picture)
            else:
                writer.add(picture)
            progress.update(number)
    if bad.count:
        writer.tell_emptied(source)
    return writer.statistics()


@dataclass(frozen=True)
class _Encoded:
    """A picture as the beton will hold it."""

    path: str
    label: int
    header: np.ndarray  # FFCV's record of mode, width, height and address (the last yet unknown)
    data: np.ndarray  # uint8, raw pixels or JPEG
    mean: np.ndarray  # (3,), in 0..1
    square_mean: np.ndarray  # (3,), mean of the squares


def _encode(
    source: Source, index: int, field: RGBImageField, max_resolution: int | None
) -> _Encoded | InputError:
    """One picture, or why it cannot be used. Raises InputError for a label that is no class."""
    try:
        sample = source[index]
    except InputError as error:
        return error
    if not 0 <= sample.label < len(source.classes):
        raise InputError(
            f"{sample.path}: expected a label from 0 to {len(source.classes) - 1}, found "
            f"{sample.label}"
        )
    try:
        return _stored(sample, field, max_resolution)
    except InputError as error:
        return error


def _stored(sample: Sample, field: RGBImageField, max_resolution: int | None) -> _Encoded:
    image = sample.image
    if isinstance(image, bytes):
        image = read_picture(image, sample.path)
    image = shrink(image, max_resolution)
    height, width = image.shape[:2]
    if max(height, width) > LONGEST_SIDE:
        raise InputError(
            f"{sample.path}: expected sides of at most {LONGEST_SIDE} pixels, found "
            f"{width}x{height}; set max_resolution"
        )
    header = np.zeros(1, field.metadata_type)
    stored = np.empty(0, np.uint8)

    def malloc(size: int) -> tuple[int, np.ndarray]:
        nonlocal stored
        stored = np.empty(size, np.uint8)
        return 0, stored

    field.encode(header, image, malloc)
    if stored.nbytes > PAGE_SIZE:
        raise InputError(
            f"{sample.path}: expected at most {PAGE_SIZE} bytes once encoded, found "
            f"{stored.nbytes}; set max_resolution"
        )
    mean, std = cv2.meanStdDev(image)
    mean, std = mean[:, 0] / 255, std[:, 0] / 255
    return _Encoded(sample.path, sample.label, header, stored, mean, std**2 + mean**2)


def shrink(image: np.ndarray, max_resolution: int | None) -> np.ndarray:
    """`image`, uint8 (H, W, 3), with its longer side at most `max_resolution` pixels."""
    height, width = image.shape[:2]
    longer = max(height, width)
    if max_resolution is None or longer <= max_resolution:
        return image
    # Whole numbers: FFCV's own resizer rounds 0.999... down and makes sides of no pixel at all.
    size = (max(1, width * max_resolution // longer), max(1, height * max_resolution // longer))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _encoded(
    source: Source, field: RGBImageField, max_resolution: int | None, threads: int
) -> Iterator[_Encoded | InputError]:
    """Every picture, encoded, in order, or why one cannot be used.

    Threads suffice: Pillow and OpenCV release the GIL.
    """

    def work(index: int) -> _Encoded | InputError:
        return _encode(source, index, field, max_resolution)

    pool = ThreadPoolExecutor(threads, thread_name_prefix="ingest")
    pending: deque[Future[_Encoded | InputError]] = deque()
    try:
        for index in range(len(source)):
            pending.append(pool.submit(work, index))
            if len(pending) > 4 * threads:  # bounds the memory
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


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

    def add(self, picture: _Encoded) -> None:
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
