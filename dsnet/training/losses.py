"""The loss between a student and soft targets, and the targets themselves."""

import torch.nn.functional as F
from torch import Tensor


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of logits (N, K) against probabilities (N, K); float32 under autocast."""
    return F.cross_entropy(logits.float(), targets)


def probabilities(logits: Tensor) -> Tensor:
    """Softmax of logits (N, K) in float32, cut off from the graph: a target."""
    return logits.detach().float().softmax(1)
