"""--force: stages that are made anew although they were made before, and what follows from them."""

import difflib
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from dsnet.errors import InputError
from dsnet.io.files import atomic_file
from pipeline.config import Config, lock_file, storage_dir

logger = logging.getLogger(__name__)

STAGES = ("supernet", "calibrate", "table", "gate", "evaluate")


@dataclass(frozen=True)
class Force:
    """The stages that are asked for anew; each brings all that come after it."""

    stages: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Iterable[str], known: Sequence[str] = STAGES) -> "Force":
        """From texts such as `gate` and `supernet,gate`.

        Raises InputError, with the nearest names, for what is no stage.
        """
        stages = [part.strip() for name in names for part in name.split(",") if part.strip()]
        for stage in stages:
            if stage not in known:
                near = " or ".join(difflib.get_close_matches(stage, known, n=2, cutoff=0))
                raise InputError(
                    f"--force: expected a stage ({', '.join(known)}), found {stage}; "
                    f"the nearest are {near}"
                )
        return cls(tuple(stage for stage in known if stage in stages))


NOTHING = Force()


@dataclass(frozen=True)
class Anew:
    """A stage that is to be made although it may be there."""

    stage: str
    name: str
    """Registered name of what it makes, or of what it is a table or an evaluation of."""
    key: str
    """Its fingerprint."""
    newest: int
    """Number of the newest version that it has made; 0 where there is none."""
    folder: Path
    """Its checkpoints, or its tables."""


@dataclass(frozen=True)
class Forced:
    """What a forced run has still to make, remembered in the storage until it is all made.

    Should the run be interrupted, the same command goes on with it, and does not begin anew what it
    has made anew already.
    """

    record: Path
    before: Mapping[str, int]
    """For each stage that is made anew, by fingerprint, `Anew.newest` when that was asked for."""

    def accepts(self, key: str, version: int) -> bool:
        """Whether a version with that fingerprint is new enough to be taken for the stage's."""
        return version > self.before.get(key, -1)

    def done(self) -> None:
        """Everything is made: the next run that is forced begins from nothing again."""
        self.record.unlink(missing_ok=True)


def begin(config: Config, stages: Sequence[Anew]) -> Forced:
    """Begin a forced run, or go on with one that was interrupted.

    The stages' checkpoints and tables are set aside, so that nothing goes on from them. Raises
    InputError where another run is at one of them.
    """
    storage = storage_dir(config)
    asked = hashlib.sha256(" ".join(sorted(each.key for each in stages)).encode()).hexdigest()
    record = storage / "forced" / f"{config.name}-{asked[:12]}.json"
    if record.is_file():
        logger.info("goes on with what was forced before; to begin anew, remove %s", record)
        return Forced(record, json.loads(record.read_text()))
    with ExitStack() as locks:
        for each in stages:
            lock = FileLock(lock_file(config, f"{each.name}-{each.stage}", each.key))
            try:
                locks.enter_context(lock.acquire(timeout=0))
            except Timeout:
                raise InputError(
                    f"--force: another run is at stage {each.stage} of {each.name}; wait for its "
                    "end, or end it"
                ) from None
        for each in stages:
            if each.folder.is_dir():
                logger.info("%s is set aside as %s", each.folder, _set_aside(each.folder).name)
        forced = Forced(record, {each.key: each.newest for each in stages})
        with atomic_file(record) as temporary:
            temporary.write_text(json.dumps(forced.before))
    return forced


def _set_aside(folder: Path) -> Path:
    """Give a folder a name under which nothing looks for it."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.before-{number}")).exists():
        number += 1
    return folder.rename(aside)
