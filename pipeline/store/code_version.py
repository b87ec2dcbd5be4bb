"""Which code made a version: a tag for people, and nothing that a result is found again by."""

import hashlib
import importlib.metadata
import subprocess
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_FLOORS = ("dsnet", "pipeline", "jobs")


@cache
def code_version() -> str:
    """`0.1.0+3fe1…`, or in a checkout the commit, with what is not committed marked.

    The mark is the start of a digest of the sources, so that two states of one commit differ.
    """
    commit = _git("rev-parse", "--short=12", "HEAD")
    if commit is None:
        try:
            return f"{importlib.metadata.version('dsnet')}+{_mark()}"
        except importlib.metadata.PackageNotFoundError:  # a job's uploaded sources
            return f"sources+{_mark()}"
    changed = _git("status", "--porcelain", "--", *_FLOORS, "pyproject.toml")
    return commit if changed == "" else f"{commit}-dirty.{_mark()}"


def _mark() -> str:
    """The start of a SHA-256 over the names and contents of the sources."""
    total = hashlib.sha256()
    for floor in _FLOORS:
        for path in sorted((_ROOT / floor).rglob("*.py")):
            total.update(path.relative_to(_ROOT).as_posix().encode() + b"\0")
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:8]


def _git(*arguments: str) -> str | None:
    """What git prints, None outside of a checkout of this project."""
    if not (_ROOT / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(_ROOT), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
