"""Reading pictures: this project's loader, FFCV's own, and torchvision's ImageFolder."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

from jobs.bench.interleaved import Figure, Measure, compare, throughput
from jobs.bench.options import Options
from jobs.bench.pictures import digits, photographs, small
from jobs.bench.readers import READERS, Epoch, Pictures
from jobs.bench.record import Record
from pipeline.data.ingest import ingest
from pipeline.data.sources.base import Source

# A process that reads one batch, and prints how long it waited for it, imports included. It leaves
# at once: at its end FFCV waits for a thread that waits for the epoch to be read.
FIRST_BATCH = """
import json, os, sys, time
from pathlib import Path
from jobs.bench.readers import READERS, Pictures
fields = json.loads(sys.argv[2])
fields |= {key: Path(fields[key]) for key in ("beton", "folder")}
start = time.perf_counter()
next(READERS[sys.argv[1]](Pictures(**fields))())
print(time.perf_counter() - start, flush=True)
os._exit(0)
"""


def bench(options: Options) -> list[Record]:
    """Images per second in whole epochs, then the wait of a new process for its first batch.

    Random crops of 224 pixels from made JPEGs of at most 400, or from those of `options.source`;
    made pictures of 32x32 and the digits of 8x8, shifted at random.
    """
    records: list[Record] = []
    with tempfile.TemporaryDirectory() as folder:
        sets = list(_sets(Path(folder), options))
        for pictures in sets:
            records += _epochs(pictures, options)
        records += _first_batches(sets[0], Path(folder), options)
    return records


def _sets(folder: Path, options: Options) -> Iterator[Pictures]:
    def made(name: str, recipe: str, side: int, write: Callable[[Path, int], Source]) -> Pictures:
        count, batch_size = (64, 16) if options.quick else (1024, 64)
        source = write(folder / name, count)
        beton = ingest(source, folder / f"{name}.beton").beton
        return Pictures(name, recipe, side, beton, folder / name, batch_size)

    yield made(
        "photographs", "imagenet", 224, lambda to, n: photographs(to, n, source=options.source)
    )
    yield made("32x32", "cifar", 32, lambda to, n: small(to, n, 32))
    yield made("digits", "digits", 8, digits)


def _epochs(pictures: Pictures, options: Options) -> list[Record]:
    seconds = 0.0 if options.quick else 1.0
    measures = {}
    for name, reader in READERS.items():
        epoch = reader(pictures)
        measures[name] = throughput(partial(_read, epoch), _read(epoch), seconds=seconds)
    return compare(f"loader {pictures.name}", measures, against="torchvision", runs=options.runs)


def _read(epoch: Epoch) -> int:
    """Images in an epoch."""
    return sum(len(images) for images in epoch())


def _first_batches(pictures: Pictures, folder: Path, options: Options) -> list[Record]:
    """With what numba compiled before at hand, and without."""
    kept = folder / "compiled"
    _first_batch("ours", pictures, kept)()
    measures = {
        "ours, never compiled": _first_batch("ours", pictures, None),
        "ours": _first_batch("ours", pictures, kept),
        "FFCV": _first_batch("FFCV", pictures, None),
        "torchvision": _first_batch("torchvision", pictures, None),
    }
    return compare("loader first batch", measures, against="FFCV", runs=options.runs, warmups=0)


def _first_batch(reader: str, pictures: Pictures, kept: Path | None) -> Measure:
    """Seconds in a new process. kept: where numba keeps what it compiled; None: it has nothing."""

    def measure() -> list[Figure]:
        with tempfile.TemporaryDirectory() as empty:
            wait = subprocess.run(
                [
                    sys.executable,
                    "-c",
                    FIRST_BATCH,
                    reader,
                    json.dumps(asdict(pictures), default=str),
                ],
                env={**os.environ, "NUMBA_CACHE_DIR": str(kept or empty)},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
        return [Figure(float(wait.stdout), "s")]

    return measure
