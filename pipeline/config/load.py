"""From a YAML file and dotted flags to a Config, and what is wrong with them in one line."""

import difflib
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from dsnet.errors import InputError
from dsnet.errors.text import LONGEST_LINE, shown
from dsnet.io.files import read_small
from dsnet.routing.target import EXPECTED, Target
from pipeline.config import dialect
from pipeline.config.recipe import MAPPING, NAME
from pipeline.config.schema import Config

MOST_BYTES = 2**18  # of a file; the longest of ours has 4,000
MOST_ERRORS = 10  # that are said at once
LONGEST_NAME = 100  # characters of a field's that a message repeats

# What tuples of these are, and whether of any length.
_SEVERAL = {
    (str, True): "names such as [one, two]",
    (int, True): "whole numbers such as [0, 1, 2]",
    (int, False): "or two such as [2, 8]",
    (float, True): "numbers such as [0.3, 0.5]",
    (float, False): "two numbers such as [0.08, 1.0]",
}


class Field(NamedTuple):
    """One field of the configuration, for flags and their help."""

    name: str
    """Dotted: `gate.epochs`."""
    type: str
    """In words: `a whole number, at least 1`."""
    default: str
    """As YAML."""
    description: str


def fields() -> Iterator[Field]:
    """Every field of the configuration, in the order in which it is documented."""
    defaults = Config().as_dict()
    for name, info in _leaves(Config):
        default: Any = defaults
        for part in name.split("."):
            default = default[part]
        yield Field(
            name,
            _describe(info),
            dialect.dump_line(default),
            _one_line(info.description or ""),
        )


def load_config(path: str | Path | None, overrides: Mapping[str, str] | None = None) -> Config:
    """The configuration in `path` (defaults alone if None), changed by dotted `overrides`.

    `overrides`: `{"gate.epochs": "5"}`, texts as given on a command line, read as YAML scalars.
    Raises InputError in one line that names the field, what was expected, what was found and where.
    """
    values = _read(Path(path)) if path is not None else {}
    flags = dict(overrides or {})
    for name, text in flags.items():
        _put(values, name, text)
    return config_from_dict(values, str(path) if path is not None else "config", flags)


def config_from_dict(
    values: Mapping[str, Any],
    where: str = "config",
    flags: Mapping[str, str] | None = None,
) -> Config:
    """The configuration in nested `values`; `where` they come from, and which are `flags`.

    Raises InputError as load_config does.
    """
    try:
        return Config.model_validate(dict(values))
    except ValidationError as error:
        errors = error.errors(include_url=False)[:MOST_ERRORS]
        lines = dict.fromkeys(_sentence(e, where, flags or {}) for e in errors)
        raise InputError("; ".join(line for line in lines if line)) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        values = dialect.parse(read_small(path, MOST_BYTES, "a YAML file").decode())
    except FileNotFoundError:
        raise InputError(f"{path}: expected a configuration file, found nothing there") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected a readable YAML file: {error}") from None
    except dialect.YAMLError as error:
        raise InputError(f"{path}: expected YAML: {_yaml_problem(error)}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected fields and sections (name: …), found {shown(values)}")
    return {str(key): value for key, value in values.items()}


def _yaml_problem(error: dialect.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = _one_line(getattr(error, "problem", None) or str(error))[:LONGEST_LINE]
    return f"{problem}, in line {mark.line + 1}, column {mark.column + 1}" if mark else problem


def _put(values: dict[str, Any], name: str, text: str) -> None:
    """Set the field that `name` means in nested `values`, reading `text` as its type asks."""
    info = dict(_leaves(Config)).get(name)
    if info is None:
        raise InputError(_unknown(name, f"--{name}", dict(_leaves(Config))))
    *sections, field = name.split(".")
    for part in sections:
        if values.get(part) is None:
            values[part] = {}
        values = values[part]
        if not isinstance(values, dict):
            return  # a section that is not one; validation says so
    values[field] = _from_flag(text, info)


def _from_flag(text: str, info: FieldInfo) -> Any:
    kinds = _alternatives(info.annotation)
    if type(None) in kinds and text in ("null", "~", ""):
        return None
    mapping = any(_is_mapping(kind) or get_origin(kind) is dict for kind in kinds)
    if mapping and text.strip().startswith("{"):
        return _parsed(text)
    names = any(get_origin(kind) is Literal for kind in kinds) and bool not in kinds
    if str in kinds or names:
        return text  # a name such as 2024 is a text however it looks
    several = any(get_origin(kind) is tuple for kind in kinds) and (int not in kinds or "," in text)
    if several and not text.strip().startswith("["):
        text = f"[{text}]"
    return _parsed(text)


def _parsed(text: str) -> Any:
    try:
        return dialect.parse(text)
    except dialect.YAMLError:
        return text  # and the type check says what was expected


# ------------------------------------------------------------------- fields, types and errors


def _leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for attribute, info in model.model_fields.items():
        name = info.alias or attribute  # `from` is a word of Python's
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _leaves(info.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, info


def _inner(leaves: dict[str, FieldInfo]) -> dict[str, FieldInfo]:
    """The leaves, and the fields of those that may be mappings, which have no flags."""
    found = dict(leaves)
    for name, info in leaves.items():
        for kind in filter(_is_mapping, _alternatives(info.annotation)):
            found |= _inner({f"{name}.{key}": each for key, each in kind.model_fields.items()})
    return found


def _is_mapping(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _alternatives(annotation: Any) -> list[Any]:
    """The types in `A | B | None`, without what annotates them."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        return [kind for part in get_args(annotation) for kind in _alternatives(part)]
    return [annotation]


def _bounds(info: FieldInfo) -> Iterator[Any]:
    """The constraints of a field, also those inside `Annotated[…] | None`."""
    yield from info.metadata
    pending = [info.annotation]
    while pending:
        annotation = pending.pop()
        for part in get_args(annotation):
            if get_origin(annotation) in (Union, types.UnionType, Annotated):
                pending.append(part)
            if isinstance(part, FieldInfo):
                yield from part.metadata
            elif isinstance(part, annotated_types.BaseMetadata):
                yield part


def _describe(info: FieldInfo) -> str:
    kinds = _alternatives(info.annotation)
    words = [_kind(kind) for kind in kinds if kind is not type(None)]
    for bound in _bounds(info):
        match bound:
            case annotated_types.Ge(ge=limit):
                words.append(f"at least {limit}")
            case annotated_types.Gt(gt=limit):
                words.append(f"above {limit}")
            case annotated_types.Le(le=limit):
                words.append(f"at most {limit}")
            case annotated_types.Lt(lt=limit):
                words.append(f"below {limit}")
            case annotated_types.MinLen():
                words.append("not empty")
    if pattern := next((b.pattern for b in info.metadata if hasattr(b, "pattern")), None):
        words.append(f"matching {pattern}")
    return ", ".join(words) + (", or null" if type(None) in kinds else "")


def _kind(kind: Any) -> str:
    if get_origin(kind) is Literal:
        values = get_args(kind)
        return "one of " * (len(values) > 1) + ", ".join(map(str, values))
    if get_origin(kind) is tuple:
        first, *others = get_args(kind)
        (each, *_) = _alternatives(first)
        return _SEVERAL.get((each, Ellipsis in others)) or f"a list, each {_kind(each)}"
    if get_origin(kind) is dict:
        return "a mapping such as {noise: 25}"
    if _is_mapping(kind):
        return f"a mapping of {', '.join(kind.model_fields)}"
    names = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a text",
    }
    return EXPECTED if kind is Target else names[kind]


def _sentence(error: ErrorDetails, where: str, flags: Mapping[str, str]) -> str:
    leaves = _inner(dict(_leaves(Config)))
    # The kind of a recipe is not part of its fields' names.
    parts = [str(part) for part in error["loc"] if part not in (MAPPING, NAME)]
    name = ".".join(part[:LONGEST_NAME] for part in parts[: dialect.MOST_DEPTH])
    if not parts and error["type"] == "value_error":
        return f"{where}: {error['ctx']['error']}"  # of fields that do not go together
    if error["type"] == "extra_forbidden":
        return _unknown(name, where, leaves)
    found_in = [n for n in leaves if name == n or name.startswith(n + ".")]
    known = max(found_in, key=len, default=None)
    if known is None:
        return (
            f"{where}: {name or 'the whole'}: expected a section with fields, "
            f"found {shown(error['input'])}"
        )
    if error["type"] == "default_factory_not_called":
        return ""  # follows from another field's error, which has its own sentence
    flag = next((n for n in flags if known == n or known.startswith(n + ".")), None)
    place = f"{where}: {known}" if flag is None else f"--{known}"
    if error["type"] == "value_error":
        return f"{place}: {error['ctx']['error']}"
    if error["type"] == "missing" and name == known:
        return f"{place}: expected {_describe(leaves[known])}, found none"
    found = flags[known] if known in flags else error["input"]
    return f"{place}: expected {_describe(leaves[known])}, found {shown(found)}"


def _unknown(name: str, where: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0)[0]
    return f"{where}: unknown field {name}; the nearest is {nearest}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
