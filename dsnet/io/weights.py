"""A model as a folder: weights.safetensors, model.json and the checksums of both; no pickle."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dsnet.errors import InputError
from dsnet.files import SUMS, atomic_directory, first_damaged, write_sums
from dsnet.models.architecture import Architecture
from dsnet.models.metadata import Metadata
from dsnet.models.network import DSNet
from dsnet.nn.gate import head_from
from dsnet.routing.budget import average_of
from dsnet.routing.target import Target
from dsnet.routing.tuned import TunedGate, at_budget, from_parts, put_heads, to_facts, to_tensors

WEIGHTS, GATES, MODEL = "weights.safetensors", "gates.safetensors", "model.json"
FORMAT = 1


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
    are not finite.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    check_tensors(state, "the model to save")
    save_file(state, directory / WEIGHTS)
    description = {
        "format": FORMAT,
        "architecture": model.architecture.to_dict(),
        "metadata": asdict(model.metadata),
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

    where: what to say they are in.
    """
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
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
    description = read_description(directory)
    model = DSNet(
        Architecture.from_dict(description["architecture"]),
        _metadata(description["metadata"], directory / MODEL),
    )
    _fill(model, directory / WEIGHTS)
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
    tensors = _tensors(directory / GATES)
    try:
        return from_parts(facts, tensors)
    except InputError as error:
        raise InputError(f"{directory / MODEL}: {error}") from error


def _fill(model: DSNet, path: Path) -> None:
    """Read the weights; a slimming head is of the kind that its weights are of."""
    state = _tensors(path)
    try:
        heads = []
        for stage in model.architecture.gates:
            prefix = f"stages.{stage}.0.gate.slimming."
            names = [name for name in state if name.startswith(prefix)]
            heads.append(head_from({name.removeprefix(prefix): state[name] for name in names}))
        put_heads(model, heads)
        model.load_state_dict(state)
    except (RuntimeError, KeyError, ValueError, InputError) as error:
        problems = " ".join(str(error).split())
        raise InputError(f"{path} does not fit its model.json: {problems}") from error


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors = load_file(path)
    except safetensors.SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file: {error}") from error
    check_tensors(tensors, str(path))
    return tensors


def verify(directory: Path) -> None:
    """Check every file against SHA256SUMS. Raises InputError naming the first that differs."""
    for name in (SUMS, MODEL, WEIGHTS):
        if not (directory / name).is_file():
            raise InputError(f"{directory} is not a model directory: it has no {name}")
    if (damaged := first_damaged(directory, (MODEL, WEIGHTS))) is not None:
        raise InputError(
            f"{directory / damaged} does not match {SUMS}: the file is damaged or was changed; "
            "pull it again"
        )


def read_description(directory: str | Path) -> dict[str, Any]:
    """What model.json says: architecture, metadata, gates, and where the model comes from.

    The values are plain JSON, unchecked. Raises InputError for a file that is no description.
    """
    path = Path(directory, MODEL)
    parts: dict[str, Any] = {}
    try:
        description = json.loads(path.read_text(), parse_constant=_refuse_constant)
        found = description["format"]
        if found == FORMAT:
            parts = {key: dict(description[key]) for key in ("architecture", "metadata")}
            parts["gates"] = list(description.get("gates", ()))
            parts["source"] = dict(description.get("source", {}))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a model description: {error!r}") from error
    if not parts:
        raise InputError(f"{path} has format {found}, this reads {FORMAT}")
    return parts


def _refuse_constant(name: str) -> None:
    """JSON knows no NaN and no Infinity; Python's reader takes them."""
    raise ValueError(f"{name} is no number")


def _metadata(data: dict[str, Any], path: Path) -> Metadata:
    try:
        return Metadata(**{key: _tuples(value) for key, value in data.items()})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (TypeError, OverflowError) as error:
        raise InputError(f"{path}: its metadata is not readable: {error}") from error


def _tuples(value: Any) -> Any:
    """JSON knows only lists."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
