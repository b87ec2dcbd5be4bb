"""A model as a folder: weights.safetensors, model.json and the checksums of both; no pickle."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file

from dsnet.architecture import Architecture
from dsnet.atomic import atomic_directory
from dsnet.errors import InputError
from dsnet.metadata import Metadata
from dsnet.network import DSNet

WEIGHTS, MODEL, SUMS = "weights.safetensors", "model.json", "SHA256SUMS"
FORMAT = 1


def save(model: DSNet, directory: str | Path) -> Path:
    """Write `model` as a model directory, whole or not at all.

    A model directory that was there is replaced. Raises InputError if anything else is in the way.
    """
    directory = Path(directory)
    if directory.exists() and not (directory / MODEL).is_file() and not _is_empty(directory):
        raise InputError(
            f"{directory}: expected a model directory to replace or an empty folder, found "
            "something else there; choose another place"
        )
    with atomic_directory(directory) as temporary:
        write(model, temporary)
        write_sums(temporary)
    return directory


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def write(model: DSNet, directory: Path) -> None:
    """Write weights and description into an existing folder, without checksums."""
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    save_file(state, directory / WEIGHTS)
    description = {
        "format": FORMAT,
        "architecture": model.architecture.to_dict(),
        "metadata": asdict(model.metadata),
    }
    (directory / MODEL).write_text(json.dumps(description, indent=1) + "\n")


def write_sums(directory: Path) -> None:
    """Write SHA256SUMS over every other file of the folder; `sha256sum -c` reads it too."""
    files = sorted(p for p in directory.rglob("*") if p.is_file() and p.name != SUMS)
    lines = [f"{sha256(p)}  {p.relative_to(directory).as_posix()}\n" for p in files]
    (directory / SUMS).write_text("".join(lines))


def load(directory: str | Path, device: str | torch.device = "cpu") -> DSNet:
    """Read a model directory; the model comes in eval mode.

    Raises InputError if something is missing, damaged or of another format. Nothing in the folder
    is executed.
    """
    directory = Path(directory)
    verify(directory)
    description = _read_description(directory / MODEL)
    model = DSNet(
        Architecture.from_dict(description["architecture"]), _metadata(description["metadata"])
    )
    try:
        state = load_file(directory / WEIGHTS, device=str(device))
    except safetensors.SafetensorError as error:
        raise InputError(f"{directory / WEIGHTS} is not a safetensors file: {error}") from error
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        problems = " ".join(str(error).split())
        raise InputError(
            f"{directory / WEIGHTS} does not fit its model.json: {problems}"
        ) from error
    return model.to(device).eval()


def verify(directory: Path) -> None:
    """Check every file against SHA256SUMS. Raises InputError naming the first that differs."""
    for name in (SUMS, MODEL, WEIGHTS):
        if not (directory / name).is_file():
            raise InputError(f"{directory} is not a model directory: it has no {name}")
    sums: dict[str, str] = {}
    for line in (directory / SUMS).read_text(errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        sums[name] = digest
    for name in (MODEL, WEIGHTS, *sums):
        path = directory / name
        if name not in sums or not path.is_file() or sha256(path) != sums[name]:
            raise InputError(
                f"{path} does not match {SUMS}: the file is damaged or was changed; pull it again"
            )


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_description(path: Path) -> dict[str, Any]:
    parts = {}
    try:
        description = json.loads(path.read_text())
        found = description["format"]
        if found == FORMAT:
            parts = {key: dict(description[key]) for key in ("architecture", "metadata")}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a model description: {error!r}") from error
    if not parts:
        raise InputError(f"{path} has format {found}, this reads {FORMAT}")
    return parts


def _metadata(data: dict[str, Any]) -> Metadata:
    try:
        return Metadata(**{key: _tuples(value) for key, value in data.items()})
    except TypeError as error:
        raise InputError(f"model.json's metadata is not readable: {error}") from error


def _tuples(value: Any) -> Any:
    """JSON knows only lists."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
