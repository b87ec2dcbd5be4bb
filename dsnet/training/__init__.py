"""The training algorithms of the paper, in plain torch."""

from dsnet.training.bootstrap import (
    bootstrap_step,
    distill_step,
    labels_step,
    random_widths,
)
from dsnet.training.distributed import GradientReducer, average_gradients
from dsnet.training.ema import make_teacher, update_teacher, warmed_decay
from dsnet.training.finite import Kept, LossMeter, check_finite, not_finite
from dsnet.training.gate import GateLoss, freeze_trunk, gate_step
from dsnet.training.recalibrate import recalibrate

__all__ = [
    "GateLoss",
    "GradientReducer",
    "Kept",
    "LossMeter",
    "average_gradients",
    "bootstrap_step",
    "check_finite",
    "distill_step",
    "freeze_trunk",
    "gate_step",
    "labels_step",
    "make_teacher",
    "not_finite",
    "random_widths",
    "recalibrate",
    "update_teacher",
    "warmed_decay",
]
