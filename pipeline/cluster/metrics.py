"""What a training is at, for Prometheus: through Ray's agent on the driver's node.

Ray collects what any of its processes records, each node's agent gives it to whoever scrapes the
node, and forgets it half a minute after its process recorded it last. A driver hears all that is
measured anywhere (`pipeline.training.worker_group`), so it alone records. Where nothing collects
it, recording takes some microseconds and comes to nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ray.util.metrics import Gauge

PREFIX = "ray_"
"""What Ray puts before every name."""
TAGS = ("name", "stage", "run_id")
"""Of every metric: the configuration's name, the stage, and the MLflow run of that."""


@dataclass(frozen=True)
class Metric:
    """A gauge by the name that it is recorded under."""

    name: str
    text: str
    tags: tuple[str, ...] = ()
    """Beside TAGS."""


STEPS_DONE = Metric("dsnet_training_steps_done", "Steps of the stage that are done.")
STEPS_PLANNED = Metric("dsnet_training_steps_planned", "Steps of the stage in all.")
IMAGES_PER_SECOND = Metric(
    "dsnet_training_images_per_second", "Of all workers, since the epoch began."
)
DATA_WAIT_RATIO = Metric(
    "dsnet_training_data_wait_ratio",
    "Share of its time that the first worker waits for data, since the epoch began.",
)
LEARNING_RATE = Metric("dsnet_training_learning_rate", "Of the newest step.")
LOSS = Metric("dsnet_training_loss", "Mean of a loss since the epoch began.", ("loss",))
GPU_MEMORY_BYTES = Metric(
    "dsnet_training_gpu_memory_bytes", "In use, by whomever, of a GPU.", ("node", "gpu")
)

METRICS = (
    STEPS_DONE,
    STEPS_PLANNED,
    IMAGES_PER_SECOND,
    DATA_WAIT_RATIO,
    LEARNING_RATE,
    LOSS,
    GPU_MEMORY_BYTES,
)

_FIGURES = {
    "images_per_second": IMAGES_PER_SECOND,
    "share_waiting_for_data": DATA_WAIT_RATIO,
    "lr": LEARNING_RATE,
}
"""By what workers call them; every other figure of theirs is a loss."""
_GPU = re.compile(r"gpu_(\d+)_memory_usage_megabytes")


class StageMetrics:
    """The metrics of one stage."""

    def __init__(self, name: str, stage: str) -> None:
        """name: the configuration's."""
        self._tags = {"name": name, "stage": stage}
        self._gauges = {
            metric: Gauge(metric.name, metric.text, (*TAGS, *metric.tags)) for metric in METRICS
        }

    def record(
        self,
        run_id: str | None,
        progress: tuple[int, int],
        figures: Mapping[str, float],
        usage: Mapping[int, Mapping[str, float]],
    ) -> None:
        """Record where the stage is.

        progress: steps done and planned. figures: losses by name, and those of `_FIGURES`. usage:
        by node, figures of `pipeline.training.usage`.
        """
        self._tags["run_id"] = run_id or ""
        done, planned = progress
        self._set(STEPS_DONE, done)
        self._set(STEPS_PLANNED, planned)
        for name, value in figures.items():
            if name in _FIGURES:
                self._set(_FIGURES[name], value)
            else:
                self._set(LOSS, value, loss=name)
        for node, in_use in usage.items():
            for name, value in in_use.items():
                if gpu := _GPU.fullmatch(name):
                    self._set(GPU_MEMORY_BYTES, value * 1e6, node=str(node), gpu=gpu[1])

    def _set(self, metric: Metric, value: float, **tags: str) -> None:
        self._gauges[metric].set(value, {**self._tags, **tags})
