"""What is registered, listed without MLflow where it lies in a file: its import takes seconds.

The home of what is MLflow's own about that file: its tables, as MLflow 3.17 has them. Whatever is
unexpected about them is left to MLflow, which knows what to say.
"""

import logging
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from dsnet.errors import InputError
from pipeline.store.address import database, uri
from pipeline.store.version import OURS, Version, read_version

logger = logging.getLogger(__name__)

SCHEMA = "dc11669786a5"  # revision of the tables that are read here
_REVISION = "SELECT version_num FROM alembic_version"
_VERSIONS = """
    SELECT name, version, run_id, source FROM model_versions
    WHERE status = 'READY' AND current_stage != 'Deleted_Internal' ORDER BY name, version
"""
_TAGS = "SELECT name, version, key, value FROM model_version_tags"
_ALIASES = "SELECT name, version, alias FROM registered_model_aliases ORDER BY alias"


def versions(name: str | None = None) -> list[Version]:
    """Every version of this project, or of one model; by name, then number.

    What makes no sense is passed over with a warning that names it. Nothing is created. Raises
    InputError if `name` is given and not registered, and for a store that is damaged or away.
    """
    file = database(uri())
    if name is None and file is not None and not file.exists():
        return []
    found = _in_file(file) if file is not None and file.exists() else None
    if found is not None and name is not None:
        found = [version for version in found if version.name == name]
    if found or (found is not None and name is None):
        return found
    from pipeline.store import registry, tracking

    tracking.configure(make=False)
    return registry.versions(name)


def find(model: str) -> Version:
    """The version that `models:/NAME/3`, `models:/NAME@alias` or `models:/NAME` names.

    Raises InputError as `pipeline.store.registry.resolve`.
    """
    file = database(uri())
    found = _in_file(file) if file is not None and file.exists() else None
    for version in found or ():
        aliases = (f"models:/{version.name}@{alias}" for alias in version.aliases)
        champion = f"models:/{version.name}" if "champion" in version.aliases else None
        if model in (version.uri, champion, *aliases):
            return version
    from pipeline.store import registry, tracking

    tracking.configure(make=False)
    return registry.resolve(model)


def _in_file(file: Path) -> list[Version] | None:
    """The versions in an SQLite store; None where it cannot be read so."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as store:
            if store.execute(_REVISION).fetchall() != [(SCHEMA,)]:
                return None
            rows = store.execute(_VERSIONS).fetchall()
            tags: defaultdict[tuple[str, int], dict[str, str]] = defaultdict(dict)
            for name, number, key, value in store.execute(_TAGS):
                tags[name, number][key] = value or ""
            aliases: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
            for name, number, alias in store.execute(_ALIASES):
                aliases[name, number].append(alias)
    except sqlite3.Error:
        return None
    found = []
    for name, number, run_id, source in rows:
        key = name, number
        if not tags[key].keys() >= OURS:
            continue  # other people's
        try:
            version = read_version(
                name, number, tags[key], aliases[key], run_id=run_id, source=source
            )
        except InputError as error:
            logger.warning("%s, passed over", error)
        else:
            found.append(version)
    return found
