"""Classification: one of several classes for each image."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dsnet.nn.plan import Ranked
from dsnet.tasks.base import Measured, Task
from dsnet.tasks.class_tally import ClassTally
from dsnet.tasks.measure import CLASSIFICATION, TOP1, TOP5


class Classification(Task):
    """Outputs are logits (N, K), targets class labels, int64 (N,).

    What is learned from may be mixed pictures, whose targets are probabilities, float (N, K); what
    is measured is of labels.
    """

    name = CLASSIFICATION
    measures = (TOP1, TOP5)
    labelled = True

    def pair(self, images: Tensor, labels: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """As they are."""
        return images, labels

    def loss(self, outputs: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy against labels or probabilities; float32 under autocast."""
        outputs = _single(outputs)
        if targets.is_floating_point():
            targets = targets.to(outputs.dtype)
        return F.cross_entropy(outputs, targets, reduction="none", label_smoothing=smoothing)

    def soften(self, outputs: Tensor) -> Tensor:
        """Softmax; float32 under autocast."""
        return _single(outputs.detach()).softmax(1)

    def distill(self, outputs: Tensor, soft: Tensor) -> Tensor:
        """Cross-entropy against probabilities (N, K)."""
        return F.cross_entropy(_single(outputs), soft, reduction="none")

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Whether the label is the first answer, and whether it is among the first five."""
        best = outputs.topk(min(5, outputs.shape[1])).indices
        return {
            "top1": outputs.argmax(1) == targets,
            "top5": (best == targets[:, None]).any(1),
        }

    def easy(self, slim: Measured, wide: Callable[[], Measured]) -> Tensor:
        """The slimmest path is right."""
        return slim["top1"]

    def hopeless(self, wide: Measured) -> Tensor:
        """The widest path is wrong."""
        return ~wide["top1"]

    def confidence(self, outputs: Tensor) -> Tensor:
        """The softmax probability of the first answer."""
        return outputs.softmax(1).amax(1)

    def evidence(self) -> Ranked:
        """The five greatest log-probabilities: how sure it is, and of what is next."""
        return Ranked(5)

    def tally(self, outputs: int) -> ClassTally:
        """Which classes are taken for which, and how far confidence can be trusted."""
        return ClassTally(outputs)


def _single(outputs: Tensor) -> Tensor:
    """In single precision at least."""
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))
