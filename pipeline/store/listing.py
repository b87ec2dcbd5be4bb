"""Which of the registered versions are listed, and in what order: by stage and by metrics."""

import math
from collections.abc import Sequence

from dsnet.errors import InputError
from pipeline.store.version import Version


def select(
    versions: Sequence[Version],
    *,
    stage: str | None = None,
    least: Sequence[str] = (),
    most: Sequence[str] = (),
    sort: str | None = None,
) -> list[Version]:
    """The versions of a stage whose metrics are within bounds, sorted.

    least, most: bounds as `METRIC=NUMBER`; a version without the metric is left out. sort: a
    metric, the smallest first, or `-METRIC`, the largest first; left out, the order given. Versions
    without it come last. Raises InputError for a bound that makes no sense, and for a metric that
    none of the versions has.
    """
    known = sorted({name for version in versions for name in version.metrics})
    lower = [_bound("--min", text, known) for text in least]
    upper = [_bound("--max", text, known) for text in most]
    found = [
        version
        for version in versions
        if stage in (None, version.stage)
        and all(version.metrics.get(name, -math.inf) >= bound for name, bound in lower)
        and all(version.metrics.get(name, math.inf) <= bound for name, bound in upper)
    ]
    if sort is None:
        return found
    name = sort.removeprefix("-")
    _check_known("--sort", name, known)
    sign = -1 if sort.startswith("-") else 1
    return sorted(found, key=lambda each: sign * each.metrics.get(name, sign * math.inf))


def _bound(flag: str, text: str, known: list[str]) -> tuple[str, float]:
    name, _, number = text.partition("=")
    _check_known(flag, name, known)
    try:
        bound = float(number)
    except ValueError:
        bound = math.nan
    if not math.isfinite(bound):
        raise InputError(f"{flag}: expected METRIC=NUMBER, such as top1=0.9, found {text!r}")
    return name, bound


def _check_known(flag: str, name: str, known: list[str]) -> None:
    if known and name not in known:
        raise InputError(f"{flag}: expected one of {', '.join(known)}, found {name!r}")
