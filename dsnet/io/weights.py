"""A model as a folder: weights.safetensors, model.json and the checksums of both; no pickle."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dsnet.errors import InputError
from dsnet.errors.text import line
from dsnet.io.description import (
    FORMAT,
    GATES,
    MODEL,
    WEIGHTS,
    architecture_of,
    metadata_of,
    read_description,
    verify,
)
from dsnet.io.files import atomic_directory, write_sums
from dsnet.io.tensors import check_fit, no_memory, outline, read_shapes, read_tensors
from dsnet.models.architecture import Architecture
from dsnet.models.network import DSNet
from dsnet.nn.gate import head_from
from dsnet.routing.budget import average_of
from dsnet.routing.target import Target
from dsnet.routing.tuned import TunedGate, at_budget, from_parts, put_heads, to_facts, to_tensors

_LOOK = re.compile(r"looks\.[0-9]{1,3}\.")

__all__ = [
    "GATES",
    "MODEL",
    "WEIGHTS",
    "check_tensors",
    "load",
    "load_gates",
    "read_description",
    "runs_at",
    "save",
    "verify",
    "write",
]


def save(model: DSNet, directory: str | Path, gates: Sequence[TunedGate] = ()) -> Path:
    """Write `model` as a model directory, whole or not at all.

    gates: those that `load` may put in for a budget, the one in place among them. A model directory
    that was there is replaced. Raises InputError if anything else is in the way, and for a model
    whose weights or statistics are not finite.
    """
    directory = Path(directory)
    if directory.exists() and not (directory / MODEL).is_file() and not _is_empty(directory):
        raise InputError(
            f"{directory}: expected a model directory to replace or an empty folder, found "
            "something else there; choose another place"
        )
    with atomic_directory(directory) as temporary:
        write(model, temporary, gates)
        write_sums(temporary)
    return directory


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def write(
    model: DSNet,
    directory: Path,
    gates: Sequence[TunedGate] = (),
    source: Mapping[str, str] | None = None,
) -> None:
    """Write weights and description into an existing folder, without checksums.

    source: where the model comes from, kept in the description. Raises InputError for tensors that
    are not finite, or not float32.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    check_tensors(state, "the model to save")
    save_file(state, directory / WEIGHTS)
    description = {
        "format": FORMAT,
        "architecture": model.architecture.to_dict(),
        "metadata": model.metadata.to_dict(),
        "gates": to_facts(gates),
        "runs_at": runs_at(model),
        "source": dict(source or {}),
    }
    if gates:
        heads = to_tensors(gates)
        check_tensors(heads, "the gates to save")
        save_file(heads, directory / GATES)
    text = json.dumps(description, indent=1, allow_nan=False)
    (directory / MODEL).write_text(text + "\n")


def runs_at(model: DSNet) -> dict[str, Any]:
    """What `model` does where nobody asks for a budget, for those who read model.json.

    gates_trained: whether its gates choose; where not, every image takes the widest route.
    average_madds: multiply-adds per image on held-out images; share: of the widest route's. Both
    None where that is not known.
    """
    average = average_of(model)
    share = None if average is None else average / model.madds(model.space.routes[-1])
    return {"gates_trained": model.gates_trained, "average_madds": average, "share": share}


def check_tensors(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise InputError, naming the first, for a tensor that is not finite or a negative variance.

    Floating-point ones have to be float32, as `load` makes them. where: what to say they are in.
    """
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        if tensor.dtype != torch.float32:
            raise InputError(
                f"{name} in {where}: expected float32, found {str(tensor.dtype)[6:]}; "
                "model.float() makes it so"
            )
        wrong, expected = ~tensor.isfinite(), "finite values"
        if name.endswith("running_var"):
            wrong, expected = wrong | (tensor < 0), "finite values of 0 or more"
        if count := int(wrong.sum()):
            raise InputError(
                f"{name} in {where}: expected {expected}, found {count:,} of {tensor.numel():,} "
                f"that are not, the first {float(tensor[wrong][0])}"
            )


def load(
    directory: str | Path,
    device: str | torch.device = "cpu",
    budget: Target | float | str | None = None,
) -> DSNet:
    """Read a model directory; the model comes in eval mode.

    budget: average multiply-adds that it spends where nobody asks for anything else, as
    `dsnet.routing.budget.price_for` reads it, with the gate that was trained nearest to it;
    None: as the model was tuned. Raises InputError if something is missing, damaged, not finite or
    of another format, and for a budget out of range. Nothing in the folder is executed.
    """
    directory = Path(directory)
    verify(directory)
    model = _filled(directory, read_description(directory))
    if budget is not None:
        model = at_budget(model, load_gates(directory), budget)
    return model.to(device).eval()


def load_gates(directory: str | Path) -> list[TunedGate]:
    """The gates of a model directory that a budget chooses from, none if there is but one.

    Raises InputError for a damaged file and for numbers that are not finite.
    """
    directory = Path(directory)
    facts = read_description(directory)["gates"]
    if not facts:
        return []
    if not (path := directory / GATES).is_file():
        raise InputError(f"{directory} is not a model directory: it has no {GATES}")
    shapes = read_shapes(path)
    with _fitting(path), no_memory():
        from_parts(facts, shapes)
        check_fit({name: torch.empty(value.shape) for name, value in shapes.items()}, shapes)
    tensors = _tensors(path)
    with _fitting(path):
        return from_parts(facts, tensors)


def _filled(directory: Path, description: Mapping[str, Any]) -> DSNet:
    """The network of a description with its weights; nothing is allocated before they fit it.

    A slimming head is of the kind that its weights are of.
    """
    path = directory / MODEL
    architecture, metadata = architecture_of(description, path), metadata_of(description, path)
    try:
        wanted = outline(architecture, metadata)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if len(metadata.classes) > architecture.num_classes:
        raise InputError(
            f"{path}: expected names for up to {architecture.num_classes:,} classes, found "
            f"{len(metadata.classes):,}"
        )
    path = directory / WEIGHTS
    shapes = read_shapes(path)
    with _fitting(path):
        with no_memory():
            put_heads(wanted, _heads(architecture, shapes))
        check_fit(wanted.state_dict(), shapes)
    state = _tensors(path)
    with _fitting(path):
        model = DSNet(architecture, metadata)
        put_heads(model, _heads(architecture, state))
        model.load_state_dict(state)
    return model


@contextmanager
def _fitting(path: Path) -> Iterator[None]:
    """Within, what goes wrong is that the tensors of `path` are not those of its description."""
    try:
        yield
    except (RuntimeError, KeyError, ValueError, InputError) as error:
        raise InputError(f"{path} does not fit its {MODEL}: {line(error)}") from error


def _heads(architecture: Architecture, state: Mapping[str, Tensor]) -> list[nn.Module]:
    """The slimming heads of the gates, and of the looks that there are weights of."""
    prefixes = [f"stages.{stage}.0.gate.slimming." for stage in architecture.gates]
    looks = {int(name.split(".")[1]) for name in state if _LOOK.match(name)}
    prefixes += [f"looks.{index}." for index in range(len(looks))]
    return [
        head_from({n.removeprefix(prefix): state[n] for n in state if n.startswith(prefix)})
        for prefix in prefixes
    ]


def _tensors(path: Path) -> dict[str, Tensor]:
    tensors = read_tensors(path)
    check_tensors(tensors, str(path))
    return tensors
