"""What a model directory says of itself: its checksums, and model.json within bounds. No torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsnet.errors import InputError
from dsnet.errors.checks import check_count
from dsnet.errors.text import line, shown
from dsnet.io.files import SUMS, first_damaged, read_small
from dsnet.models.architecture import Architecture
from dsnet.models.metadata import Metadata

WEIGHTS, GATES, MODEL = "weights.safetensors", "gates.safetensors", "model.json"
FORMAT = 1
MOST_BYTES = 2**24  # a million class names, or the curves of a thousand gates
MOST_GATES = 1000
# architecture.stages[0].channels[0] is five deep, and nothing is deeper. Python's reader by itself
# gives up at about a thousand.
MOST_DEPTH = 16


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
    """What model.json says: architecture, metadata, gates, runs_at, and source, where it is from.

    Dicts, lists and plain values, of which `architecture_of`, `metadata_of` and
    `dsnet.routing.tuned.from_parts` make more. Raises InputError for a file that is no
    description, or larger or nested deeper than any.
    """
    path = Path(directory, MODEL)
    content = read_small(path, MOST_BYTES, "a model description")
    try:
        description = json.loads(content.decode(), parse_constant=_refuse_constant)
        _check_depth(description)
        found = description["format"]
        parts = {} if found != FORMAT else _parts(description)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} is not a model description: {type(error).__name__}: {line(error)}"
        ) from error
    if not parts:
        raise InputError(f"{path} has format {shown(found)}, this reads {FORMAT}")
    return parts


def _parts(description: Mapping[str, Any]) -> dict[str, Any]:
    objects = ("architecture", "metadata", "runs_at", "source")
    parts = {key: _dict(key, description[key]) for key in objects}
    check_count("gates", description["gates"], MOST_GATES)
    return {**parts, "gates": description["gates"]}


def architecture_of(description: Mapping[str, Any], path: Path) -> Architecture:
    """The network that a description is of. path: of model.json, for errors.

    Raises InputError for what is missing, mistyped or out of bounds.
    """
    try:
        return Architecture.from_dict(description["architecture"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def metadata_of(description: Mapping[str, Any], path: Path) -> Metadata:
    """What a description says of images and classes, as `architecture_of`."""
    try:
        return Metadata(**{key: _tuples(value) for key, value in description["metadata"].items()})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except TypeError as error:
        raise InputError(f"{path}: its metadata is not readable: {line(error)}") from error


def _dict(key: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{key} is no object")
    return value


def _check_depth(value: object) -> None:
    """Raise ValueError for lists and dicts that are nested deeper than `MOST_DEPTH`."""
    level: list[object] = [value]
    for _ in range(MOST_DEPTH + 1):
        inner: list[object] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        if not inner:
            return
        level = inner
    raise ValueError(f"nested deeper than {MOST_DEPTH} levels")


def _refuse_constant(name: str) -> None:
    """JSON knows no NaN and no Infinity; Python's reader takes them."""
    raise ValueError(f"{name} is no number")


def _tuples(value: Any) -> Any:
    """JSON knows only lists."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
