"""The checkpoints of a run: sealed with their checksums, found again by them.

Ray Train uploads a checkpoint file by file and remembers it in a snapshot of its own. A run that is
killed may leave half of either. So a checkpoint counts where every file has the SHA-256 that was
written with it, and a training goes on from the newest that does, whatever the snapshot says.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsnet.files import sha256

logger = logging.getLogger(__name__)

KEPT = 2  # the newest, and one more in case that one is damaged

_REPORT, _SUMS = "report.json", "SHA256SUMS"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are all as they were written."""

    folder: Path
    metrics: dict[str, Any]
    """What was reported with it."""
    final: bool
    """Whether its stage is done."""


def seal(folder: Path, metrics: Mapping[str, Any], *, final: bool) -> None:
    """Make a checkpoint of the files in `folder`: what was reported with them, and checksums."""
    names = sorted(_names(folder))
    report = {"metrics": metrics, "final": final, "files": names}
    (folder / _REPORT).write_text(json.dumps(report))
    lines = [f"{sha256(folder / name)}  {name}\n" for name in [*names, _REPORT]]
    (folder / _SUMS).write_text("".join(lines))


def newest_whole(run: Path, until: str | None = None) -> Checkpoint | None:
    """The newest checkpoint in a run's folder whose files are as they were written, if any.

    Newer ones that are cut short or altered are passed over, with a warning for each. until: the
    name of the newest to look at.
    """
    for folder in reversed(_folders(run)):
        if until is not None and folder.name > until:
            continue
        if (problem := _problem(folder)) is not None:
            logger.warning(
                "checkpoint %s is damaged and passed over for the one before: %s", folder, problem
            )
            continue
        report = json.loads((folder / _REPORT).read_text())
        return Checkpoint(folder, report["metrics"], report["final"])
    return None


def remove_old(run: Path) -> None:
    """Delete all but the newest checkpoints, also those that Ray Train has no record of."""
    for folder in _folders(run)[:-KEPT]:
        shutil.rmtree(folder, ignore_errors=True)


def _folders(run: Path) -> list[Path]:
    """A run's checkpoints, oldest first: Ray Train names them by their time."""
    return sorted(path for path in run.glob("checkpoint_*") if path.is_dir())


def _names(folder: Path) -> set[str]:
    """Every file in `folder`, by its path there, without what `seal` adds."""
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return files - {_SUMS, _REPORT}


def _problem(folder: Path) -> str | None:
    """What is wrong with a checkpoint's files; None if nothing is."""
    if not (folder / _SUMS).is_file():
        return f"it has no {_SUMS}"
    sums: dict[str, str] = {}
    for line in (folder / _SUMS).read_text(errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        sums[name] = digest
    for name in (_REPORT, *sums):
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if name not in sums or sha256(path) != sums[name]:
            return f"{name} does not match {_SUMS}"
    # Checksums that were cut short know nothing of the files whose lines are gone.
    if missing := set(json.loads((folder / _REPORT).read_text())["files"]) - sums.keys():
        return f"{_SUMS} does not have {min(missing)}"
    return None
