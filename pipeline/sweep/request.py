"""What a sweep is asked for, and what its report says of that."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from dsnet import DSNet
from dsnet.routing.target import Target
from pipeline.config import Config
from pipeline.report import STATIC, About, Results, Row
from pipeline.runner.job import Job
from pipeline.runner.sanity import Labels, Point, not_learned, warnings_of
from pipeline.stages import table, table_gate
from pipeline.store.code_version import code_version
from pipeline.store.fingerprint import PICTURES, Spec
from pipeline.store.registry import Version

SPEC = Spec(
    "sweep",
    revision=1,
    fields=(*PICTURES, "model.routes", "gate", "table", "sweep"),
    unread=(
        "gate.supernet",
        "gate.checkpoint_steps",
        "gate.checkpoint_minutes",
        "table.batch_size",
        "sweep.cpus_per_trial",
        "gate.look",  # `sweep.look` says what is tried
    ),
)


def with_target(config: Config, target: Target | None) -> Config:
    """`config` with another target, or none."""
    return config.model_copy(update={"gate": config.gate.model_copy(update={"target": target})})


@dataclass(frozen=True)
class SweepRequest:
    """A gate for every target, on one supernet."""

    job: Job
    supernet: Version
    model: DSNet
    """The supernet's network, with the routes that its gates may choose."""
    targets: tuple[Target, ...]
    command: str
    """What makes these results again."""

    @cached_property
    def key(self) -> str:
        """The sweep's fingerprint."""
        gates = f"{table_gate.SPEC.name} {table_gate.SPEC.revision}"
        tables = self.job.fingerprint(table.SPEC, [self.supernet])
        return self.job.fingerprint(SPEC, [self.supernet], gates, tables, *map(str, self.targets))

    @cached_property
    def madds(self) -> list[int]:
        """Multiply-adds of each route, at the resolution of the data."""
        return [self.model.madds(route) for route in self.model.space.routes]

    @cached_property
    def labels(self) -> Labels | None:
        """How many images of each class there are; None for a task without classes."""
        return Labels.of(self.job.dataset, self.model.task)

    def doubts(self, results: Results) -> list[str]:
        """What gives reason to doubt them, a sentence each."""
        static, gated = _points(results.of_kind(STATIC)), _points(results.chosen)
        return warnings_of(static, gated, results.headline, self.images, self.labels)

    def unlearned(self, results: Results) -> dict[Target, str | None]:
        """For each target that has a gate, why that did not learn; None where it did."""
        static, gated = _points(results.of_kind(STATIC)), results.chosen
        return {
            target: not_learned(static, _points(own), results.headline, self.labels)
            for target in self.targets
            if (own := [row for row in gated if row.target == str(target)])
        }

    @property
    def images(self) -> int:
        """Number of test images."""
        return self.job.dataset.test.samples

    @property
    def routes(self) -> list[str]:
        """A name for each route: its width's place in the supernet."""
        return [f"width {route}" for route in self.model.space.routes]

    def about(self, seconds: float) -> About:
        """The report's facts about a sweep that took so long."""
        job = self.job
        return About(
            task=self.model.task.name,
            name=job.config.name,
            supernet=self.supernet.uri,
            arch=self.model.architecture.name,
            source=job.config.data.source,
            dataset=job.dataset.digest,
            images=job.dataset.test.samples,
            resolution=job.config.data.resolution,
            paths=tuple(self.routes),
            madds=tuple(self.madds),
            command=self.command,
            code=code_version(),
            created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            seconds=seconds,
        )


def _points(rows: Sequence[Row]) -> list[Point]:
    return [
        Point(
            row.label,
            row.value or 0.0,
            row.value_stderr or 0.0,
            row.madds or 0.0,
            row.target_madds,
        )
        for row in rows
    ]
