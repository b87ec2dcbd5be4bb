"""A forced run begins: what it runs again is set aside, so that nothing goes on from it."""

import hashlib
import json
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from dsnet.errors import InputError
from dsnet.io.files import atomic_file
from pipeline.config import Config, lock_file, stage_dir, storage_dir, table_dir
from pipeline.runner.force import Forced
from pipeline.runner.plan import TABLE, Step

logger = logging.getLogger(__name__)


def begin_forced(config: Config, steps: Sequence[Step]) -> tuple[list[Step], Forced | None]:
    """The steps of a run, less what an interrupted one has made again already, and what is forced.

    Raises InputError where another run is at one of its stages.
    """
    again = [step for step in steps if step.forced]
    if not again:
        return list(steps), None
    asked = hashlib.sha256(" ".join(sorted(step.key for step in again)).encode()).hexdigest()
    record = storage_dir(config) / "forced" / f"{config.name}-{asked[:12]}.json"
    if record.is_file():
        logger.info("goes on with what was forced before; to start over, remove %s", record)
        forced = Forced(record, json.loads(record.read_text()))
    else:
        forced = _begin(config, again, record)
    return [
        replace(step, forced=False)
        if step.found and forced.accepts(step.key, step.found.version)
        else step
        for step in steps
    ], forced


def _begin(config: Config, again: Sequence[Step], record: Path) -> Forced:
    """Set the stages' checkpoints and tables aside, and record which versions are not enough."""
    with ExitStack() as locks:
        for step in again:
            lock = FileLock(lock_file(config, f"{step.name}-{step.stage}", step.key))
            try:
                locks.enter_context(lock.acquire(timeout=0))
            except Timeout:
                raise InputError(
                    f"--force: another run is at stage {step.stage} of {step.name}; wait for its "
                    "end, or end it"
                ) from None
        for step in again:
            folder = stage_dir(config, step.stage, step.key)
            if step.stage == TABLE:
                folder = table_dir(config, step.name, step.key)
            if folder.is_dir():
                logger.info("%s is set aside as %s", folder, _set_aside(folder).name)
        newest = {step.key: step.found.version if step.found else 0 for step in again}
        with atomic_file(record) as temporary:
            temporary.write_text(json.dumps(newest))
    return Forced(record, newest)


def _set_aside(folder: Path) -> Path:
    """Give a folder a name under which nothing looks for it."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.before-{number}")).exists():
        number += 1
    return folder.rename(aside)
