"""Pictures as a beton will hold them: decoded, checked, shrunk and encoded, on all cores here."""

import os
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from dsnet.errors import InputError
from pipeline.data.beton_format import LONGEST_SIDE, PAGE_SIZE
from pipeline.data.ffcv import RGBImageField
from pipeline.data.sources.base import Sample, Source

# "smart" stores pictures of up to 64x64 pixels as they are: JPEG would lose detail and gain little.
SMART_THRESHOLD = 64 * 64 * 3


@dataclass(frozen=True)
class Encoded:
    """A picture as the beton will hold it."""

    path: str
    label: int
    header: np.ndarray  # FFCV's record of mode, width, height and address (the last yet unknown)
    data: np.ndarray  # uint8, raw pixels or JPEG
    mean: np.ndarray  # (3,), in 0..1
    square_mean: np.ndarray  # (3,), mean of the squares


@dataclass(frozen=True)
class Encoder:
    """The pictures of a source, encoded by the options of `ingest`."""

    source: Source
    max_resolution: int | None
    quality: int
    write_mode: str

    @cached_property
    def field(self) -> RGBImageField:
        """FFCV's, which encodes."""
        return RGBImageField(
            self.write_mode, smart_threshold=SMART_THRESHOLD, jpeg_quality=self.quality
        )

    def __call__(self, index: int) -> Encoded | InputError:
        """One picture, or why it cannot be used. Raises InputError for a label that is no class."""
        try:
            sample = self.source[index]
        except InputError as error:
            return error
        if not 0 <= sample.label < len(self.source.classes):
            raise InputError(
                f"{sample.path}: expected a label from 0 to {len(self.source.classes) - 1}, found "
                f"{sample.label}"
            )
        try:
            return self._stored(sample)
        except InputError as error:
            return error

    def _stored(self, sample: Sample) -> Encoded:
        image = shrink(sample.pixels(enough=self.max_resolution), self.max_resolution)
        height, width = image.shape[:2]
        if max(height, width) > LONGEST_SIDE:
            raise InputError(
                f"{sample.path}: expected sides of at most {LONGEST_SIDE} pixels, found "
                f"{width}x{height}; set max_resolution"
            )
        header = np.zeros(1, self.field.metadata_type)
        stored = np.empty(0, np.uint8)

        def malloc(size: int) -> tuple[int, np.ndarray]:
            nonlocal stored
            stored = np.empty(size, np.uint8)
            return 0, stored

        self.field.encode(header, image, malloc)
        if stored.nbytes > PAGE_SIZE:
            raise InputError(
                f"{sample.path}: expected at most {PAGE_SIZE} bytes once encoded, found "
                f"{stored.nbytes}; set max_resolution"
            )
        mean, std = cv2.meanStdDev(image)
        mean, std = mean[:, 0] / 255, std[:, 0] / 255
        return Encoded(sample.path, sample.label, header, stored, mean, std**2 + mean**2)


def shrink(image: np.ndarray, max_resolution: int | None) -> np.ndarray:
    """`image`, uint8 (H, W, 3), with its longer side at most `max_resolution` pixels."""
    height, width = image.shape[:2]
    longer = max(height, width)
    if max_resolution is None or longer <= max_resolution:
        return image
    # Whole numbers: FFCV's own resizer rounds 0.999... down and makes sides of no pixel at all.
    size = (max(1, width * max_resolution // longer), max(1, height * max_resolution // longer))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def by_threads(
    encoder: Encoder, threads: int | None
) -> Generator[Encoded | InputError, None, None]:
    """Every picture, encoded, in order, or why one cannot be used.

    threads: by default one per core. They suffice: Pillow and OpenCV release the GIL.
    """
    threads = threads or len(os.sched_getaffinity(0))
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ingest")
    pending: deque[Future[Encoded | InputError]] = deque()
    try:
        for index in range(len(encoder.source)):
            pending.append(pool.submit(encoder, index))
            if len(pending) > 4 * threads:  # bounds the memory
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        # Without waiting: what was given up is closed by the garbage collector, in any thread and
        # under any lock, and to join a thread wants one that another thread's start holds.
        pool.shutdown(wait=False, cancel_futures=True)
