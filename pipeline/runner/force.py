"""--force: stages that are run again although they are done, and with each what follows from it."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsnet.errors import InputError

STAGES = ("supernet", "calibrate", "table", "gate", "evaluate")


@dataclass(frozen=True)
class Force:
    """The stages to run again; with each, all that come after it are."""

    stages: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Iterable[str], known: Sequence[str] = STAGES) -> "Force":
        """From texts such as `gate` and `supernet,gate`.

        Raises InputError, with the nearest names, for a name that no stage has.
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
class Forced:
    """What a forced run has still to make, recorded in the storage until all of it is made.

    If the run is interrupted, the same command continues it, and does not run again what it has
    made already.
    """

    record: Path
    before: Mapping[str, int]
    """By fingerprint of a stage to run again, its newest version when that was asked for, or 0."""

    def accepts(self, key: str, version: int) -> bool:
        """Whether a version with that fingerprint is new enough to be taken for the stage's."""
        return version > self.before.get(key, -1)

    def done(self) -> None:
        """Everything is made: the next run that is forced begins from nothing again."""
        self.record.unlink(missing_ok=True)
