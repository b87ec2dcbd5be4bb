"""The model registry: what is registered, how it is named, and how it comes back as a folder.

A version is an MLflow model (`mlflow_model`): a model directory, the files that make it one, and
tags that say where it comes from: `stage`, `fingerprint`, `parent`, `dataset_digest`,
`code_version`, its metrics, the `task` it is for and which metric is its `headline`, `content`, the
digest of its SHA256SUMS, and `mlflow_content`, that of those files. It is named
`models:/NAME/3`, `models:/NAME@champion`, or `models:/NAME`: the champion, else the latest.
"""

import difflib
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from pipeline.store import environment  # noqa: F401  before MLflow

# isort: split
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from dsnet.errors import InputError
from dsnet.errors.text import shown
from dsnet.inference.export import missing_extra
from dsnet.inference.retune import retune
from dsnet.io import weights
from dsnet.io.files import SUMS, atomic_directory, sha256
from dsnet.io.version_files import ADDED, ADDED_CONTENT, CONTENT
from dsnet.routing.target import Target
from dsnet.runtime.session import ONNX
from pipeline.store import artifacts, logged_model, tracking
from pipeline.store.aliases import alias_target
from pipeline.store.card import FACTS, card, description, facts_of
from pipeline.store.outage import ask, is_permanent, reason
from pipeline.store.version import (
    AVERAGE_MADDS,
    IN_PLACE_OF,
    MODEL_ID,
    OURS,
    headline_of,
    read_version,
)
from pipeline.store.version import Version as Version  # what all else here is about

logger = logging.getLogger(__name__)

CHAMPION = "champion"
REQUIRED_TAGS = ("fingerprint", "parent", "dataset_digest", "code_version")
# What a model directory may hold; nothing that anybody would execute or unpickle.
ALLOWED = (
    weights.WEIGHTS,
    weights.GATES,
    weights.MODEL,
    SUMS,
    ONNX,
    "report.html",
)

_SUMS_LINE = re.compile(r"([0-9a-f]{64})  (\S+)")
_ALIAS = re.compile(r"(?!latest$|v\d+$)[a-z0-9][a-z0-9_-]{0,99}", re.IGNORECASE)
_NAME = re.compile(r"[^/:@'\"\s]+")
_URI = re.compile(rf"models:/(?P<name>{_NAME.pattern})(/(?P<version>[0-9]+)|@(?P<alias>[\w-]+))?")

T = TypeVar("T")


# ------------------------------------------------------------------------------------- writing


def register(
    name: str,
    directory: Path,
    *,
    stage: str,
    run_id: str | None,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    aliases: Iterable[str] = (),
    picture: str | None = None,
) -> Version:
    """Upload a model directory to the run and make it the next version of `name`.

    The version exists only once every file has arrived. Several processes may register at once.
    Without a run (`run_id` None: the store was out of reach when the stage began) one is made.
    `tags` must have REQUIRED_TAGS, `metrics` average_madds and the one that the tag `headline`
    names, else top1, all finite (ValueError). picture: an SVG that the card shows, where the tags
    have REACHED. Raises InputError for a directory that is damaged or
    that `dsnet.load` would refuse, and for an alias that cannot be one; StoreError where the store
    is away for longer than anybody waits, DiskFullError where it has no room.
    """
    aliases = tuple(aliases)
    for alias in aliases:
        _check_alias(alias)
    directory = Path(directory)
    content = _content(directory)
    model, gates = weights.load(directory), weights.load_gates(directory)
    all_tags = {
        **tags,
        **_as_tags(stage, tags, metrics),
        CONTENT: content,
        FACTS: facts_of(model, gates),
    }
    about = card(name, all_tags, metrics)

    client = _patiently(tracking.client)
    if run_id is None:
        with tracking.stage_run(None, stage) as run:
            run_id = _patiently(run.opened)
    made_in = run_id
    logged = logged_model.log(
        client, name, made_in, directory, model, about, picture, all_tags, metrics
    )
    source, model_id = logged.source, logged.model_id
    all_tags |= {MODEL_ID: model_id, ADDED_CONTENT: logged.added}

    attempts = 0

    def create() -> ModelVersion:
        nonlocal attempts
        attempts += 1
        if attempts > 1:  # the one before seemed to fail, and may have succeeded
            for version in client.search_model_versions(f"run_id = '{made_in}'"):
                if version.name == name and version.source == source:
                    return version
        return client.create_model_version(
            name,
            source,
            made_in,
            tags=all_tags,
            description=description(about),
            model_id=model_id,
        )

    _patiently(lambda: _create_name(name))
    number = str(_patiently(create).version)
    _patiently(lambda: logged_model.link(client, model_id, name, number))
    for alias in aliases:
        set_alias(name, alias, int(number))
    logger.info("registered models:/%s/%s", name, number)
    return _read(_patiently(lambda: client.get_model_version(name, number)), aliases)


def set_alias(name: str, alias: str, version: int) -> None:
    """Let `alias` name this version from now on, and no other. InputError if it cannot."""
    _check_alias(alias)
    client = _patiently(tracking.client)
    _patiently(lambda: client.set_registered_model_alias(name, alias, str(version)))


def remove_alias(name: str, alias: str) -> None:
    """Remove `alias`, which then names no version."""
    client = _patiently(tracking.client)
    _patiently(lambda: client.delete_registered_model_alias(name, alias))


def annotate(version: Version, tags: Mapping[str, str], metrics: Mapping[str, float]) -> Version:
    """Add to a version what is measured after it was registered; what it has of it is replaced.

    Metrics are written first, then `tags` in their order: one that says that the others are there
    goes last.
    """
    names = " ".join(sorted({**version.metrics, **metrics}))
    client = _patiently(tracking.client)
    numbers = _numbers(metrics)
    new = {**version.tags, **tags}
    if metrics:
        logged_model.measure(client, new[MODEL_ID], version.run_id, metrics, new)
        about = card(version.name, new, {**version.metrics, **metrics})
        _patiently(
            lambda: client.update_model_version(
                version.name, str(version.version), description(about)
            )
        )
    for key, value in {**numbers, "metrics": names, **tags}.items():
        _patiently(
            partial(client.set_model_version_tag, version.name, str(version.version), key, value)
        )
    return resolve(version.uri)


def _as_tags(stage: str, tags: Mapping[str, str], metrics: Mapping[str, float]) -> dict[str, str]:
    """The tags that register adds: stage, metrics, and which of the tags are metrics."""
    missing = [tag for tag in REQUIRED_TAGS if tag not in tags]
    required = (headline_of(tags).name, AVERAGE_MADDS)
    missing += [metric for metric in required if metric not in metrics]
    if missing:
        raise ValueError(f"a version needs tags and metrics: {', '.join(missing)} missing")
    if both := metrics.keys() & {
        *tags,
        "stage",
        "metrics",
        "content",
        FACTS,
        ADDED_CONTENT,
        MODEL_ID,
    }:
        raise ValueError(f"both tags and metrics of a version: {', '.join(sorted(both))}")
    return {"stage": stage, "metrics": " ".join(sorted(metrics)), **_numbers(metrics)}


def _numbers(metrics: Mapping[str, float]) -> dict[str, str]:
    """Metrics as tags that read back exactly."""
    if wrong := [name for name, value in metrics.items() if not math.isfinite(value)]:
        raise ValueError(f"metrics of a version must be finite: {', '.join(wrong)}")
    return {name: repr(float(value)) for name, value in metrics.items()}


def _check_alias(alias: str) -> None:
    if not _ALIAS.fullmatch(alias):
        raise InputError(
            f"alias {alias!r}: expected letters, digits, - and _, other than latest and v1, v2, …"
        )


def _create_name(name: str) -> None:
    try:
        tracking.client().create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _patiently(call: Callable[[], T]) -> T:
    """What `call` returns, asked again where the store was busy or away."""
    return ask(tracking.uri(), call)


# ------------------------------------------------------------------------------------- reading


def versions(name: str | None = None) -> list[Version]:
    """Every version of every model of this project, or of one; by name, then number.

    Raises InputError if `name` is given and not registered.
    """
    if name is None:
        aliases, found = _names(), _search(None)
    else:
        aliases, found = {name: _aliases(name)}, _search(f"name = '{name}'")
    read = (_readable(each, _aliases_of(aliases.get(each.name, {}), each)) for each in found)
    return sorted(filter(None, read), key=lambda each: (each.name, each.version))


def _readable(version: ModelVersion, aliases: Iterable[str]) -> Version | None:
    """A version for a list; None, with a warning, if its tags make no sense."""
    try:
        return _read(version, aliases)
    except InputError as error:
        logger.warning("%s, passed over", error)
        return None


def find(name: str, fingerprint: str, place: str | None = None) -> Version | None:
    """The newest version of `name` with this fingerprint whose files are still there.

    Or with the tag IN_PLACE_OF `place`, where that is asked for: one that was given.
    """
    _check_name(name)
    found = _search(f"name = '{name}' and tag.fingerprint = '{fingerprint}'")
    if place is not None:
        found += _search(f"name = '{name}' and tag.{IN_PLACE_OF} = '{place}'")
    for version in sorted(found, key=lambda v: -int(v.version)):
        if SUMS in artifacts.names(version.source or ""):
            return _read(version, _aliases_of(_aliases(name), version))
        logger.warning("models:/%s/%s has lost its files, passed over", name, version.version)
    return None


def resolve(uri: str) -> Version:
    """The version that `models:/NAME/3`, `models:/NAME@alias` or `models:/NAME` names.

    Raises InputError for anything else, and for what is not registered.
    """
    match = _URI.fullmatch(uri)
    if match is None:
        raise InputError(
            f"model {uri!r}: expected models:/NAME, models:/NAME/3 or models:/NAME@champion"
        )
    name, number, alias = match["name"], match["version"], match["alias"]
    aliases = _aliases(name)
    of_name = {int(v.version): v for v in _search(f"name = '{name}'")}
    if not of_name:
        raise InputError(f"{uri}: expected a model with versions, found {name} without any")
    if alias is not None and aliases.get(alias) not in of_name:
        known = ", ".join(sorted(aliases)) or "none"
        raise InputError(f"{uri}: expected an alias of {name} ({known}), found {alias}")
    if number is not None and int(number) not in of_name:
        raise InputError(
            f"{uri}: expected a version of {name} ({_ranges(of_name)}), found {number}"
        )
    if number is not None:
        chosen = of_name[int(number)]
    else:
        chosen = of_name.get(aliases.get(alias or CHAMPION, 0)) or of_name[max(of_name)]
    return _read(chosen, _aliases_of(aliases, chosen))


def pull(uri: str, dest: Path) -> Path:
    """Copy a version's model directory to `dest`, whole or not at all, checked against its sums.

    By the alias of a target (`models:/NAME@target-30pct`) the directory runs at that target where
    nobody asks for a budget (`dsnet.inference.retune`), and its model.json names the version under
    `source`; by any other URI it is the version's, byte for byte.
    Where `dest` is this already nothing is done; another model directory is replaced. Raises
    InputError where anything else is in the way, where the version holds a file that a model
    directory may not hold, where its content is damaged, or where it cannot meet the target.
    """
    version, target = resolve(uri), alias_target(uri)
    dest = Path(dest)
    if dest.exists() and not dest.is_dir():
        raise InputError(f"{dest}: expected a folder or nothing, found a file")
    occupied = dest.is_dir() and any(dest.iterdir())
    if occupied and not (dest / SUMS).is_file():
        raise InputError(
            f"{dest}: expected an empty or a model directory, found other files; name another one"
        )
    if occupied and _is_already(version, target, dest):
        return dest
    files = _files(version)
    try:
        with atomic_directory(dest) as temporary:
            for name in files:
                artifacts.download(version.source, name, temporary)
            if _content(temporary) != version.tags[CONTENT]:
                raise InputError(
                    f"{version.uri}: expected the content that was registered, found other; "
                    "its artifacts were changed"
                )
            if target is not None:
                retune(temporary, target, _source(version, target))
    except OSError:
        # Another process may have put the same version there just now.
        if not _is_already(version, target, dest):
            raise
    return dest


def _is_already(version: Version, target: Target | None, folder: Path) -> bool:
    """Whether `folder` is what pulling `version` for `target` gives."""
    try:
        content = _content(folder)
        if target is None:
            return content == version.tags[CONTENT]
        if weights.read_description(folder)["source"] != _source(version, target):
            return False
    except (InputError, OSError):
        return False
    # It may have been pulled where no ONNX file could be written.
    return (
        (folder / ONNX).is_file()
        or missing_extra() is not None
        or ONNX not in artifacts.names(version.source)
    )


def _source(version: Version, target: Target) -> dict[str, str]:
    """Where a directory that runs at a target comes from."""
    return {
        "version": version.uri,
        "content": version.tags[CONTENT],
        "target": str(target),
    }


def _files(version: Version) -> list[str]:
    """Names of a version's model directory; InputError for a file that is neither in such nor ours.

    What makes it an MLflow model stays where it is.
    """
    try:
        names = artifacts.names(version.source)
    except MlflowException as error:
        if not is_permanent(error):
            raise
        raise InputError(
            f"{version.uri}: expected files at {shown(version.source)}, found: {reason(error)}"
        ) from error
    if not names:
        raise InputError(f"{version.uri}: expected files at {shown(version.source)}, found none")
    _refuse_links(version, names)
    if wrong := sorted(names - set(ALLOWED) - ADDED):
        raise InputError(
            f"{version.uri}: expected the files of a model directory ({', '.join(ALLOWED)}), "
            f"found {', '.join(wrong)}; nothing was pulled"
        )
    return sorted(names - ADDED)


def _refuse_links(version: Version, names: Iterable[str]) -> None:
    """Raise InputError where a version's files lie here and one of them is a link elsewhere."""
    parts = urlsplit(version.source)
    if parts.scheme not in ("", "file"):
        return
    folder = Path(unquote(parts.path))
    if links := sorted(name for name in names if (folder / name).is_symlink()):
        raise InputError(
            f"{version.uri}: expected files, found links: {', '.join(map(shown, links))}"
            "; nothing was pulled"
        )


def _content(directory: Path) -> str:
    """Digest of SHA256SUMS, for an undamaged model directory with allowed files only.

    Raises InputError for anything else.
    """
    present = {path.name for path in directory.iterdir()}
    if wrong := sorted(present - set(ALLOWED)):
        raise InputError(
            f"{directory}: expected the files of a model directory ({', '.join(ALLOWED)}), "
            f"found {', '.join(wrong)}"
        )
    sums = directory / SUMS
    lines = sums.read_text("utf-8", "replace").splitlines() if sums.is_file() else []
    listed = {line[2] if (line := _SUMS_LINE.fullmatch(text)) else text for text in lines}
    expected = present - {SUMS}
    if listed != expected:
        raise InputError(
            f"{sums}: expected one line for each of {', '.join(sorted(expected)) or 'its files'}, "
            f"found {', '.join(sorted(listed)) or 'none'}"
        )
    weights.verify(directory)
    return sha256(sums)


def _search(filter_string: str | None) -> list[ModelVersion]:
    """Versions of this project that are ready; other people's lack our tags."""
    search = partial(_patiently(tracking.client).search_model_versions, filter_string)
    return [v for v in _pages(search) if v.status == "READY" and v.tags.keys() >= OURS]


def _names() -> dict[str, dict[str, int]]:
    """Every registered name with its aliases."""
    models = _pages(_patiently(tracking.client).search_registered_models)
    return {m.name: _numbered(m.aliases) for m in models if _NAME.fullmatch(m.name)}


def _pages(search: Callable[..., Any]) -> Iterator[Any]:
    """Everything that a search of MLflow's client finds, page by page."""
    token: str | None = None
    while True:
        page = _patiently(partial(search, page_token=token))
        yield from page
        token = page.token
        if not token:
            return


def _aliases(name: str) -> dict[str, int]:
    """Alias to version of one model. Raises InputError if it is not registered."""
    _check_name(name)
    try:
        model = _patiently(lambda: tracking.client().get_registered_model(name))
        return _numbered(model.aliases)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    names = sorted(_names())
    if not names:
        raise InputError(f"model {name}: expected a registered name, found none registered yet")
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0)[0]
    shown = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
    raise InputError(
        f"model {name}: expected a registered name ({shown}), found none of that name; "
        f"the nearest is {nearest}"
    )


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InputError(f"model name {name!r}: expected no blanks, quotes, /, : or @ in it")


def _numbered(aliases: Mapping[str, object]) -> dict[str, int]:
    return {alias: int(str(version)) for alias, version in aliases.items()}


def _aliases_of(aliases: Mapping[str, int], version: ModelVersion) -> list[str]:
    return sorted(alias for alias, number in aliases.items() if number == int(version.version))


def _ranges(numbers: Iterable[int]) -> str:
    ordered = sorted(numbers)
    if ordered == list(range(ordered[0], ordered[-1] + 1)) and len(ordered) > 2:
        return f"{ordered[0]} to {ordered[-1]}"
    return ", ".join(map(str, ordered))


def _read(version: ModelVersion, aliases: Iterable[str]) -> Version:
    return read_version(
        version.name,
        int(version.version),
        dict(version.tags),
        aliases,
        run_id=version.run_id,
        source=version.source,
    )
