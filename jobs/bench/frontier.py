"""What dynamic widths are worth compared with static ones, in the task's measure and in time.

For each seed a supernet is trained and gates are swept over eight targets, as `dsnet sweep` does;
what is registered under NAME-SEED is found again, so that an interrupted benchmark goes on. Gates
are compared at equal average multiply-adds: with the best static width or mixture of two, with
random routing by the same shares, with a cascade of widths that run separately, with the oracle.

The time is that of the first seed's exported network: see `frontier_time`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from dsnet.errors import InputError
from dsnet.routing.target import parse_target
from jobs.bench.frontier_time import times
from jobs.bench.interleaved import summary
from jobs.bench.options import Options
from jobs.bench.record import Record, point
from pipeline.config import Config, config_from_dict
from pipeline.report import STATIC, Results, Row
from pipeline.report.chart import Axis, Drawing, Series, alone, chart
from pipeline.report.page import gain
from pipeline.runner.job import local
from pipeline.sweep.run import sweep

MADDS = "multiply-adds/image"
TARGETS = (0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.85)


def bench(options: Options) -> list[Record]:
    """The headline and its gains over seeds; CPU milliseconds per image, and their ratios.

    Raises InputError for gates that are not trained on a table.
    """
    config = _quick(options.config) if options.quick else options.config
    if config.gate.method != "table":
        raise InputError(
            "gate.method: expected table (a sweep trains gates on a routing table), found "
            f"{config.gate.method}"
        )
    targets = [parse_target(target) for target in (TARGETS[3:4] if options.quick else TARGETS)]
    configs, swept = [], []
    for seed in range(config.seed, config.seed + (1 if options.quick else options.seeds)):
        changed = {"seed": seed, "name": f"{config.name}-{seed}"}
        configs.append(config_from_dict(config.as_dict() | changed))
        swept.append(sweep(configs[-1], targets, "dsnet bench frontier"))
    title = f"frontier of {config.name}"
    model = local(configs[0], swept[0].versions[0])
    return values(title, [each.results for each in swept]) + times(
        title, model, configs[0], targets, options
    )


def draw(records: Sequence[Record], path: Path) -> None:
    """Draw the headline against multiply-adds, over seeds, and against the first seed's time."""
    title = records[0].name.partition(": ")[0]
    by_name = {record.name.removeprefix(f"{title}: "): record for record in records}
    names = [name.removesuffix(" MAdds") for name, r in by_name.items() if r.unit == MADDS]
    (headline,) = {
        name.removeprefix("width 0 ") for name in by_name if name.startswith("width 0 ")
    } - {"MAdds"}
    drawings: list[Drawing] = []
    for what, unit, label in (
        ("{} MAdds", 1e6, "multiply-adds per image, millions"),
        ("batch 64 {}", 1.0, "CPU ms per image, batch 64, one thread"),
    ):
        series = [
            Series(
                kind,
                [
                    point(name, by_name[what.format(name)], by_name[f"{name} {headline}"], unit)
                    for name in names
                    if name.startswith(start)
                ],
                legend,
                mark=mark,
            )
            for start, kind, mark, legend in (
                ("width", "static", "square", "one width for every image"),
                ("target", "gate", "dot", "each image its own width"),
            )
        ]
        name = f"{headline} on test images, {by_name[f'{names[0]} {headline}'].unit}"
        drawings.append(chart(name, series, Axis(label), Axis(""), legend=not drawings))
    path.write_text(alone(*drawings), encoding="utf-8")


def _quick(config: Config) -> Config:
    """As little of everything as possible, under another name."""
    few = {
        "cluster": {"workers": 1},
        "supernet": {"epochs": 1, "warmup_epochs": 0},
        "gate": {"epochs": 1},
        "table": {"views": 1, "steps": 20},
    }
    values = config.as_dict()
    for section, changed in few.items():
        values[section] |= changed
    return config_from_dict(values | {"name": f"{config.name}-quick"})


def values(title: str, swept: Sequence[Results]) -> list[Record]:
    """The headline of every static width and gate over the seeds, and what gates gain."""
    first, headline = swept[0], swept[0].headline
    # Shares are recorded in percent.
    scale, unit = (100, "%") if headline.share else (1, headline.unit)

    def reached(name: str, rows: Sequence[Row]) -> Iterator[Record]:
        values = [scale * (row.value or 0.0) for row in rows]
        yield summary(f"{title}: {name} {headline.title}", unit, values)
        yield summary(f"{title}: {name} MAdds", MADDS, [row.madds or 0.0 for row in rows])

    records: list[Record] = []
    for number, row in enumerate(first.of_kind(STATIC)):
        records += reached(row.label, [results.of_kind(STATIC)[number] for results in swept])
    for number, chosen in enumerate(first.chosen):
        rows, name = [results.chosen[number] for results in swept], f"target {chosen.target}"
        records += reached(name, rows)
        gains = [gain(results, row) for results, row in zip(swept, rows, strict=True)]
        widest = [results.of_kind(STATIC)[-1].value or 0.0 for results in swept]
        over = {
            "the widest": [(r.value or 0.0) - w for r, w in zip(rows, widest, strict=True)],
            "static widths": [each.static for each in gains],
            "random routing": [each.random for each in gains],
            "a cascade": [each.cascade for each in gains if each.cascade is not None],
            "the oracle": [each.oracle for each in gains if each.oracle is not None],
        }
        records += [
            summary(f"{title}: {name} minus {other}", headline.steps, [scale * d for d in found])
            for other, found in over.items()
            if found
        ]
        # None where a gate does what a static width does, image by image.
        errors = [each.static / each.static_stderr for each in gains if each.static_stderr]
        if errors:
            what = f"{title}: {name} minus static widths, in standard errors"
            records.append(summary(what, "times", errors))
    return records
