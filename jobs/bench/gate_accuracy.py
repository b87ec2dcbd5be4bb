"""What gates are worth at equal average multiply-adds: from the table, and by straight-through.

The straight-through gates are the paper's, trained without a target, five for each seed, with the
weight of the complexity term, lambda_2, tuned. They meet table gates twice:

- where they land: at price 0, the plain argmax, against a table gate whose target is the average
  that held-out images then have;
- at the same targets: moved there by a price on multiply-adds, the best of the five on held-out
  images against a table gate for that target. Where SGS sends nearly all images one way, every
  lambda_2 lands there, and this alone still says something.

Prices and the best of five come from held-out images alone, so on test images the two averages
differ, a little if many images are held out: they are recorded too, and once more what the
difference is where the table gate's price is moved to straight-through's average on test
images, without a look at their labels. All are judged on one table of the test images, whose rows
say exactly what the network does. Seeds are those of augmentation, order and sampling; the supernet
is the same one.

At the targets each table gate is also held against what does not look at the image, which is the
static widths and mixtures of two (the hull of their points) and its own shares of routes
given to images by lot, and against the oracle: all at the multiply-adds that it has on test images.

What is compared is the headline measure of the network's task: top-1, in percent and points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import dsnet
from dsnet.routing import (
    Frontier,
    Outcome,
    RoutingTable,
    oracle_errors,
    outcome,
    price_for_average,
    random_errors,
)
from dsnet.routing.table import Head
from dsnet.tasks.measure import Measure
from dsnet.training.table_gate import train_gate
from jobs.bench.gate_cost import spread_targets
from jobs.bench.gate_setting import Setting
from jobs.bench.interleaved import summary
from jobs.bench.record import Record
from pipeline.cluster.progress import Progress
from pipeline.config import Config
from pipeline.stages.table_gate import gate_options

# What lambda_2 (mean multiply-adds / 1e9)^2 comes to if every image takes the widest route: only
# so is it the same for a network of a thousandth of DS-MBNet's size. The official 0.5 is 0.16 on
# DS-MBNet; a step is a factor of 2.5, from too little to move a gate to more than any image gains.
COMPLEXITIES = (0.06, 0.16, 0.4, 1.0, 2.5)
TARGETS = 3

MADDS = "multiply-adds/image"
STRAIGHT, TABLE = "straight-through", "table"
STATIC, RANDOM, ORACLE = "static widths", "random routing", "oracle"
LEVEL = " at the same test MAdds"


@dataclass(frozen=True)
class Pair:
    """Two gates of one seed with the same average on held-out images, and what test images say.

    headline: what they are compared by. level: the table's gate once more, at the price where test
    images have the same average.
    """

    headline: Measure
    straight: Outcome
    table: Outcome
    level: Outcome

    @property
    def gain(self) -> float:
        """By how much the table's gate is better, in steps of the headline."""
        return gain(self.headline, _of(self.headline, self.table), self._theirs)

    @property
    def gain_level(self) -> float:
        """The same where test images have the same average."""
        return gain(self.headline, _of(self.headline, self.level), self._theirs)

    @property
    def _theirs(self) -> float:
        return _of(self.headline, self.straight)


def accuracy(setting: Setting, title: str, seeds: int) -> list[Record]:
    """Headline and average multiply-adds of both, where straight-through lands and at targets."""
    holdout, test = setting.table("holdout"), setting.table("test")
    targets, widest = spread_targets(holdout.paths, TARGETS), float(test.paths.madds.max())
    landed: dict[float, list[Pair]] = {complexity: [] for complexity in COMPLEXITIES}
    held: dict[float, list[Pair]] = {target: [] for target in targets}
    first = setting.config.seed
    with Progress(f"bench {title}", total=seeds * len(COMPLEXITIES), unit="gates") as progress:
        for seed in range(first, first + seeds):
            seeded = setting.changed(seed=seed)
            rivals: list[Sequence[Head]] = []
            for complexity in COMPLEXITIES:
                rivals.append(straight_through(seeded, complexity, widest))
                progress.update((seed - first) * len(COMPLEXITIES) + len(rivals))
            versus = Versus(seeded.config, seeded.table("train"), holdout, test)
            for pairs, heads in zip(landed.values(), rivals, strict=True):
                pairs.append(versus.where_it_lands(heads))
            for target, pairs in held.items():
                pairs.append(versus.best_at(target, rivals))
    routes = dsnet.load(setting.model).space.routes
    return _records(title, test, routes, landed, held)


def straight_through(setting: Setting, complexity: float, widest: float) -> Sequence[Head]:
    """The heads of a gate without a target. widest: multiply-adds of the widest route."""
    gate = {"target": None, "lambda_complexity": lambda_2(complexity, widest)}
    model = setting.changed(gate=gate).straight_through()
    return [gate.logits for gate in model.gates]


def lambda_2(complexity: float, widest: float) -> float:
    """The weight of (mean multiply-adds / 1e9)^2 that makes the term `complexity` at the widest."""
    return complexity / (widest / 1e9) ** 2


@dataclass(frozen=True)
class Versus:
    """What meets what: tables of one seed's training images, of held-out and of test images."""

    config: Config
    train: RoutingTable
    holdout: RoutingTable
    test: RoutingTable

    def where_it_lands(self, heads: Sequence[Head]) -> Pair:
        """At price 0, and a table gate for the average that it has there."""
        return self._pair(heads, 0.0, taken(self.holdout, heads, 0.0).madds)

    def best_at(self, target: float, rivals: Sequence[Sequence[Head]]) -> Pair:
        """The one that is best on held-out images at the target, and a table gate for it."""
        priced = [(heads, price_at(self.holdout, heads, target)) for heads in rivals]
        # As training on the table does: by the loss, which a few images' luck sways less.
        best, price = min(priced, key=lambda each: taken(self.holdout, *each).loss)
        return self._pair(best, price, target)

    def _pair(self, heads: Sequence[Head], price: float, target: float) -> Pair:
        straight = taken(self.test, heads, price)
        gate = train_gate(self.train, self.holdout, [target], gate_options(self.config))
        level = price_at(self.test, gate.heads, straight.madds)
        return Pair(
            headline=self.test.task.headline,
            straight=straight,
            table=taken(self.test, gate.heads, gate.prices[0]),
            level=taken(self.test, gate.heads, level),
        )


def taken(table: RoutingTable, heads: Sequence[Head], price: float) -> Outcome:
    """What the choices of these heads come to at a price."""
    return outcome(table, table.paths.choose(table.logits(heads), price))


def price_at(table: RoutingTable, heads: Sequence[Head], target: float) -> float:
    """The price at which the choices of these heads average `target` multiply-adds."""
    return price_for_average(table.logits(heads), table.paths, target)


def gain(measure: Measure, ours: float, theirs: float) -> float:
    """By how much `ours` is better than `theirs`, in the measure's steps."""
    return scale(measure) * (measure.error(theirs) - measure.error(ours))


def gain_over(headline: Measure, line: Frontier, outcome: Outcome) -> float:
    """What an outcome gains over a line of errors (`Measure.error`) that is as dear as it."""
    return gain(headline, _of(headline, outcome), headline.of_error(line.at(outcome.madds)))


def gain_over_lot(table: RoutingTable, outcome: Outcome) -> float:
    """What it gains over what is expected if its shares of paths go to images by lot."""
    headline, each = table.task.headline, table.headline.double().mean(0).tolist()
    by_lot = sum(share * value for share, value in zip(outcome.shares, each, strict=True))
    return gain(headline, _of(headline, outcome), by_lot)


def _of(measure: Measure, outcome: Outcome) -> float:
    return outcome.measures[measure.name]


def scale(measure: Measure) -> float:
    """Shares are recorded in percent."""
    return 100 if measure.share else 1


def unit(measure: Measure) -> str:
    """What its values are recorded in."""
    return "%" if measure.share else measure.unit


# Records -----------------------------------------------------------------------------------------


def _records(
    title: str,
    test: RoutingTable,
    routes: Sequence[int],
    landed: dict[float, list[Pair]],
    held: dict[float, list[Pair]],
) -> list[Record]:
    records, headline = [], test.task.headline
    for path, (route, madds) in enumerate(zip(routes, test.paths.madds.tolist(), strict=True)):
        value = scale(headline) * float(test.headline[:, path].double().mean())
        name = f"{title}: width {route} {headline.title}"
        records.append(summary(name, unit(headline), [value]))
        records.append(summary(f"{title}: width {route} MAdds", MADDS, [madds]))
    for complexity, pairs in landed.items():
        records += _compared(f"{title}: complexity {complexity:g}", pairs)
    widest = float(test.paths.madds.max())
    static, oracle = random_errors(test), oracle_errors(test)
    for target, pairs in held.items():
        name = f"{title}: target {target / widest:.0%}"
        records += _compared(f"{name}, best of five", pairs)
        gates = [pair.table for pair in pairs]
        for other, gains in {
            STATIC: [gain_over(headline, static, gate) for gate in gates],
            RANDOM: [gain_over_lot(test, gate) for gate in gates],
            ORACLE: [gain_over(headline, oracle, gate) for gate in gates],
        }.items():
            records.append(summary(f"{name} {TABLE} minus {other}", headline.steps, gains))
    records += _means(f"{title}: complexities", landed)
    return records + _means(f"{title}: targets, best of five", held)


def _compared(name: str, pairs: Sequence[Pair]) -> list[Record]:
    """One place where both are, over the seeds."""
    headline = pairs[0].headline
    title, steps = headline.title, headline.steps
    straight, table = (
        [scale(headline) * _of(headline, outcome) for outcome in outcomes]
        for outcomes in ([p.straight for p in pairs], [p.table for p in pairs])
    )
    madds = [pair.straight.madds for pair in pairs]
    first, second = f"{name} {STRAIGHT}", f"{name} {TABLE}"
    return [
        summary(f"{first} {title}", unit(headline), straight),
        summary(f"{second} {title}", unit(headline), table, f"{first} {title}", straight),
        summary(f"{second} minus {STRAIGHT}", steps, [pair.gain for pair in pairs]),
        summary(f"{second} minus {STRAIGHT}{LEVEL}", steps, [pair.gain_level for pair in pairs]),
        summary(f"{first} MAdds", MADDS, madds),
        summary(f"{second} MAdds", MADDS, [p.table.madds for p in pairs], f"{first} MAdds", madds),
    ]


def _means(name: str, places: dict[float, list[Pair]]) -> list[Record]:
    """The mean differences, unlike other records' medians, over all places and seeds."""
    pairs = [pair for pairs in places.values() for pair in pairs]
    differences = {"": [p.gain for p in pairs], LEVEL: [p.gain_level for p in pairs]}
    return [
        Record(
            f"{name}, mean {TABLE} minus {STRAIGHT}{level}",
            pairs[0].headline.steps,
            mean(gains),
            (min(gains), max(gains)),
            len(gains),
        )
        for level, gains in differences.items()
    ]
