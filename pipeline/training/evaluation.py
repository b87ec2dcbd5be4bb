"""Accuracy and cost of every sub-network and of the dynamic network, as exact counts."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dsnet import DSNet
from dsnet.training.distributed import total


@dataclass(frozen=True)
class EvaluationRow:
    """One line of the table: a sub-network, or the whole dynamic network."""

    name: str
    top1: float
    """Share of images classified correctly."""
    stderr: float
    """Standard error of `top1`, over images."""
    madds: float
    """Multiply-adds per image, on average."""
    share: float
    """`madds` over the widest routable sub-network's."""


@dataclass(frozen=True)
class Evaluation:
    """Counts over a set of images."""

    images: int
    correct: tuple[int, ...]
    """Right answers of each sub-network of the space."""
    routed_correct: int
    """Right answers of the dynamic network."""
    picked: tuple[int, ...]
    """How many images took each sub-network."""

    def rows(self, model: DSNet) -> list[EvaluationRow]:
        """Every sub-network and, if any image was routed, the dynamic network."""
        madds = [model.madds(width) for width in model.space]
        widest = madds[model.space.routes[-1]]
        rows = [
            self._row(f"width {index}", right, count, widest)
            for index, (right, count) in enumerate(zip(self.correct, madds, strict=True))
        ]
        if any(self.picked):
            rows.append(
                self._row("dynamic", self.routed_correct, self.average_madds(model), widest)
            )
        return rows

    def _row(self, name: str, right: int, madds: float, widest: int) -> EvaluationRow:
        top1 = right / self.images
        return EvaluationRow(name, top1, standard_error(top1, self.images), madds, madds / widest)

    def average_madds(self, model: DSNet) -> float:
        """Multiply-adds per image that the gates chose."""
        return sum(n * model.madds(i) for i, n in enumerate(self.picked)) / self.images

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a report."""
        return {
            "images": self.images,
            "correct": list(self.correct),
            "routed_correct": self.routed_correct,
            "picked": list(self.picked),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Evaluation":
        """The inverse of `to_dict`."""
        return cls(
            data["images"], tuple(data["correct"]), data["routed_correct"], tuple(data["picked"])
        )


def standard_error(share: float, images: int) -> float:
    """Of a share of independent images: sqrt(p (1 - p) / n), the binomial proportion's."""
    return math.sqrt(share * (1 - share) / images)


@torch.inference_mode()
def evaluate(
    model: DSNet, batches: Iterable[tuple[Tensor, Tensor]], *, routed: bool = True
) -> Evaluation:
    """Count over `batches` of (normalised images, labels), summed over all workers.

    routed: whether the gates run too; False before they are trained.
    """
    n = len(model.space)
    device = next(model.parameters()).device
    # images, right answers of n widths, right answers when routed, picks of n widths.
    counts = torch.zeros(1 + n + 1 + n, dtype=torch.int64, device=device)
    for images, labels in batches:
        row = [torch.tensor([len(labels)], device=device)]
        row += [_right(logits, labels) for logits in _every_width(model, images)]
        if routed:
            logits, widths = model.dynamic(images)
            row += [_right(logits, labels), torch.bincount(widths, minlength=n)]
        else:
            row.append(torch.zeros(1 + n, dtype=torch.int64, device=device))
        counts += torch.cat(row)
    images_seen, *rest = total(counts).tolist()
    return Evaluation(images_seen, tuple(rest[:n]), rest[n], tuple(rest[n + 1 :]))


def _every_width(model: DSNet, images: Tensor) -> Iterable[Tensor]:
    """Logits of each sub-network, what they share computed once."""
    if model.architecture.gates:
        for width, features, _ in model.walk(images, model.every_entry):
            yield model.classify(features, width)
    else:
        for width in model.space:
            yield model(images, width=width)


def _right(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(1) == labels).sum().reshape(1)
