"""What every sub-network and the dynamic network reach, and their cost, as exact sums."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from dsnet import DSNet
from dsnet.tasks.base import Tally, Task
from dsnet.tasks.measure import Measure
from dsnet.training.distributed import total, total_each

BY_CLASS = "by_class.json"
"""File of an evaluation: what the task's tallies tell, by network (`width 0`, `dynamic`)."""


@dataclass(frozen=True)
class EvaluationRow:
    """One line of the table: a sub-network, or the whole dynamic network."""

    name: str
    value: float
    """Mean of the task's headline measure: for classification the share that is right."""
    stderr: float
    """Standard error of `value`, over images."""
    measures: dict[str, float]
    """Mean of every measure, by name; the headline's too."""
    madds: float
    """Multiply-adds per image, on average."""
    share: float
    """`madds` over the widest routable sub-network's."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; the headline is among the measures."""
        return {name: value for name, value in asdict(self).items() if name != "value"}


@dataclass(frozen=True)
class Sums:
    """Sums over a set of images, by name of a measure: one number for each network."""

    values: dict[str, tuple[float, ...]]
    """Of a share how many images have it, a whole number."""
    squares: dict[str, tuple[float, ...]]
    """Sums of squares, of measures that are no shares; a share's squares are itself."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Mapping[str, Sequence[float]]]) -> "Sums":
        """Of plain values."""
        return cls(
            {name: tuple(row) for name, row in data["values"].items()},
            {name: tuple(row) for name, row in data["squares"].items()},
        )


@dataclass(frozen=True)
class Evaluation:
    """Sums over a set of images."""

    images: int
    static: Sums
    """Of each sub-network of the space."""
    routed: Sums
    """Of the dynamic network alone; zeros where nothing was routed."""
    picked: tuple[int, ...]
    """How many images each sub-network answered."""
    spent: int | None = None
    """Multiply-adds of all that the dynamic network ran; None where it looks but once, and each
    image runs one sub-network."""

    def rows(self, model: DSNet) -> list[EvaluationRow]:
        """Every sub-network and, if any image was routed, the dynamic network."""
        madds = [model.madds(width) for width in model.space]
        widest = madds[model.space.routes[-1]]
        headline = model.task.headline
        rows = [
            self._row(f"width {index}", self.static, index, headline, count, widest)
            for index, count in enumerate(madds)
        ]
        if any(self.picked):
            average = self.average_madds(model)
            rows.append(self._row("dynamic", self.routed, 0, headline, average, widest))
        return rows

    def _row(
        self, name: str, sums: Sums, index: int, headline: Measure, madds: float, widest: int
    ) -> EvaluationRow:
        means = {key: values[index] / self.images for key, values in sums.values.items()}
        value = means[headline.name]
        if headline.share:
            stderr = standard_error(value, self.images)
        else:
            stderr = _sample_error(value, sums.squares[headline.name][index], self.images)
        return EvaluationRow(name, value, stderr, means, madds, madds / widest)

    def average_madds(self, model: DSNet) -> float:
        """Multiply-adds per image that the gates chose."""
        if self.spent is not None:
            return self.spent / self.images
        return sum(n * model.madds(i) for i, n in enumerate(self.picked)) / self.images

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Evaluation":
        """The inverse of `to_dict`."""
        static, routed = Sums.from_dict(data["static"]), Sums.from_dict(data["routed"])
        return cls(data["images"], static, routed, tuple(data["picked"]), data["spent"])


def standard_error(share: float, images: int) -> float:
    """Of a share of independent images: sqrt(p (1 - p) / n), the binomial proportion's."""
    return math.sqrt(share * (1 - share) / images)


def _sample_error(mean: float, squares: float, images: int) -> float:
    """Of a mean: the sample's standard deviation over sqrt(n); 0 for one image, which has none."""
    variance = (squares - images * mean**2) / max(images - 1, 1)
    return math.sqrt(max(variance, 0.0) / images)


def stderr_name(measure: Measure) -> str:
    """The metric that holds the standard error of a measure, where that is not a share."""
    return f"{measure.name}_stderr"


def by_width(rows: Sequence[EvaluationRow]) -> dict[str, dict[str, float]]:
    """The rows' means as metrics, by measure and row: MLflow draws the widths of each in one group,
    `top1/width 0`, `top1/width 1`.
    """
    return {name: {row.name: row.measures[name] for row in rows} for name in rows[0].measures}


@torch.inference_mode()
def evaluate(
    model: DSNet,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    routed: bool = True,
    tallies: Sequence[Tally] = (),
) -> Evaluation:
    """Sum over `batches` of what the model's task pairs (inputs, targets), and over all workers.

    routed: whether the gates run too; False before they are trained. tallies: one for each
    sub-network and for the dynamic network (see `new_tallies`), which count the answers.
    """
    n = len(model.space)
    device = next(model.parameters()).device
    # Images, multiply-adds, and picks of n widths.
    counts = torch.zeros(2 + n, dtype=torch.int64, device=device)
    sums = _RunningSums(model.task, n + 1, device)
    for inputs, targets in batches:
        counts[0] += len(targets)
        for index, outputs in enumerate(_every_width(model, inputs)):
            sums.add(index, outputs, targets)
            if tallies:
                tallies[index].add(outputs, targets)
        if routed:
            outputs, widths, madds = model.routed(inputs)
            sums.add(n, outputs, targets)
            if tallies:
                tallies[n].add(outputs, targets)
            counts[1] += madds.sum()
            counts[2:] += torch.bincount(widths, minlength=n)
    images, spent, *picked = total(counts).tolist()
    sums.over_workers()
    total_each([each for tally in tallies for each in tally.sums()], device)
    static, dynamic = sums.of(slice(n)), sums.of(slice(n, None))
    looked = spent if model.looks is not None else None
    return Evaluation(images, static, dynamic, tuple(picked), looked)


def new_tallies(model: DSNet, *, routed: bool = True) -> list[Tally]:
    """One for each sub-network and, if it is routed, the dynamic one; none for a task without."""
    networks = len(model.space) + routed
    made = [model.task.tally(model.architecture.num_classes) for _ in range(networks)]
    return [tally for tally in made if tally is not None]


class _RunningSums:
    """Of each measure, one number for each network: int64 for shares, float64 for others."""

    def __init__(self, task: Task, networks: int, device: torch.device):
        def zeros(share: bool) -> Tensor:
            dtype = torch.int64 if share else torch.float64
            return torch.zeros(networks, dtype=dtype, device=device)

        self.task = task
        self.values = {m.name: zeros(m.share) for m in task.measures}
        self.squares = {m.name: zeros(False) for m in task.measures if not m.share}

    def add(self, network: int, outputs: Tensor, targets: Tensor) -> None:
        """One batch of one network."""
        measured = self.task.measure(outputs, targets)
        for name, sums in self.values.items():
            values = measured[name].to(sums.dtype)
            sums[network] += values.sum()
            if name in self.squares:
                self.squares[name][network] += values.square().sum()

    def over_workers(self) -> None:
        """Add up what all workers have."""
        for sums in (*self.values.values(), *self.squares.values()):
            total(sums)

    def of(self, networks: slice) -> Sums:
        """The sums of some of the networks."""
        values, squares = (
            {name: tuple(each[networks].tolist()) for name, each in sums.items()}
            for sums in (self.values, self.squares)
        )
        return Sums(values, squares)


def _every_width(model: DSNet, inputs: Tensor) -> Iterable[Tensor]:
    """Outputs of each sub-network, what they share computed once."""
    if model.architecture.gates:
        for width, features, _ in model.walk(inputs, model.every_entry):
            yield model.answer(features, inputs, width)
    else:
        for width in model.space:
            yield model(inputs, width=width)
