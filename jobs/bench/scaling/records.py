"""Records that say in their names whether they were assumed, counted, measured or computed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from statistics import median

from jobs.bench.interleaved import Figure, summary
from jobs.bench.record import Record
from jobs.bench.scaling.all_reduce import rounds, sent_by_all, tree
from jobs.bench.scaling.assumptions import Assumptions
from jobs.bench.scaling.chain import HOUR, Chain, OnGpus
from jobs.bench.scaling.workers import (
    ALONE,
    AS_IT_GOES,
    AT_END,
    REDUCTION,
    Traffic,
    fitted,
    headers,
)
from pipeline.runner.estimate.storage import checkpoint_bytes
from pipeline.runner.estimate.work import of_bootstrap

ASSUMED, COUNTED, MEASURED, COMPUTED = "assumed", "counted", "measured", "computed"
REDUCED, WIRE = "bytes reduced by each", "bytes on the wire"
LATENCY, BANDWIDTH = "latency of a message here", "bandwidth of this machine"
PAYS = "GPUs to which doubling saves a quarter"
MS, US = 1e3, 1e6

Rounds = Sequence[Mapping[str, Sequence[Figure]]]
Teams = Mapping[tuple[str, int], Sequence[Traffic]]
"""By network and number of workers, what each of them sent."""


def called(arch: str, workers: int) -> str:
    """A network and who trains it."""
    return f"{arch}, {workers} worker{'s' * (workers > 1)}"


def fact(kind: str, name: str, unit: str, value: float) -> Record:
    """What was not measured."""
    return Record(f"{kind} {name}", unit, value, (value, value), 0)


def values(rounds: Rounds, title: str, what: str = "") -> list[float]:
    """One figure of every round."""
    return [figure.value for row in rounds for figure in row[title] if figure.what == what]


def of_assumptions(assumed: Assumptions) -> Iterator[Record]:
    """Those that have a value; the others are computed or measured."""
    for each in fields(assumed):
        value = getattr(assumed, each.name)
        if value is not None:
            name = each.name.replace("_", "-")
            yield fact(ASSUMED, name, each.metadata["unit"], value)


def of_network(chain: Chain) -> Iterator[Record]:
    """What a step and a checkpoint of stage I come to, whatever runs them."""
    buckets = chain.buckets
    yield fact(COUNTED, "gradients of a step", "bytes", sum(buckets))
    yield fact(COUNTED, "all-reduces of a step", "", len(buckets))
    yield fact(COUNTED, "statistics of an epoch", "bytes", chain.statistics)
    yield fact(COUNTED, "operators of a step", "", chain.measured.operators)
    madds = of_bootstrap(chain.config, chain.model)
    yield fact(COMPUTED, "multiply-adds for an image in a step", "", madds)
    yield fact(COMPUTED, "checkpoint", "bytes", checkpoint_bytes(chain.config, chain.model))
    share = chain.share_of_last_backward()
    yield fact(COMPUTED, "share of the last backward pass", "of a step", share)


def of_traffic(teams: Teams) -> Iterator[Record]:
    """What the workers here sent, beside the formulas."""
    for (arch, workers), sent in teams.items():
        name = called(arch, workers)
        sizes = sent[0].reduced
        size = sum(sizes)
        yield summary(f"{MEASURED} {name}: {REDUCED}", "bytes", [sum(s.reduced) for s in sent])
        expected = sent_by_all(size, workers)
        expected += workers * sum(headers(each, workers) for each in sizes)
        wire = fact(COMPUTED, f"{name}: {WIRE}", "bytes", expected)
        yield wire
        found = float(sum(s.written for s in sent))
        against = (wire.name, [wire.value]) if expected else (None, ())
        yield summary(f"{MEASURED} {name}: {WIRE}", "bytes", [found], *against)


def of_times(rounds_of: Rounds, teams: Teams) -> Iterator[Record]:
    """How long the workers here took, beside one latency and one bandwidth fitted to all of it."""
    points = {}
    for (arch, workers), sent in teams.items():
        name = called(arch, workers)
        for what in (ALONE, AT_END, AS_IT_GOES):
            yield summary(f"{MEASURED} {name}: {what}", "ms", values(rounds_of, f"{name} {what}"))
        if workers > 1:
            sizes = sent[0].reduced
            points[name] = (
                float(workers * rounds(workers) * len(sizes)),
                float(sent_by_all(sum(sizes), workers)),
            )
    times = {name: values(rounds_of, f"{name} {REDUCTION}") for name in points}
    medians = {name: median(each) / MS for name, each in times.items()}
    latency, each_byte = fitted([(*points[name], medians[name]) for name in points])
    yield fact(COMPUTED, LATENCY, "us", US * latency)
    yield fact(COMPUTED, BANDWIDTH, "GB/s", 1e-9 / each_byte)
    for name, (messages, size) in points.items():
        expected = fact(
            COMPUTED, f"{name}: {REDUCTION}", "ms", MS * (latency * messages + each_byte * size)
        )
        yield expected
        others = [expected.value] * len(times[name])
        title = f"{MEASURED} {name}: {REDUCTION}"
        yield summary(title, "ms", times[name], expected.name, others)


def of_gpus(chain: Chain, way: str, on: OnGpus) -> Iterator[Record]:
    """All that is computed of a chain on a number of GPUs. way: how its batch was chosen."""

    def computed(what: str, unit: str, value: float) -> Record:
        return fact(COMPUTED, f"{way}, {on.gpus} GPUs: {what}", unit, value)

    step, by_trees = on.step, replace(chain, collective=tree).on(on.gpus, on.batch)
    latency = rounds(on.gpus) * chain.assumed.link(on.gpus).latency_s * len(chain.buckets)
    yield computed("batch", "images", on.gpus * on.batch * chain.config.supernet.accumulate)
    yield computed("steps of an epoch", "", on.steps)
    yield computed("step: passes", "ms", MS * step.compute)
    yield computed("step: all-reduce", "ms", MS * step.all_reduce)
    yield computed("step: latency of that", "ms", MS * latency)
    yield computed("step: exposed", "ms", MS * step.exposed)
    yield computed("step: all-reduce by trees", "ms", MS * by_trees.step.all_reduce)
    yield computed("step: exposed by trees", "ms", MS * by_trees.step.exposed)
    yield computed("step", "ms", MS * step.seconds)
    images = on.batch * chain.config.supernet.accumulate / step.seconds
    yield computed("images of a GPU", "images/s", images)
    yield computed("cores for that", "a GPU", images * chain.measured.picture_s)
    for name, seconds in on.parts.items():
        yield computed(name, "h", seconds / HOUR)
    yield computed(
        "spent on passes of stage I", "%", 100 * next(iter(on.parts.values())) / on.seconds
    )
    yield from of_curve(chain, way, on)
    apart = by_trees.without_driver / HOUR
    yield computed("all by trees, gate apart", "h", apart)
    yield computed("cost by trees, gate apart", "$", on.gpus * apart * chain.assumed.price)


def of_curve(chain: Chain, way: str, on: OnGpus) -> Iterator[Record]:
    """What is drawn."""
    name = f"{COMPUTED} {way}, {on.gpus} GPUs: "
    for what, unit, value in (
        ("all", "h", on.seconds / HOUR),
        ("held", "GPU-hours", on.gpu_hours),
        ("cost", "$", on.gpu_hours * chain.assumed.price),
    ):
        yield Record(f"{name}{what}", unit, value, (value, value), 0)
