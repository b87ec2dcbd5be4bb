"""What a chain takes on a number of GPUs, part by part, and what that costs.

Steps, images and multiply-adds are `dsnet plan`'s; here is what changes with the number of workers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from dsnet import DSNet
from dsnet.training.distributed import buckets_of
from jobs.bench.scaling.all_reduce import Link, exposed, ring
from jobs.bench.scaling.assumptions import Assumptions
from pipeline.config import Config, config_from_dict
from pipeline.runner.estimate import speed as speeds
from pipeline.runner.estimate.sizes import Sizes
from pipeline.runner.estimate.speed import Speed
from pipeline.runner.estimate.storage import checkpoint_bytes
from pipeline.runner.estimate.work import BACKWARD, GATE, Work, of_bootstrap, of_chain

FLOP = 2  # of a multiply-add
VERSIONS = 3
DRIVER = "on the driver alone"
READERS = 2  # of an epoch: of training and of held-out images
HOUR = 3600.0


@dataclass(frozen=True)
class Measured:
    """What is known of the work, counted or measured where this runs."""

    operators: int
    """Of PyTorch, in a step."""
    picture_s: float
    """CPU seconds of the loader for one picture."""
    first_batch_s: float
    """From the beginning of an epoch to its first batch."""
    snapshot_s: float
    """That steps wait for a checkpoint, which is then written beside them."""


@dataclass(frozen=True)
class Step:
    """One step of stage I on every GPU, in seconds."""

    compute: float
    pictures: float
    """Until the loader's cores have a batch, while the one before is computed."""
    all_reduce: float
    """If nothing hid it."""
    exposed: float
    """What no overlap hides."""

    @property
    def seconds(self) -> float:
        """Of the whole step."""
        return max(self.compute, self.pictures) + self.exposed


@dataclass(frozen=True)
class OnGpus:
    """A chain on so many GPUs."""

    gpus: int
    batch: int
    """Images of a GPU in a step."""
    steps: int
    """Of an epoch of stage I."""
    step: Step
    parts: dict[str, float]
    """Seconds during which all GPUs are held, by what they are spent on."""

    @property
    def seconds(self) -> float:
        """All of it."""
        return sum(self.parts.values())

    @property
    def gpu_hours(self) -> float:
        """Held, whatever they do."""
        return self.gpus * self.seconds / HOUR

    @property
    def without_driver(self) -> float:
        """Seconds, had what the driver does alone been left to a run of its own."""
        return sum(each for name, each in self.parts.items() if not name.endswith(DRIVER))


@dataclass(frozen=True)
class Chain:
    """A chain before it is on any GPUs."""

    config: Config
    model: DSNet
    sizes: Sizes
    by_table: bool
    measured: Measured
    assumed: Assumptions
    collective: Callable[[float, int, Link], float] = ring
    """How gradients are reduced."""

    def on(self, gpus: int, batch: int | None = None) -> OnGpus:
        """A worker for each GPU. batch: of each in stage I; None: the configuration's."""
        config = _with(self.config, gpus, batch)
        work = {
            each.stage: each for each in of_chain(config, self.model, self.sizes, self.by_table)
        }
        batch = config.supernet.batch_size
        link = self.assumed.link(gpus)
        step = self.step(gpus, batch, link)
        rate = of_bootstrap(config, self.model) * batch * config.supernet.accumulate
        # What is evaluated or tabulated goes forward at what a whole batch reaches.
        forward = gpus * self.madds_per_second()
        speed = Speed(gpus * rate / step.compute, forward, "", False)
        supernet = work["supernet"]
        alone = replace(supernet, evaluated=0, evaluated_madds=0)
        compute = speeds.seconds(alone, speed)
        parts = {
            "stage I: passes": compute,
            "stage I: waiting for pictures": compute * max(0.0, step.pictures / step.compute - 1),
            "stage I: exposed all-reduce": supernet.steps * step.exposed,
            "stage I: evaluations": speeds.seconds(supernet, speed) - compute,
        }
        epochs = config.supernet.epochs
        busy = sum(parts.values()) / epochs
        parts["stage I: ends of epochs"] = epochs * self.end_of_epoch(gpus, link, busy)
        for name, each in work.items():
            if name != "supernet":
                parts[_title(each)] = speeds.seconds(each, speed)
        parts["starts, registration, end"] = (
            speeds.WORKERS_S + speeds.FIRST_BATCH_S + VERSIONS * speeds.VERSION_S + speeds.LEAVE_S
        )
        return OnGpus(gpus, batch, supernet.steps // epochs, step, parts)

    def step(self, gpus: int, batch: int, link: Link) -> Step:
        """One step of the optimizer at a batch of so many images on each GPU."""
        section, cluster = self.config.supernet, self.config.cluster
        compute = self.pass_seconds(batch) * section.accumulate
        pictures = batch * section.accumulate * self.measured.picture_s / cluster.threads
        seconds = [self.collective(size, gpus, link) for size in self.buckets]
        hidden_by = self.share_of_last_backward() * compute / section.accumulate
        return Step(compute, pictures, sum(seconds), exposed(seconds, hidden_by))

    def pass_seconds(self, batch: int) -> float:
        """What one GPU computes for a batch: as its multiply-adds say, or as its operators do."""
        least = self.measured.operators * self.assumed.launch_us / 1e6
        return max(batch * of_bootstrap(self.config, self.model) / self.madds_per_second(), least)

    def madds_per_second(self) -> float:
        """Of a GPU."""
        if self.assumed.step_ms is None:
            return 1e12 * self.assumed.tflops * self.assumed.utilisation / FLOP
        work = self.config.supernet.batch_size * of_bootstrap(self.config, self.model)
        return work / (self.assumed.step_ms / 1000)

    def share_of_last_backward(self) -> float:
        """Of a batch's multiply-adds, those during which gradients are sent."""
        last = self.model.space.largest
        if self.config.supernet.bootstrap == "distill":
            last = self.model.space[0]
        return BACKWARD * self.model.madds(last) / of_bootstrap(self.config, self.model)

    @property
    def buckets(self) -> list[int]:
        """Bytes that `GradientReducer` sends at a time, in their order."""
        heads = {id(parameter) for parameter in self.model.slimming_parameters()}
        learning = [p for p in self.model.parameters() if id(p) not in heads]
        return [sum(p.nbytes for p in bucket) for bucket in buckets_of(learning)]

    @property
    def statistics(self) -> int:
        """Bytes of the statistics of student and teacher, which workers average once an epoch."""
        return 2 * sum(buffer.nbytes for buffer in self.model.buffers())

    def end_of_epoch(self, gpus: int, link: Link, busy: float) -> float:
        """Statistics averaged, loaders begun anew, a checkpoint: what steps wait for.

        busy: seconds of the rest of an epoch, in which the checkpoint before is written.
        """
        agreed = self.collective(self.statistics, gpus, link)
        writing = checkpoint_bytes(self.config, self.model) / (1e9 * self.assumed.storage_gbytes)
        saved = self.measured.snapshot_s + max(0.0, writing - busy)
        begun = READERS * self.measured.first_batch_s
        return agreed + begun + saved / self.config.supernet.checkpoint_every


def last_that_pays(chains: Sequence[OnGpus], saves: float = 0.25) -> int:
    """The most GPUs, of counts that double, to which doubling still saved a share of the time."""
    best = chains[0].gpus
    for before, after in pairwise(chains):
        if after.seconds > (1 - saves) * before.seconds:
            break
        best = after.gpus
    return best


def _title(work: Work) -> str:
    """What the table of a chain calls a stage's time."""
    return f"{work.stage}, {DRIVER}" if work.kind == GATE else work.stage


def _with(config: Config, gpus: int, batch: int | None) -> Config:
    """The configuration with a worker for each GPU, and a batch of that size on each."""
    values = config.as_dict()
    values["cluster"] |= {"workers": gpus}
    values["supernet"] |= {"batch_size": batch or config.supernet.batch_size}
    return config_from_dict(values)
