"""Many image files classified in bounded memory: decoded by threads ahead of the network."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from dsnet.errors import InputError
from dsnet.runtime.answers import classified
from pipeline.cluster.progress import Progress
from pipeline.predict.files import read_input

if TYPE_CHECKING:
    from dsnet.pyfunc import Runner
    from dsnet.routing.target import Target

Row = dict[str, Any]
"""What the model says of one image: path, label, class, confidence, width, madds."""

BATCH = 64  # images per forward: enough to share the work, little enough to hold in memory
BATCH_BYTES = 2**25  # of pixels, where the resolution is high
AHEAD = 3  # batches that are decoded before they are asked for
THREADS = 4  # that decode; large pictures wait for each other


def predict(
    runner: "Runner",
    paths: Sequence[str],
    budget: "Target | str | None" = None,
    top_k: int = 1,
    passed_over: Callable[[str], object] | None = None,
) -> Iterator[list[Row]]:
    """Classify image files: rows in the files' order, a batch at a time.

    budget: average multiply-adds to spend; None: as the model was tuned. top_k: with more than 1,
    rows have labels, classes and confidences too, the likeliest first. passed_over: told what is
    wrong with each file that is not an image; without, the first raises InputError.
    Raises InputError, before any file is read, for a budget or top_k out of range and for a model
    that does not classify.
    """
    answer = _answers(runner, budget, top_k)
    side, crop = runner.metadata["resolution"], runner.metadata["crop"]
    answer([], np.zeros((0, side, side, 3), np.uint8))
    return _batches(paths, side, crop, answer, passed_over)


def _answers(
    runner: "Runner", budget: "Target | str | None", top_k: int
) -> Callable[[list[str], np.ndarray], list[Row]]:
    if runner.task != "classification":
        raise InputError(f"expected a model that classifies, found one for {runner.task}")
    classes = runner.metadata["classes"]

    def answer(paths: list[str], pixels: np.ndarray) -> list[Row]:
        columns = classified(*runner(pixels, budget), classes, top_k)
        columns = {"path": [_text(path) for path in paths], **columns}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    return answer


def _batches(
    paths: Sequence[str],
    side: int,
    crop: float,
    answer: Callable[[list[str], np.ndarray], list[Row]],
    passed_over: Callable[[str], object] | None,
) -> Iterator[list[Row]]:
    batch = max(1, min(BATCH, BATCH_BYTES // (3 * side**2)))
    waiting: deque[tuple[str, Future[np.ndarray]]] = deque()
    pending = iter(paths)
    done = 0
    pool = ThreadPoolExecutor(min(THREADS, (os.cpu_count() or 1) + 1), "decode")
    try:
        with Progress("predict", len(paths), "images") as progress:
            while True:
                for path in islice(pending, (1 + AHEAD) * batch - len(waiting)):
                    waiting.append((path, pool.submit(read_input, path, side, crop)))
                if not waiting:
                    break
                names, pixels = [], []
                for path, future in [waiting.popleft() for _ in range(min(batch, len(waiting)))]:
                    done += 1
                    try:
                        pixels.append(future.result())
                        names.append(path)
                    except InputError as error:
                        if passed_over is None:
                            raise
                        passed_over(str(error))
                if names:
                    yield answer(names, np.stack(pixels))
                progress.update(done)
    finally:
        # Without waiting: see `pipeline.data.ingest.encode.by_threads`.
        pool.shutdown(wait=False, cancel_futures=True)


def _text(path: str) -> str:
    r"""A path as text that every file can hold: bytes that are not UTF-8 as `\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
