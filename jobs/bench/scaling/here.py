"""What can be measured without a GPU: the loader, the start of an epoch, a checkpoint."""

import copy
import tempfile
import time
from pathlib import Path

import torch

from dsnet import DSNet
from dsnet.training import make_teacher
from jobs.bench.interleaved import Figure, Measure, throughput
from jobs.bench.options import Options
from jobs.bench.pictures import photographs
from jobs.bench.readers import Pictures, ours
from jobs.bench.scaling.workers import learning
from pipeline.config import Config
from pipeline.data.ingest.ingest import ingest
from pipeline.training.optimization import make_optimizer
from pipeline.training.state import Training

RECIPE, LONGEST, SIDE, BATCH = "imagenet", 400, 224, 64
FIRST_BATCH, SNAPSHOT, WRITING, SIZE = "first batch", "snapshot", "writing", "size"


def reading(folder: Path, options: Options) -> dict[str, Measure]:
    """Of pictures of 224 pixels cropped from JPEGs of at most 400, by one thread, from memory."""
    count, batch = (32, 16) if options.quick else (512, BATCH)
    source = photographs(folder / "pictures", count, LONGEST, source=options.source)
    beton = ingest(source, folder / "pictures.beton", max_resolution=LONGEST).beton
    epoch = ours(Pictures("", RECIPE, SIDE, beton, folder, folder, batch, threads=1))

    def read() -> int:
        return sum(len(images) for images in epoch())

    def first() -> list[Figure]:
        start = time.perf_counter()
        batches = epoch()
        next(batches)
        seconds = time.perf_counter() - start
        for _ in batches:  # an epoch that is left early leaves its thread behind
            pass
        return [Figure(1000 * seconds, "ms")]

    return {"loader": throughput(read, read()), FIRST_BATCH: first}


def saving(config: Config, model: DSNet) -> Measure:
    """A checkpoint of stage I as its loop makes them: copied, then written; and its bytes."""
    student = learning(copy.deepcopy(model))
    learns = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = make_optimizer(learns, config.supernet)
    for parameter in learns:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # from here on it has its moments
    state = Training(make_teacher(student), optimizer, student)

    def measure() -> list[Figure]:
        start = time.perf_counter()
        write = state.snapshot()
        copied = time.perf_counter()
        with tempfile.TemporaryDirectory() as name:
            write(Path(name))
            written = time.perf_counter()
            size = sum(path.stat().st_size for path in Path(name).rglob("*") if path.is_file())
        return [
            Figure(1000 * (copied - start), "ms", SNAPSHOT),
            Figure(1000 * (written - copied), "ms", WRITING),
            Figure(size, "bytes", SIZE),
        ]

    return measure
