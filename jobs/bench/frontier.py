"""What dynamic widths are worth beside static ones: in the task's measure and in time, over seeds.

For each seed a supernet is trained and gates are swept over eight targets, as `dsnet sweep` does;
what is registered under NAME-SEED already is found again, so that an interrupted benchmark goes on.
Gates are held to what is as dear on average: the best static width or mixture of two, their own
shares of routes given to images by lot, a plain cascade of separately run widths, and the oracle.

The time is that of the first seed's exported network on its test images, by ONNX Runtime on one
thread: CPU time over that of its own static widths, interpolated to the multiply-adds that the
images had. What is saved in multiply-adds is saved in time where that is 1. Over the time of what
ran of each width, by the multiply-adds of it, it says what routing costs, and no longer how much
more a slim width's multiply-adds take than a wide one's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsnet.errors import InputError
from dsnet.routing.target import Target, parse_target
from jobs.bench import frontier_plot
from jobs.bench.frontier_time import times
from jobs.bench.gate_accuracy import MADDS, scale, unit
from jobs.bench.gate_setting import quick
from jobs.bench.interleaved import summary
from jobs.bench.options import Options
from jobs.bench.record import Record
from pipeline.config import Config, config_from_dict
from pipeline.report import STATIC, Results
from pipeline.report.page import gain
from pipeline.runner.job import local
from pipeline.sweep.run import SweepResult, sweep

TARGETS = (0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.85)


@dataclass(frozen=True)
class Seeded:
    """One seed's sweep."""

    config: Config
    found: SweepResult

    @property
    def results(self) -> Results:
        """Its rows."""
        return self.found.results

    @property
    def model(self) -> Path:
        """The directory of the version with all targets' gates."""
        return local(self.config, self.found.versions[0])


def bench(options: Options) -> list[Record]:
    """The headline and its gains over seeds; CPU milliseconds per image, and their ratios."""
    config = quick(options.config) if options.quick else options.config
    if config.gate.method != "table":
        raise InputError(
            f"gate.method: expected table, of which a frontier is made, found {config.gate.method}"
        )
    targets = [parse_target(target) for target in (TARGETS[3:4] if options.quick else TARGETS)]
    seeded = list(_sweeps(config, targets, 1 if options.quick else options.seeds))
    title = f"frontier of {config.name}"
    first = seeded[0]
    return values(title, [each.results for each in seeded]) + times(
        title, first.model, first.config, targets, options
    )


def draw(records: Sequence[Record], path: Path) -> None:
    """Draw the headline against multiply-adds and against time, for light pages and dark ones."""
    frontier_plot.draw(records, path)


def _sweeps(config: Config, targets: Sequence[Target], seeds: int) -> Iterator[Seeded]:
    for seed in range(config.seed, config.seed + seeds):
        changed = {"seed": seed, "name": f"{config.name}-{seed}"}
        one = config_from_dict(config.as_dict() | changed)
        yield Seeded(one, sweep(one, targets, "dsnet bench frontier"))


def values(title: str, swept: Sequence[Results]) -> list[Record]:
    """The headline of every static width and gate over the seeds, and what gates gain."""
    first, headline = swept[0], swept[0].headline
    records = []
    for number, name in enumerate(row.label for row in first.of_kind(STATIC)):
        rows = [results.of_kind(STATIC)[number] for results in swept]
        reached = [scale(headline) * (row.value or 0.0) for row in rows]
        records.append(summary(f"{title}: {name} {headline.title}", unit(headline), reached))
        records.append(summary(f"{title}: {name} MAdds", MADDS, [rows[0].madds or 0.0]))
    for number, target in enumerate(row.target for row in first.chosen):
        rows, name = [results.chosen[number] for results in swept], f"{title}: target {target}"
        reached = [scale(headline) * (row.value or 0.0) for row in rows]
        records.append(summary(f"{name} {headline.title}", unit(headline), reached))
        records.append(summary(f"{name} MAdds", MADDS, [row.madds or 0.0 for row in rows]))
        gains = [gain(results, row) for results, row in zip(swept, rows, strict=True)]
        widest = [results.of_kind(STATIC)[-1] for results in swept]
        over = {
            "the widest": [
                (row.value or 0.0) - (other.value or 0.0)
                for row, other in zip(rows, widest, strict=True)
            ],
            "static widths": [each.static for each in gains],
            "random routing": [each.lot for each in gains],
            "a cascade": [each.cascade for each in gains if each.cascade is not None],
            "the oracle": [each.oracle for each in gains if each.oracle is not None],
        }
        for other, differences in over.items():
            if differences:
                steps = [scale(headline) * each for each in differences]
                records.append(summary(f"{name} minus {other}", headline.steps, steps))
        # None where a gate does what a static width does, image by image.
        errors = [each.static / each.static_stderr for each in gains if each.static_stderr]
        if errors:
            what = f"{name} minus static widths, in standard errors"
            records.append(summary(what, "times", errors))
    return records
