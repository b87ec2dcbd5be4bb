"""Pictures that cannot be used: left out and listed, up to a share of all."""

import math
from collections.abc import Sequence

from dsnet.errors import InputError
from dsnet.errors.text import line
from pipeline.data.sources.tiles import BadTile
from pipeline.data.sources.walk import listed

MAX_BAD = 0.001
"""Of all pictures, the share that may be left out."""
HANDFUL, SMALL_SHARE = 5, 0.1
"""So many always may, but of a small set no more than this share, rounded up."""
LISTED = 1000
"""As many are named in a manifest; beyond them they are counted."""


class BadPictures:
    """Those of one ingest.

    max_bad: the share of `samples` pictures that may be left out. A handful always may, for one
    damaged file is no reason to stop, unless it is 0; and one picture has to be left.
    """

    def __init__(self, source: str, samples: int, max_bad: float) -> None:
        self._source, self._samples, self._share = source, samples, max_bad
        handful = min(HANDFUL, math.ceil(samples * SMALL_SHARE)) if max_bad else 0
        self.allowed = max(min(max(int(samples * max_bad), handful), samples - 1), 0)
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
        self.check(self.count, self.reasons)

    def check(self, count: int, reasons: Sequence[str]) -> None:
        """Raise InputError where so many are too many."""
        if count > self.allowed:
            raise InputError(
                f"source {self._source}: expected at most {self.allowed:,} of {self._samples:,} "
                f"pictures that cannot be used (data.max_bad or --max-bad: {self._share:g}), found "
                f"more: {listed(reasons)}; mend or remove them, or allow a greater share"
            )
