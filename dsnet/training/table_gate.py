"""Stage II on a routing table: sandwich gate sparsification as exact sums.

A gate that draws from softmax(logits - price * cost) has an expected loss and an expected number of
multiply-adds that a table gives exactly: nothing is sampled and no gradient is estimated. A target
is held at every step rather than paid for with a hand-tuned weight: the price is moved to where the
average meets the target, and the heads follow the gradient along that constraint, that of

    loss + multiplier * multiply-adds,    multiplier = - (dloss / dprice) / (dmadds / dprice).

What one multiply-add is worth at the target is thus measured, not guessed.
"""

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsnet.errors import InputError
from dsnet.errors.checks import check_choice
from dsnet.routing.choice import (
    Outcome,
    outcome,
    price_for_average,
)
from dsnet.routing.looks import Look, looking
from dsnet.routing.table import Paths, RoutingTable
from dsnet.tasks.base import Task
from dsnet.training.gate import Strategy

_NEWTON_STEPS = 20
_ROWS_FOR_SCALE = 16384
_CLOSE = 1e-3  # of the target: the heads move on before a closer price would matter


@dataclass(frozen=True)
class GateOptions:
    """How to train a gate on a table."""

    classification: float = 1.0
    """As in `GateLoss`."""
    complexity: float = 0.5
    """As in `GateLoss`. With targets this term is left out, since the multiplier is found."""
    sgs_weight: float = 0.0
    """As in `GateLoss`."""
    sgs: Strategy = "try_best"
    """As in `GateLoss`."""
    hidden: int = 0
    """Units of a hidden layer in each slimming head; 0 for the paper's linear head."""
    look: Look = "first"
    """Whether the network looks again, see `dsnet.routing.looks.Look`."""
    lr: float = 0.05
    """Of Adam at the first step; it falls by a cosine."""
    steps: int = 300
    """At most this many."""
    check_every: int = 20
    """Steps from one evaluation on the held-out table to the next."""
    patience: int = 5
    """Evaluations without an improvement after which training ends."""
    rows: int = 4096
    """Rows of the table in each step; all of them if there are no more."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("sgs", self.sgs, get_args(Strategy))
        check_choice("look", self.look, get_args(Look))


@dataclass(frozen=True)
class TrainedGate:
    """Slimming heads with a price for each target, and what they reach on the held-out table."""

    heads: tuple[nn.Module, ...]
    """One for each gate, then those of the looks."""
    targets: tuple[float, ...]
    """Average multiply-adds asked for."""
    prices: tuple[float, ...]
    """For each target; without targets one price, 0."""
    outcomes: tuple[Outcome, ...]
    """For each price."""
    loss: float
    """What early stopping minimises, the mean of the outcomes' losses."""
    step: int
    """The step that the heads are from."""
    steps: int
    """How many steps were taken."""
    seconds: float = field(compare=False)


def train_gate(
    train: RoutingTable,
    holdout: RoutingTable,
    targets: Sequence[float] = (),
    options: GateOptions = GateOptions(),
    report: Callable[[int, TrainedGate], None] | None = None,
) -> TrainedGate:
    """Train the slimming heads of all gates for `targets`, average multiply-adds per image.

    One target gives a gate of its own; several share one set of heads and differ in their price;
    none minimises the paper's loss with its complexity term. What is kept is the step that is best
    on `holdout`, with hard choices at prices that meet the targets there. `report(step, best so
    far)` is called each time that is looked at. With looks, heads for them come after the gate's;
    where all images run the same tail first, what is kept is the best of the tails that may.
    Raises InputError for a target out of the paths' range, and as `dsnet.routing.looks.looking`.
    """
    _check_targets(targets, train.paths)
    if options.look == "first":
        return _trained(train, holdout, targets, options, report)
    if options.look == "both":
        return _trained(looking(train), looking(holdout), targets, options, report)
    # A tail that costs more than a target cannot run first for every image, and after the widest
    # there is nothing left to look for.
    least = min(targets, default=math.inf)
    starts = [at for at, madds in enumerate(train.paths.madds[:-1].tolist()) if madds <= least]
    gates = [
        _trained(looking(train, [at]), looking(holdout, [at]), targets, options, report)
        for at in starts
    ]
    best = min(gates, key=lambda gate: gate.loss)
    seconds = sum(gate.seconds for gate in gates)
    return TrainedGate(**{**vars(best), "seconds": seconds})


def _trained(
    train: RoutingTable,
    holdout: RoutingTable,
    targets: Sequence[float],
    options: GateOptions,
    report: Callable[[int, TrainedGate], None] | None,
) -> TrainedGate:
    start = time.monotonic()
    paths = train.paths
    generator = torch.Generator().manual_seed(options.seed)
    scales = [_scale(features) for features in train.features]
    heads = paths.heads(train.features, options.hidden, generator)
    parameters = [p for head in heads for p in head.parameters()]
    optimizer = torch.optim.Adam(parameters, options.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    prices = [0.0] * len(targets)
    best: TrainedGate | None = None
    for step in range(1, options.steps + 1):
        batch = _Rows(train, scales, options, generator)
        logits = paths.logits(heads, batch.features)
        if targets:
            for index, target in enumerate(targets):
                prices[index] = _meet(logits, paths, target, prices[index])
            terms = [_held(batch, logits, paths, price) for price in prices]
            torch.stack(terms).mean().backward()
        else:
            _free(batch, logits, paths).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % options.check_every and step < options.steps:
            continue
        found = _look(heads, scales, holdout, targets, options, step, time.monotonic() - start)
        if best is None or found.loss < best.loss:
            best = found
        if report is not None:
            report(step, best)
        if step - best.step >= options.patience * options.check_every:
            break
    assert best is not None
    return TrainedGate(**{**vars(best), "steps": step, "seconds": time.monotonic() - start})


# One step ----------------------------------------------------------------------------------------


class _Rows:
    """The rows of one step: scaled features, each path's loss and the path that SGS teaches."""

    def __init__(
        self,
        table: RoutingTable,
        scales: Sequence[Tensor],
        options: GateOptions,
        generator: torch.Generator,
    ) -> None:
        rows: Tensor | slice = slice(None)
        if len(table) > options.rows:
            rows = torch.randint(len(table), (options.rows,), generator=generator)
        pairs = zip(table.features, scales, strict=True)
        self.features = [features[rows].float() / scale for features, scale in pairs]
        self.losses = table.losses[rows].float()
        self.options = options
        self.taught = None
        if options.sgs_weight:
            measured = {name: values[rows] for name, values in table.measures.items()}
            self.taught = sgs_paths(table.task, measured, options.sgs, table.paths.widest)

    def loss(self, joint: Tensor, gates: int) -> Tensor:
        """Classification and SGS terms of joint log-probabilities (N, P)."""
        total = self.options.classification * (joint.exp() * self.losses).sum(1).mean()
        if self.taught is not None:
            total = total + self.options.sgs_weight * F.nll_loss(joint, self.taught) / gates
        return total


def sgs_paths(
    task: Task, measures: Mapping[str, Tensor], strategy: Strategy, widest: int = -1
) -> Tensor | None:
    """The path that sandwich gate sparsification teaches each row, int64 (N,); None for "off".

    measures: by name, of each path, (N, P). widest: which path that is; the last. Easy rows
    (`Task.easy`) go to the smallest path; the others to the widest, except that "give_up" sends
    hopeless ones (`Task.hopeless`) to the smallest too.
    """
    if strategy == "off":
        return None
    slim = {name: values[:, 0] for name, values in measures.items()}
    wide = {name: values[:, widest] for name, values in measures.items()}
    hard = ~task.easy(slim, lambda: wide)
    if strategy == "give_up":
        hard &= ~task.hopeless(wide)
    paths = measures[task.headline.name].shape[1]
    return hard * (widest % paths)


def _held(batch: _Rows, logits: Sequence[Tensor], paths: Paths, price: float) -> Tensor:
    """The loss whose gradient runs along the constraint that `price` holds."""
    charge = torch.tensor(price, requires_grad=True)
    joint = paths.log_probabilities(logits, charge)
    loss = batch.loss(joint, len(logits))
    madds = _expected_madds(joint, paths)
    (dloss,) = torch.autograd.grad(loss, charge, retain_graph=True)
    (dmadds,) = torch.autograd.grad(madds, charge, retain_graph=True)
    # Multiply-adds fall with the price, unless every row is decided and nothing moves at all.
    multiplier = -dloss / dmadds.clamp_max(-1e-9)
    return loss + multiplier * madds


def _free(batch: _Rows, logits: Sequence[Tensor], paths: Paths) -> Tensor:
    """The paper's three-term loss, with the expectation of (multiply-adds / 1e9)^2."""
    joint = paths.log_probabilities(logits, 0.0)
    complexity = (joint.exp() @ (paths.madds / 1e9).square().float()).mean()
    return batch.loss(joint, len(logits)) + batch.options.complexity * complexity


def _expected_madds(joint: Tensor, paths: Paths) -> Tensor:
    """Mean expected multiply-adds, as a fraction of the widest path's."""
    return (joint.exp() @ (paths.madds / paths.madds.max()).float()).mean()


def _meet(logits: Sequence[Tensor], paths: Paths, target: float, price: float) -> float:
    """The price at which expected multiply-adds average `target`: bounded Newton steps."""
    logits = [gate.detach() for gate in logits]
    wanted = target / float(paths.madds.max())
    low, high = -torch.inf, torch.inf
    for _ in range(_NEWTON_STEPS):
        charge = torch.tensor(price, requires_grad=True)
        madds = _expected_madds(paths.log_probabilities(logits, charge), paths)
        excess = float(madds.detach()) - wanted
        if abs(excess) <= _CLOSE * wanted:
            break
        low, high = (price, high) if excess > 0 else (low, price)
        (slope,) = torch.autograd.grad(madds, charge)
        step = excess / min(float(slope), -1e-6)
        # Far out the slope says little: go no further than doubles the distance from zero.
        reach = 1 + abs(price)
        guess = price - max(-reach, min(reach, step))
        price = guess if low < guess < high else (low + high) / 2
    return price


# Looking at the held-out table -------------------------------------------------------------------


def _look(
    heads: Sequence[nn.Module],
    scales: Sequence[Tensor],
    holdout: RoutingTable,
    targets: Sequence[float],
    options: GateOptions,
    step: int,
    seconds: float,
) -> TrainedGate:
    """The heads as they are now, with prices that meet the targets on the held-out table."""
    # The heads of all looks come after the gate's, and share what they look at.
    last = len(scales) - 1
    final = tuple(_unscaled(head, scales[min(n, last)]) for n, head in enumerate(heads))
    logits = holdout.logits(final)
    prices = [price_for_average(logits, holdout.paths, target) for target in targets] or [0.0]
    choices = [holdout.paths.choose(logits, price) for price in prices]
    outcomes = [outcome(holdout, choice) for choice in choices]
    loss = sum(o.loss for o in outcomes) / len(outcomes)
    if not targets:
        gmadds = (holdout.paths.madds / 1e9).square()
        loss = options.classification * loss + options.complexity * float(gmadds[choices[0]].mean())
    return TrainedGate(
        heads=final,
        targets=tuple(targets),
        prices=tuple(prices),
        outcomes=tuple(outcomes),
        loss=loss,
        step=step,
        steps=step,
        seconds=seconds,
    )


def _scale(features: Tensor) -> Tensor:
    """Root mean square of each feature over rows and prefixes, (r,); 1 for one that is dead.

    Only a scale: a head without bias has nothing to fold a shift into. Some rows will do, and a
    large table need not be held in float32.
    """
    some = features[:: -(-len(features) // _ROWS_FOR_SCALE)]
    scale = some.float().square().mean((0, 1)).sqrt()
    return torch.where(scale > 0, scale, 1.0)


def _unscaled(head: nn.Module, scale: Tensor) -> nn.Module:
    """A copy of a head on scaled features that takes them as the gate gives them."""
    head = copy.deepcopy(head).requires_grad_(False)
    first = head if isinstance(head, nn.Linear) else head.get_submodule("0")
    assert isinstance(first, nn.Linear)
    first.weight /= scale
    return head


def _check_targets(targets: Sequence[float], paths: Paths) -> None:
    low, high = float(paths.madds.min()), float(paths.madds[paths.widest])
    for target in targets:
        if not low <= target <= high:
            raise InputError(
                f"target {target:,.0f} multiply-adds on average: expected {low:,.0f} to "
                f"{high:,.0f}, which is what this routing space can do"
            )
