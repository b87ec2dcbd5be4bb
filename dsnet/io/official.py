"""Checkpoints of the official DS-MBNet code: read without running anything in them, converted."""

import argparse
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dsnet.errors import InputError
from dsnet.io.weights import save
from dsnet.models.architecture import Architecture, Stage
from dsnet.models.mbnet import MBNetStem, SeparableBlock
from dsnet.models.metadata import Metadata
from dsnet.models.network import DSNet
from dsnet.models.registry import ARCHITECTURES
from dsnet.nn.layers import SlimBatchNorm2d

logger = logging.getLogger(__name__)

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)

CROP = 0.875  # of the shorter side, as the official code evaluates
STRIDES = (2, 1, 2, 2, 2, 2)  # of the stem, then of each stage: no key tells them

_BLOCK = r"blocks\.(?P<stage>\d+)\.(?P<block>first_block|residual_blocks\.(?P<index>\d+))"
_STATISTICS = re.compile(
    rf"(?:{_BLOCK}\.)?(?P<norm>bn1|bn2)\.aux_bn\.(?P<entry>\d+)\.running_(?:mean|var)"
)
_DEPTHWISE = re.compile(rf"{_BLOCK}\.conv_dw\.weight")
_SLIMMING = re.compile(rf"{_BLOCK}\.gate\.gate\.0\.weight")


def import_official(
    checkpoint: str | Path,
    directory: str | Path,
    *,
    resolution: int = 224,
    routes: Sequence[int] | None = None,
) -> DSNet:
    """Convert an official DS-MBNet checkpoint into a model directory; returns the model.

    checkpoint: a .safetensors file of the official state dict, or what torch.save wrote: the state
        dict itself, or wrapped under `state_dict` and `state_dict_ema`, of which the moving average
        is taken. Keys may be prefixed with `module.`.
    resolution: height and width of its images, in pixels; normalisation and crop are those usual on
        ImageNet.
    routes: the sub-networks that the outputs of its slimming head stand for; the first ones, as
        in the official code, by default.

    Widths, blocks, routes and classes are read off keys and shapes. Raises InputError for a file
    that holds anything but tensors and plain values, and, all of them named at once, for keys and
    shapes that do not fit together. Nothing is written then.
    """
    try:
        state = read_state(Path(checkpoint))
        model = from_state(infer(state, resolution, routes), state)
    except InputError as error:
        raise InputError(f"{checkpoint}: {error}") from error
    save(model, directory)
    return model


def read_state(path: Path) -> dict[str, Tensor]:
    """The official state dict in a file, unwrapped, its keys without `module.`."""
    if not path.is_file():
        raise InputError("expected a checkpoint file, found none there")
    found = _read(path)
    if isinstance(found, Mapping):
        for wrapper in ("state_dict_ema", "state_dict"):
            if isinstance(found.get(wrapper), Mapping):
                logger.info("%s: taking %s", path, wrapper)
                found = found[wrapper]
                break
    if not isinstance(found, Mapping):
        raise InputError(f"expected a state dict, found a {type(found).__name__}")
    if strangers := [str(key) for key, value in found.items() if not isinstance(value, Tensor)]:
        raise InputError(f"expected a state dict of tensors, found others: {', '.join(strangers)}")
    return {str(key).removeprefix("module."): value for key, value in found.items()}


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise InputError(f"expected a safetensors file: {error}") from error
    try:
        # The official trainer keeps its arguments beside the weights, in a Namespace; that class
        # can do no more than hold them.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle fails in as many ways as there are bytes
        if blocked := re.search(r"GLOBAL (\S+)", str(error)):
            raise InputError(
                f"expected tensors and plain values alone, found {blocked[1]}; nothing was run: "
                "save the state dict by itself"
            ) from error
        raise InputError(
            "expected a .safetensors file or what torch.save wrote, found one that cannot be read "
            f"as either ({type(error).__name__})"
        ) from error


def infer(
    state: Mapping[str, Tensor], resolution: int = 224, routes: Sequence[int] | None = None
) -> Architecture:
    """The architecture that the keys and shapes of an official state dict tell of.

    Where they contradict each other the majority is taken, so that `from_state` can name the rest.
    """
    # Rows of the table: 0 the stem, s + 1 stage s. Each tensor votes for what its shape says.
    widths: defaultdict[tuple[int, int], Counter[int]] = defaultdict(Counter)
    kernels: defaultdict[int, Counter[int]] = defaultdict(Counter)
    blocks: dict[int, int] = {}
    heads: dict[int, int] = {}
    for key, tensor in state.items():
        if match := re.match(_BLOCK, key):
            stage, index = int(match["stage"]), match["index"]
            blocks[stage] = max(blocks.get(stage, 1), 1 if index is None else int(index) + 2)
        if (match := _STATISTICS.fullmatch(key)) and tensor.dim() == 1:
            widths[_row(match), int(match["entry"])][len(tensor)] += 1
        elif (match := _DEPTHWISE.fullmatch(key)) and tensor.dim() == 4:
            kernels[int(match["stage"]) + 1].update(tensor.shape[2:])
        elif (match := _SLIMMING.fullmatch(key)) and tensor.dim() == 4:
            heads[int(match["stage"])] = tensor.shape[0]
        elif key == "conv_stem.weight" and tensor.dim() == 4:
            kernels[0].update(tensor.shape[2:])
    classes = Counter(len(t) for k, t in state.items() if k.startswith("classifier.") and t.dim())
    if not widths or not classes:
        raise InputError(
            "expected the keys of an official DS-MBNet (conv_stem.weight, blocks.0.first_block…, "
            f"classifier.weight), found {', '.join(list(state)[:3]) or 'none'}…"
        )
    if set(blocks) != set(range(len(STRIDES) - 1)):
        raise InputError(f"expected stages 0 to {len(STRIDES) - 2}, found {sorted(blocks)}")

    def row(number: int) -> Stage:
        entries = sorted(key for key in widths if key[0] == number)
        return Stage(
            tuple(_winner(widths[key]) for key in entries),
            blocks=blocks.get(number - 1, 1),
            stride=STRIDES[number],
            kernel=_winner(kernels[number]) if kernels[number] else 3,
            gated=number - 1 in heads,
        )

    stem, *stages = (row(number) for number in range(len(STRIDES)))
    if not heads:
        raise InputError("expected a slimming head (blocks.N.first_block.gate.gate.0.weight)")
    chosen = [tuple(range(n)) if routes is None else tuple(routes) for n in heads.values()]
    table = ARCHITECTURES["ds_mbnet"]
    found = replace(
        table,
        stem=stem,
        stages=tuple(stages),
        num_classes=_winner(classes),
        dropout=0.0,  # nothing in a checkpoint tells it; this is the official code's own default
        routes=tuple(chosen),
        resolution=resolution,
    )
    same = (found.stem, found.stages) == (table.stem, table.stages)
    return found if same else replace(found, name="ds_mbnet_imported")


def _winner(votes: Counter[int]) -> int:
    return votes.most_common(1)[0][0]


def _row(match: re.Match[str]) -> int:
    """Which channel list a BatchNorm's statistics follow: 0 the stem's, s + 1 stage s's."""
    if match["stage"] is None:
        return 0
    follows_input = match["index"] is None and match["norm"] == "bn1"
    return int(match["stage"]) + (not follows_input)


def from_state(architecture: Architecture, state: Mapping[str, Tensor]) -> DSNet:
    """A network with the weights of an official state dict, in eval mode.

    Raises InputError naming every key that is missing, left over, or of another shape.
    """
    metadata = Metadata(resolution=architecture.resolution, crop=CROP)
    with torch.device("meta"):  # nothing is allocated before the file is known to fit
        model = DSNet(architecture, metadata)
    expected = dict(official_tensors(model))
    counters = _counters(expected)
    problems = [
        *(f"{key} is missing" for key in [*expected, *counters] if key not in state),
        *(f"{key} is left over" for key in state if key not in expected and key not in counters),
        *(
            f"{key} should be {_shape(tensor)}, is {_shape(state[key])}"
            for key, tensor in expected.items()
            if key in state and state[key].shape != tensor.shape
        ),
        *(
            f"{key} should be floating point of 16 bits or more, is {state[key].dtype}"
            for key in expected
            if key in state and state[key].dtype not in _FLOATS
        ),
    ]
    if problems:
        raise InputError(f"does not fit together: {'; '.join(problems)}")
    model = model.to_empty(device="cpu").eval()
    with torch.no_grad():
        for key, tensor in official_tensors(model):
            tensor.copy_(state[key])
    return model


def _counters(expected: Mapping[str, Tensor]) -> list[str]:
    """BatchNorm's batch counters: in the file, but no use to fixed-momentum averages."""
    means = (key for key in expected if key.endswith(".running_mean"))
    return [key.removesuffix("running_mean") + "num_batches_tracked" for key in means]


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"


def official_tensors(model: DSNet) -> Iterator[tuple[str, Tensor]]:
    """Each key of the official state dict, batch counters aside, and the view of `model` it fills.

    The views are of the official shapes; together they are the whole of the model's state.
    """
    stem = model.stem
    assert isinstance(stem, MBNetStem)
    yield "conv_stem.weight", stem.conv.weight
    yield from _batchnorm("bn1", stem.bn)
    for stage, blocks in enumerate(model.stages):
        for index, block in enumerate(blocks.children()):
            assert isinstance(block, SeparableBlock)
            place = "first_block" if index == 0 else f"residual_blocks.{index - 1}"
            yield from _block(f"blocks.{stage}.{place}", block)
    for name, parameter in model.head.named_parameters():
        yield f"{model.head.place}.{name}", parameter


def _block(prefix: str, block: SeparableBlock) -> Iterator[tuple[str, Tensor]]:
    yield f"{prefix}.conv_dw.weight", block.depthwise.weight
    yield from _batchnorm(f"{prefix}.bn1", block.bn1)
    for name in ("reduce", "expand"):
        linear = getattr(block.gate, name)
        yield f"{prefix}.gate.conv_{name}.weight", linear.weight[..., None, None]
        yield f"{prefix}.gate.conv_{name}.bias", linear.bias
    if block.gate.slimming is not None:
        assert isinstance(block.gate.slimming, nn.Linear)
        yield f"{prefix}.gate.gate.0.weight", block.gate.slimming.weight[..., None, None]
    yield f"{prefix}.conv_pw.weight", block.pointwise.weight
    yield from _batchnorm(f"{prefix}.bn2", block.bn2)


def _batchnorm(prefix: str, norm: SlimBatchNorm2d) -> Iterator[tuple[str, Tensor]]:
    """Private statistics of each width; the affine pair lies with the widest."""
    for entry, width in enumerate(norm.widths):
        mean, var = norm.statistics(width)
        yield f"{prefix}.aux_bn.{entry}.running_mean", mean
        yield f"{prefix}.aux_bn.{entry}.running_var", var
    widest = len(norm.widths) - 1
    yield f"{prefix}.aux_bn.{widest}.weight", norm.weight
    yield f"{prefix}.aux_bn.{widest}.bias", norm.bias
