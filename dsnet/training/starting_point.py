"""Fine-tuning: a network that starts from another's weights, and which of its parts learn."""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dsnet.errors import InputError
from dsnet.models.network import DSNet
from dsnet.models.registry import family
from dsnet.nn.layers import SlimBatchNorm2d

TRUNK = "trunk"
"""Everything but the head, as a name for `freeze`."""

_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class WeightTransfer:
    """What became of each tensor of a network that was started from another.

    Slimming heads are not among them: stage II trains them, whatever stage I starts from.
    """

    whole: tuple[str, ...]
    """Copied as they are."""
    part: tuple[str, ...]
    """Of other widths: copied as far as both go, each with both shapes."""
    anew: tuple[str, ...]
    """As they were initialised."""

    def __str__(self) -> str:
        """One line that names every tensor that does not fit whole."""
        count = len(self.whole) + len(self.part) + len(self.anew)
        text = f"{len(self.whole)} of {count} tensors whole"
        for how, names in (("in part", self.part), ("anew", self.anew)):
            text += f", {len(names)} {how}" + (f" ({', '.join(names)})" if names else "")
        return text


@torch.no_grad()
def start_from(model: DSNet, source: DSNet) -> WeightTransfer:
    """Give `model` the weights and statistics of `source`, in place, as far as they fit.

    Slim widths are leading slices of wide ones, so networks of other widths share leading slices:
    these are copied, and what is left keeps its initialisation. BatchNorm statistics are copied
    width by width, each from the same width of `source`, or the nearest. The head starts anew where
    answers mean something else: other classes, another task.

    Raises InputError for a source that has nothing in common with `model`: other blocks.
    """
    ours, theirs = family(model.architecture.family), family(source.architecture.family)
    if (ours.stem, ours.block) != (theirs.stem, theirs.block):
        raise InputError(
            f"expected a network of the blocks of {model.architecture.name} "
            f"({model.architecture.family}), found {source.architecture.name} "
            f"({source.architecture.family}): they have nothing in common"
        )
    head = None if _same_answers(model, source) else f"{model.head.place}."
    norms = dict(source.named_modules())
    tensors = source.state_dict()
    whole, part, anew = [], [], []
    for name, tensor in model.state_dict().items():
        if ".slimming." in name:
            continue
        owner, _, kind = name.rpartition(".")
        layer, there = model.get_submodule(owner), norms.get(owner)
        found = None if head and name.startswith(head) else tensors.get(name)
        if found is None or not _alike(tensor, found):
            anew.append(name)
            continue
        if isinstance(layer, SlimBatchNorm2d) and kind in _STATISTICS:
            assert isinstance(there, SlimBatchNorm2d)
            same = layer.widths == there.widths
            _copy_statistics(layer, there, _STATISTICS.index(kind))
        else:
            same = tensor.shape == found.shape
            _copy_slices(tensor, found)
        if same:
            whole.append(name)
        else:
            part.append(f"{name} {_shape(found)} into {_shape(tensor)}")
    if not whole and not part:
        raise InputError(
            f"expected a network with layers of {model.architecture.name}, found "
            f"{source.architecture.name}: nothing of it fits"
        )
    return WeightTransfer(tuple(whole), tuple(part), tuple(anew))


def freeze(model: DSNet, parts: Iterable[str]) -> None:
    """Let `parts` of the network learn no more: their parameters have no gradient from now on.

    parts: beginnings of parameter names (`stem`, `stages.0`, `stages.3.0.gate`), or `trunk` for
    everything but the head. BatchNorm in a frozen part still takes the statistics of the images
    that it sees, as those of every width are recalibrated on them afterwards.
    Raises InputError for a part that is not there, and where nothing is left to learn.
    """
    for part in parts:
        for parameter in parameters_of(model, part):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(f"expected to leave a part that learns, found all of {', '.join(parts)}")


def parameters_of(model: DSNet, part: str) -> list[nn.Parameter]:
    """The parameters of one part, as `freeze` names them, slimming heads aside.

    Raises InputError, with the nearest names, for a part that is not there.
    """
    head = model.head.place
    named = [(n, p) for n, p in model.named_parameters() if ".slimming." not in n]
    if part == TRUNK:
        return [parameter for name, parameter in named if not _within(name, head)]
    chosen = [parameter for name, parameter in named if _within(name, part)]
    if not chosen:
        known = [TRUNK, *dict.fromkeys(part for name, _ in named for part in _beginnings(name))]
        near = ", ".join(difflib.get_close_matches(part, known, n=3, cutoff=0))
        raise InputError(
            f"expected trunk or the beginning of a parameter's name, found {part!r}; "
            f"the nearest are {near}"
        )
    return chosen


def _within(name: str, part: str) -> bool:
    return f"{name}.".startswith(f"{part}.")


def _beginnings(name: str) -> Iterator[str]:
    """stages.0.1.bn1.weight -> stages, stages.0, stages.0.1, …"""
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _same_answers(model: DSNet, source: DSNet) -> bool:
    """Whether an output of one network means what it means in the other."""
    if model.task.name != source.task.name or type(model.head) is not type(source.head):
        return False
    if not model.task.labelled:
        return True
    names = model.metadata.classes, source.metadata.classes
    same = names[0] == names[1] or not all(names)
    return same and model.architecture.num_classes == source.architecture.num_classes


def _alike(ours: Tensor, theirs: Tensor) -> bool:
    """Whether they differ by channels alone: a slice of a larger kernel is no smaller kernel."""
    return ours.dim() == theirs.dim() and ours.shape[2:] == theirs.shape[2:]


def _copy_slices(ours: Tensor, theirs: Tensor) -> None:
    both = tuple(slice(min(sizes)) for sizes in zip(ours.shape, theirs.shape, strict=True))
    ours[both] = theirs[both].to(ours.device)


def _copy_statistics(ours: SlimBatchNorm2d, theirs: SlimBatchNorm2d, which: int) -> None:
    """which: 0 for means, 1 for variances."""
    for width in ours.widths:
        nearest = min(theirs.widths, key=lambda other: abs(other - width))
        _copy_slices(ours.statistics(width)[which], theirs.statistics(nearest)[which])


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))
