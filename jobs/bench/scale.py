"""A chain on many GPUs, on paper: time, cost, and where more of them stop being worth it.

No GPU takes part. What can be counted or measured here is; a GPU's step, the network between GPUs
and the price are assumptions, options all of them; the rest is computed. A record's name begins
with which it is, and `runs` is how often it was measured: 0 for what was not.

The traffic is checked by workers on this machine, one thread each, that reduce a real network's
gradients over gloo through `GradientReducer`.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from dsnet import DSNet, Metadata
from dsnet.routing import MAX_PATHS
from jobs.bench.interleaved import Measure, summary, take_turns
from jobs.bench.options import Options
from jobs.bench.record import Record
from jobs.bench.scaling import here, plot, workers
from jobs.bench.scaling.chain import Chain, Measured, OnGpus, last_that_pays
from jobs.bench.scaling.records import (
    COMPUTED,
    MEASURED,
    PAYS,
    Rounds,
    called,
    fact,
    of_assumptions,
    of_curve,
    of_gpus,
    of_network,
    of_times,
    of_traffic,
    values,
)
from jobs.bench.scaling.workers import Case
from jobs.bench.team import Team
from pipeline.config import Config, import_plugins
from pipeline.data.dataset import Dataset
from pipeline.runner.estimate.reuse import dataset_here, given_network
from pipeline.runner.estimate.sizes import Sizes, sizes_of
from pipeline.runner.estimate.work import routes
from pipeline.stages.network import new_network

CASES = (
    Case("ds_mbnet", 1000, 64, 4, reductions=3),
    Case("ds_mbnet_cifar", 10, 32, 4, reductions=10),
    Case("ds_mbnet_digits", 10, 8, 4, reductions=20),
)
QUICK = (Case("ds_mbnet_digits", 10, 8, 2, reductions=1),)
TEAMS = (1, 2, 4, 8)
DOUBLED = tuple(2**power for power in range(11))
GROWS, STAYS = "batch grows", "batch stays"
SAVING = "checkpoint"


@dataclass(frozen=True)
class Subject:
    """What a plan is of."""

    dataset: Dataset | None
    """The betons, where they are here."""
    sizes: Sizes
    model: DSNet
    by_table: bool
    """Whether gates are trained on a table."""


def subject(config: Config, counts: tuple[int | None, int | None, int | None]) -> Subject:
    """What is known of a configuration's data and network.

    counts: training pictures, test pictures and classes, where they are stated. Raises InputError
    where neither they nor the data say how many there are, and for what cannot be made.
    """
    import_plugins(config)
    # Counts that are stated are of data that is not here, or of other data than is.
    dataset, found = (None, None) if all(counts[:2]) else dataset_here(config)
    sizes = sizes_of(config, dataset, *counts, found)
    model = given_network(config) or new_network(
        config, sizes.classes, Metadata(resolution=config.data.resolution)
    )
    by_table = config.gate.method == "table" and len(routes(model)) <= MAX_PATHS
    return Subject(dataset, sizes, model, by_table)


def bench(options: Options) -> list[Record]:
    """What was assumed, counted, measured and computed."""
    about = subject(options.config, (options.images, options.test_images, None))
    cases, sizes = (QUICK, TEAMS[:2]) if options.quick else (CASES, TEAMS)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        measures: dict[str, Measure] = {}
        if reads(options):
            measures |= here.reading(Path(folder), options)
        measures[SAVING] = here.saving(options.config, about.model)
        teams = {size: stack.enter_context(started(size, cases)) for size in sizes}
        traffic = {
            (case.arch, size): workers.traffic(team, case)
            for case in cases
            for size, team in teams.items()
        }
        measures |= reductions(teams, cases)
        rounds = take_turns("scale", measures, runs=options.runs)
    chain = _chain(options, about, rounds)
    records = [*of_assumptions(options.assumptions), *of_network(chain), *_here(rounds, options)]
    records += [*of_traffic(traffic), *of_times(rounds, traffic)]
    return [*records, *_computed(chain, options.gpus)]


def draw(records: Sequence[Record], path: Path) -> None:
    """Draw hours and cost against the number of GPUs."""
    plot.draw(records, path, (GROWS, STAYS), DOUBLED)


def reads(options: Options) -> bool:
    """Whether the loader is to be measured."""
    return options.assumptions.loader_ms is None


def started(size: int, cases: Sequence[Case]) -> Team:
    """Workers of one thread each."""
    return Team(size, 1, partial(workers.works, cases))


def reductions(teams: Mapping[int, Team], cases: Sequence[Case]) -> dict[str, Measure]:
    """Steps and reductions of every network by every team."""
    return {
        f"{called(case.arch, size)} {what}": partial(workers.slowest, team, f"{case.arch} {what}")
        for case in cases
        for what in workers.TIMED
        for size, team in teams.items()
    }


def _chain(options: Options, about: Subject, rounds: Rounds) -> Chain:
    supernet, data = options.config.supernet, options.config.data
    # Operators are as many on small images as on large ones.
    side = min(64, data.resolution)
    given = options.assumptions.loader_ms
    picture = median(values(rounds, "loader", "CPU")) if given is None else given
    first = median(values(rounds, here.FIRST_BATCH)) if given is None else 0.0
    measured = Measured(
        operators=workers.operators(about.model, side, supernet.random_widths),
        picture_s=picture / 1000,
        first_batch_s=first / 1000,
        snapshot_s=median(values(rounds, SAVING, here.SNAPSHOT)) / 1000,
    )
    return Chain(
        options.config, about.model, about.sizes, about.by_table, measured, options.assumptions
    )


def _here(rounds: Rounds, options: Options) -> Iterator[Record]:
    if reads(options):
        name = f"{MEASURED} loader, one thread"
        yield summary(name, "images/s", values(rounds, "loader"))
        yield summary(f"{name} CPU", "CPU ms/image", values(rounds, "loader", "CPU"))
        first = values(rounds, here.FIRST_BATCH)
        yield summary(f"{MEASURED} {here.FIRST_BATCH} of an epoch", "ms", first)
    for what, unit in ((here.SNAPSHOT, "ms"), (here.WRITING, "ms"), (here.SIZE, "bytes")):
        yield summary(f"{MEASURED} checkpoint, {what}", unit, values(rounds, SAVING, what))


def _computed(chain: Chain, gpus: Sequence[int]) -> Iterator[Record]:
    """The chain on every number of GPUs, with a batch that grows with them and with one that does
    not; where they do not divide that one, it is left out."""
    section = chain.config.supernet
    whole = section.batch_size * chain.config.cluster.max_workers
    for way in (GROWS, STAYS):
        curve: list[OnGpus] = []
        for count in sorted({*gpus, *DOUBLED}):
            if way == STAYS and whole % count:
                continue
            on = chain.on(count, None if way == GROWS else whole // count)
            curve += [on] if count in DOUBLED else []
            yield from (of_gpus if count in gpus else of_curve)(chain, way, on)
        yield fact(COMPUTED, f"{way}: {PAYS}", "GPUs", last_that_pays(curve))
