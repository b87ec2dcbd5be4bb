"""What each operator of DS-MBNet and MobileNetV1 is there for, told from its type and shapes."""

from collections import Counter
from math import prod

from jobs.bench.onnx_profile import Operator, Run

STEM = "stem convolution"
DEPTHWISE = "depthwise convolutions"
POINTWISE = "pointwise convolutions"
ATTENTION = "attention's products"
CLASSIFIER = "classifier"
OTHER = "other"

# As ONNX Runtime names them after fusion: Sigmoid and Mul are one QuickGelu, and a convolution's
# own activation is part of it.
_TYPES = {
    "Transpose": "pixels",
    "Cast": "pixels",
    "Sub": "pixels",
    "QuickGelu": "SiLU",
    "Mul": "product with attention",
    "GlobalAveragePool": "pooling",
    # Convolutions run in a layout of their own, blocks of channels; most else does not.
    "ReorderInput": "reordering",
    "ReorderOutput": "reordering",
    "Flatten": CLASSIFIER,
    "Gemm": CLASSIFIER,
    "Shape": "widths",
    "Expand": "widths",
    "Gather": "widths",  # what each costs
}
_ROLES = {"gate": "gate", "group": "grouping"}  # how the exporter begins a node's name
_CONVOLUTIONS = (STEM, DEPTHWISE, POINTWISE, ATTENTION)

KINDS = (*_CONVOLUTIONS, *dict.fromkeys(_TYPES.values()), *_ROLES.values(), OTHER)


def kind(operator: Operator) -> str:
    """One of KINDS; the gate is its slimming head and the choice, attention is apart."""
    role = operator.name.partition("_")[0]
    if role in _ROLES:
        return _ROLES[role]
    if operator.type in ("Conv", "FusedConv"):
        return _convolution(operator)
    return _TYPES.get(operator.type, OTHER)


def _convolution(operator: Operator) -> str:
    inputs, weight = operator.inputs[:2]
    if weight[1] < inputs[1]:
        return DEPTHWISE
    if prod(weight[2:]) > 1:
        return STEM
    # Attention's are linear layers on pooled channels, an image of one pixel.
    return POINTWISE if prod(operator.outputs[0][2:]) > 1 else ATTENTION


def product(operator: Operator) -> tuple[int, int, int]:
    """A convolution's rows, inputs and outputs as a matrix product; rows are pixels of images.

    Channels are those that run: where the runtime blocks them by 16, a multiple of that.
    """
    images, outputs, *size = operator.outputs[0]
    return images * prod(size), prod(operator.inputs[1][1:]), outputs


def times(run: Run) -> Counter[str]:
    """Microseconds of each kind; a branch that ran is what ran inside it."""
    sums: Counter[str] = Counter()
    for operator in run.operators:
        if not operator.taken:
            sums[kind(operator)] += operator.time
    return sums
