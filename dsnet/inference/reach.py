"""How far a network looks: which pixels around it decide what a pixel becomes."""

from collections.abc import Sequence

from dsnet.errors import InputError
from dsnet.inference.fold import End, Folded, Trunk, fold
from dsnet.models.network import DSNet
from dsnet.nn.plan import (
    Attention,
    Conv,
    GlobalAverage,
    Layer,
    Linear,
    MaxPool,
    PixelShuffle,
    Residual,
    unknown_layer,
)
from dsnet.runtime.tiles import Surroundings


def surroundings(model: DSNet) -> Surroundings | None:
    """For `dsnet.runtime.tiles`; None where outputs are no pictures."""
    factor = model.head.factor
    return Surroundings(reach(fold(model, width=0)), factor) if factor else None


def reach(folded: Folded) -> int:
    """Pixels to each side that an output pixel depends on; what gates see of the rest apart.

    Raises InputError for a network in which it depends on all of them, by attention or pooling.
    """
    return _of_trunk(folded.trunk, 1, 0)


def _of_trunk(trunk: Trunk, stride: int, so_far: int) -> int:
    stride, so_far = _after(trunk.layers, stride, so_far)
    if isinstance(trunk.end, End):
        return _after(trunk.end.layers, stride, so_far)[1]
    if trunk.end.attention is not None:
        raise _everything()
    return max(_of_trunk(branch, stride, so_far) for branch in trunk.end.branches)


def _after(layers: Sequence[Layer], stride: int, so_far: int) -> tuple[int, int]:
    """(stride, reach) behind some layers; stride: pixels from one place of a plane to the next."""
    for layer in layers:
        match layer:
            case Conv():
                so_far += layer.padding * stride
                stride *= layer.stride
            case MaxPool():
                so_far += stride
                stride *= 2
            case PixelShuffle():
                # A place becomes factor x factor pixels, the last of which is that far from it.
                so_far += stride - stride // layer.factor
                stride //= layer.factor
            case Residual():
                body = _after(layer.body, stride, so_far)
                stride, so_far = body[0], max(body[1], _after(layer.shortcut, stride, so_far)[1])
            case Attention() | GlobalAverage() | Linear():
                raise _everything()
            case _:
                unknown_layer(layer)
    return stride, so_far


def _everything() -> InputError:
    return InputError("expected a network whose pixels depend on those nearby, found one of all")
