"""A short calibration: real steps of stage I and of evaluation, on random pixels, in this process.

No data, no Ray, no file. As many copies run at once as workers share this machine would be truer
and slower; one is measured, and taken times the workers that this machine has cores for.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from dsnet import DSNet
from dsnet.training import make_teacher, not_finite, update_teacher
from pipeline.config import Config
from pipeline.data.threads import torch_threads
from pipeline.runner.estimate.speed import IMPORTS_S, Speed
from pipeline.runner.estimate.work import every_width, of_bootstrap, widths_drawn
from pipeline.stages.supernet import learners, make_step
from pipeline.training.evaluation import evaluate
from pipeline.training.optimization import make_optimizer, take_step

SECONDS = 4.0
"""That stage I, and then evaluation, are looked at."""


def calibrated(config: Config, model: DSNet, *, briefly: bool = False) -> Speed:
    """The speed of this machine's workers at the configuration's resolution and batch size.

    briefly: in a few seconds, without a look at how long imports take here.
    """
    length = SECONDS / 4 if briefly else SECONDS
    gpu = config.cluster.gpus_per_worker > 0 and torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    threads = config.cluster.threads
    with torch_threads(threads):
        train = config.supernet.batch_size / _per_call(
            stage_one(config, model, device), device, length
        )
        batch = config.evaluate.batch_size
        forward = batch / _per_call(_evaluation(config, model, device), device, length)
    at_once = min(config.cluster.max_workers, _room(config, gpu))
    slowness = 1.0 if briefly else _imports(at_once) / IMPORTS_S
    where = torch.cuda.get_device_name() if gpu else f"{threads} thread(s) of this machine's CPU"
    return Speed(
        at_once * train * of_bootstrap(config, model),
        at_once * forward * every_width(model),
        f"measured here: {train:,.1f} images/s in stage I, {forward:,.1f} at every width, for one "
        f"worker on {where}; taken {at_once} times",
        True,
        slowness,
    )


def _room(config: Config, gpu: bool) -> int:
    """How many workers this machine runs at once."""
    if gpu:
        return max(1, int(torch.cuda.device_count() / config.cluster.gpus_per_worker))
    cores = len(os.sched_getaffinity(0))
    return max(1, cores // config.cluster.threads)


def _imports(at_once: int) -> float:
    """Seconds that so many interpreters take to import all that a worker does, all at once."""
    began = time.perf_counter()
    words = [sys.executable, "-c", "import pipeline.stages.supernet, pipeline.training.ray_worker"]
    started = [subprocess.Popen(words) for _ in range(at_once)]
    if sum(process.wait() != 0 for process in started):
        raise RuntimeError("a worker's modules do not import here")
    return time.perf_counter() - began


def stage_one(config: Config, model: DSNet, device: torch.device) -> Callable[[], object]:
    """A step of stage I as its workers take it, on random pixels."""
    section = config.supernet
    student = model.to(device).to(memory_format=torch.channels_last).train()
    learning = learners(section, student)
    teacher = make_teacher(student)
    optimizer = make_optimizer(learning, section, student.head)
    bootstrap = make_step(section, student, teacher, device)
    inputs, targets = _batch(config, model, section.batch_size, device)
    drawn = widths_drawn(config, student)
    widths = [i * len(student.space) // (drawn + 1) for i in range(1, drawn + 1)]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        bootstrap(inputs, targets, widths)
        skip = not_finite([p.grad for p in learning if p.grad is not None])
        take_step(optimizer, skip)
        update_teacher(teacher, student, section.ema, skip)

    return step


def _evaluation(config: Config, model: DSNet, device: torch.device) -> Callable[[], object]:
    model.eval()
    batch = _batch(config, model, config.evaluate.batch_size, device)
    return lambda: evaluate(model, [batch], routed=False)


def _batch(
    config: Config, model: DSNet, size: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    side = config.data.resolution
    pixels = torch.randn(size, 3, side, side, device=device)
    classes = model.architecture.num_classes
    labels = torch.arange(size, device=device) % (classes or 1)
    pixels = pixels.to(memory_format=torch.channels_last)
    return model.task.pair(pixels, labels, torch.arange(size, device=device))


def _per_call(call: Callable[[], object], device: torch.device, length: float) -> float:
    """Seconds of one call, after the first: the mean over `length` s, three calls at least."""
    call()
    _wait(device)
    began, calls = time.perf_counter(), 0
    while calls < 3 or time.perf_counter() - began < length:
        call()
        calls += 1
    _wait(device)
    return (time.perf_counter() - began) / calls


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
