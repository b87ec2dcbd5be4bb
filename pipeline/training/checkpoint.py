"""The checkpoints of a stage: sealed with their checksums, found again by them.

A checkpoint counts where every file has the SHA-256 that was written with it; a training goes on
from the newest that does. They lie in a folder of their stage's, named after its fingerprint, and
are ours rather than Ray Train's, whose checkpoints are of one run: it forgets those of the run
before, and refuses to start where its list of them was cut short.
"""

import json
import logging
import math
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dsnet.errors import InputError
from dsnet.errors.text import line, shown
from dsnet.io.files import SUMS, first_damaged, read_sums, write_sums

logger = logging.getLogger(__name__)

KEPT = 2  # the newest, and one more in case that one is damaged; the best is a third

_REPORT = "report.json"
_PREFIX = "checkpoint_"


@dataclass(frozen=True)
class CheckpointReport:
    """What is said of a checkpoint."""

    metrics: dict[str, Any]
    """What was reported with it."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """All that the stage has reported by then, in order."""
    final: bool = False
    """Whether its stage is done."""
    best: float | None = None
    """The figure by which the best is kept, where it was evaluated; higher is better."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are all as they were written."""

    folder: Path
    report: CheckpointReport


def seal(folder: Path, report: CheckpointReport, run: Path) -> None:
    """Make a checkpoint of the files in `folder`: what is reported with them, and checksums.

    run: the stage's folder, whose name has the stage and the beginning of its fingerprint.
    """
    files = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    about = {**asdict(report), "files": sorted(files), "of": run.name}
    (folder / _REPORT).write_text(json.dumps(about))
    write_sums(folder)


def newest_whole(run: Path) -> Checkpoint | None:
    """The newest checkpoint in a stage's folder whose files are as they were written, if any.

    Newer ones that are cut short, altered, or of another stage or fingerprint are passed over, with
    a warning for each.
    """
    return next(_whole(reversed(checkpoints(run))), None)


def best_whole(run: Path) -> Checkpoint | None:
    """Of the whole checkpoints that were evaluated the best, the earliest of several."""
    found: Checkpoint | None = None
    highest = -math.inf
    for point in _whole(iter(checkpoints(run))):
        if point.report.best is not None and point.report.best > highest:
            found, highest = point, point.report.best
    return found


def next_folder(run: Path) -> Path:
    """Where the next checkpoint goes."""
    numbers = [_number(folder) for folder in checkpoints(run)]
    return run / f"{_PREFIX}{max(numbers, default=0) + 1:06}"


def remove_old(run: Path) -> None:
    """Delete all but the newest checkpoints and the best."""
    if old := checkpoints(run)[:-KEPT]:
        best = best_whole(run)
        for folder in old:
            if best is None or folder != best.folder:
                shutil.rmtree(folder, ignore_errors=True)


def remove_unfinished(run: Path) -> None:
    """Delete what a writer that was killed left half-written."""
    for folder in run.glob(f".{_PREFIX}*"):
        shutil.rmtree(folder, ignore_errors=True)


def checkpoints(run: Path) -> list[Path]:
    """The folders of a stage's checkpoints, whole or not, oldest first."""
    return sorted((path for path in run.glob(f"{_PREFIX}*") if path.is_dir()), key=_number)


def _number(folder: Path) -> int:
    return int(folder.name.removeprefix(_PREFIX))


def _whole(folders: Iterator[Path]) -> Iterator[Checkpoint]:
    """Those that are as they were written; a warning for each that is not."""
    for folder in folders:
        try:
            yield Checkpoint(folder, _read(folder))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            logger.warning(
                "checkpoint %s is passed over for the one before: %s", folder, line(error)
            )


def _read(folder: Path) -> CheckpointReport:
    """What was said of a checkpoint. Raises InputError for one that is not whole, or not its own.

    And whatever reading a report does that is none.
    """
    if not (folder / SUMS).is_file():
        raise InputError(f"it has no {SUMS}")
    if (name := first_damaged(folder, (_REPORT,))) is not None:
        raise InputError(f"{name} is missing or does not match {SUMS}")
    written = json.loads((folder / _REPORT).read_text())
    # Checksums that were cut short know nothing of the files whose lines are gone.
    if missing := set(written.pop("files")) - read_sums(folder).keys():
        raise InputError(f"{SUMS} does not have {min(missing)}")
    own = folder.parent.name
    if (of := written.pop("of")) != own:
        raise InputError(f"it is of {shown(of)}, and this stage's are of {own}")
    return CheckpointReport(**written)
