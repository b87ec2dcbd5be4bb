"""The training algorithms of the paper, in plain torch."""

from dsnet.training.bootstrap import SupernetStep, bootstrap_step, random_widths
from dsnet.training.distributed import GradientReducer, average_gradients
from dsnet.training.ema import make_teacher, update_teacher, warmed_decay
from dsnet.training.finite import LossMeter, Snapshot, check_finite, not_finite
from dsnet.training.gate import GateLoss, freeze_trunk, gate_step
from dsnet.training.passes import CompiledPasses, Passes, compiled_passes, prepare_compiler
from dsnet.training.recalibrate import recalibrate
from dsnet.training.starting_point import WeightTransfer, freeze, parameters_of, start_from

__all__ = [
    "CompiledPasses",
    "GateLoss",
    "GradientReducer",
    "LossMeter",
    "Passes",
    "Snapshot",
    "SupernetStep",
    "WeightTransfer",
    "average_gradients",
    "bootstrap_step",
    "check_finite",
    "compiled_passes",
    "freeze",
    "freeze_trunk",
    "gate_step",
    "make_teacher",
    "not_finite",
    "parameters_of",
    "prepare_compiler",
    "random_widths",
    "recalibrate",
    "start_from",
    "update_teacher",
    "warmed_decay",
]
