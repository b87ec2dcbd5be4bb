"""Reading pictures: this project's loader, FFCV's own, torchvision's ImageFolder."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from jobs.bench.interleaved import Figure, Measure, compare, summary, throughput
from jobs.bench.options import Options
from jobs.bench.pictures import digits, photographs, small
from jobs.bench.readers import READERS, Epoch, Pictures, Reader, augmented, ours
from jobs.bench.record import Record
from pipeline.data.ffcv import Reader as Beton
from pipeline.data.ingest.ingest import ingest
from pipeline.data.sources.base import Source
from pipeline.data.threads import torch_threads

LARGEST = 500  # longer side of most of ImageNet's pictures
STORED: dict[str, dict[str, Any]] = {
    "400 pixels, quality 90": {"max_resolution": 400, "quality": 90},
    "500 pixels, quality 90": {"max_resolution": 500, "quality": 90},
    "400 pixels, quality 75": {"max_resolution": 400, "quality": 75},
    "320 pixels, quality 90": {"max_resolution": 320, "quality": 90},
    "400 pixels, raw": {"max_resolution": 400, "write_mode": "raw"},
}

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
    """Images per second in whole epochs, by how pictures are stored, and a first batch's wait.

    Random crops of 224 pixels from made JPEGs of at most 400, or from those of `options.source`,
    by one thread and by two; made pictures of 32x32 and the digits of 8x8, shifted at random, by
    two. All are read from memory: what a disk takes is not in it.
    """
    records: list[Record] = []
    with tempfile.TemporaryDirectory() as folder:
        sets = list(_sets(Path(folder), options))
        for pictures in sets:
            photographs = pictures.recipe == "imagenet"
            for threads in (1, 2) if photographs else (2,):
                more = {"ours, recipe paper": augmented} if photographs else {}
                by = replace(pictures, threads=threads)
                records += _epochs(f"loader {pictures.name}", by, READERS | more, options)
        records += stored_records(Path(folder), options)
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


def _epochs(
    group: str, pictures: Pictures, readers: Mapping[str, Reader], options: Options
) -> list[Record]:
    threads = f"{pictures.threads} thread{'s' * (pictures.threads > 1)}"
    measures = {name: _epoch(reader(pictures), options) for name, reader in readers.items()}
    group = f"{group}, {threads}"
    # Augmentation goes by torch's threads, which decode nothing.
    with torch_threads(pictures.threads):
        return compare(group, measures, against="torchvision", runs=options.runs)


def _epoch(epoch: Epoch, options: Options) -> Measure:
    seconds = 0.0 if options.quick else 1.0
    return throughput(partial(_read, epoch), _read(epoch), seconds=seconds)


def stored_records(folder: Path, options: Options) -> list[Record]:
    """The same photographs stored in several ways: bytes of each, and our loader by one thread."""
    count, batch_size = (16, 16) if options.quick else (512, 64)
    source = photographs(folder / "large", count, LARGEST, source=options.source)
    group, measures, sizes = "loader stored", {}, {}
    for name, how in STORED.items():
        beton = ingest(source, folder / f"{name}.beton", **how).beton
        # Of FFCV's pages, which are 8 MiB, most of a small file is empty.
        sizes[name] = Beton(str(beton)).alloc_table["size"].sum() / count / 1000
        pictures = Pictures(name, "imagenet", 224, beton, folder, batch_size, threads=1)
        measures[name] = _epoch(ours(pictures), options)
    records = [summary(f"{group} {name}", "kB/image", [size]) for name, size in sizes.items()]
    timed = compare(group, measures, against=next(iter(STORED)), runs=options.runs)
    return records + [
        replace(each, name=f"{each.name} read") if each.unit == "images/s" else each
        for each in timed
    ]


def _read(epoch: Epoch) -> int:
    """Images in an epoch."""
    return sum(len(images) for images in epoch())


def _first_batches(pictures: Pictures, folder: Path, options: Options) -> list[Record]:
    """With numba's cache, and without."""
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
