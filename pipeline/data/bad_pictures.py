"""Pictures that cannot be used: left out and listed, up to a share of all."""

from dsnet.errors import InputError
from dsnet.errors.text import line
from pipeline.data.walk import listed

MAX_BAD = 0.001
"""Of all pictures, the share that may be left out; of fewer than a thousand, none."""
LISTED = 1000
"""As many are named in a manifest; beyond them they are counted."""


class BadTile(InputError):
    """Why a tile cannot be used. All of a picture's say the same, and it is one bad picture."""


class BadPictures:
    """Those of one ingest. max_bad: the share of `samples` pictures that may be left out."""

    def __init__(self, source: str, samples: int, max_bad: float) -> None:
        self._source, self._samples, self._share = source, samples, max_bad
        self.allowed = int(samples * max_bad)
        self.count = 0
        self.reasons: list[str] = []
        self._last = ""

    def add(self, error: InputError) -> None:
        """Take note of one. Raises InputError where it is one too many."""
        reason = line(error)
        if isinstance(error, BadTile) and reason == self._last:
            return
        self._last = reason
        self.count += 1
        if len(self.reasons) < LISTED:
            self.reasons.append(reason)
        self.check(self.count, self.reasons, error)

    def check(
        self, count: int, reasons: list[str] | tuple[str, ...], last: InputError | None = None
    ) -> None:
        """Raise InputError where so many are too many; `last` itself where none is allowed."""
        if count <= self.allowed:
            return
        if not self.allowed and last is not None:
            raise last
        raise InputError(
            f"source {self._source}: expected at most {self.allowed:,} of {self._samples:,} "
            f"pictures that cannot be used (max_bad: {self._share:g}), found more: "
            f"{listed(reasons)}; mend or remove them, or allow a greater share"
        )
