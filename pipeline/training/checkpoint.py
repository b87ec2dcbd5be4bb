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

from dsnet.files import SUMS, first_damaged, read_sums, write_sums

logger = logging.getLogger(__name__)

KEPT = 2  # the newest, and one more in case that one is damaged

_REPORT = "report.json"


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
    files = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    report = {"metrics": metrics, "final": final, "files": sorted(files)}
    (folder / _REPORT).write_text(json.dumps(report))
    write_sums(folder)


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


def _problem(folder: Path) -> str | None:
    """What is wrong with a checkpoint's files; None if nothing is."""
    if not (folder / SUMS).is_file():
        return f"it has no {SUMS}"
    if (name := first_damaged(folder, (_REPORT,))) is not None:
        return f"{name} is missing or does not match {SUMS}"
    # Checksums that were cut short know nothing of the files whose lines are gone.
    files = set(json.loads((folder / _REPORT).read_text())["files"])
    if missing := files - read_sums(folder).keys():
        return f"{SUMS} does not have {min(missing)}"
    return None
