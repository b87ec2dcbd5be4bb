"""Promotion: the aliases under which other teams find what a chain or a sweep has made.

**champion.** The first version of a name becomes champion. Another takes its place only if it

- is newer, by version number,
- was counted on the same data (the tag `dataset_digest`),
- is for the same target (the tag `target`; no target is a kind of its own): another is no contest,
- costs the same or less: at most 1% more on average, by which two gates for one target differ,
- is not less accurate by more than two standard errors of the difference of two proportions,
  sqrt(p1 (1 - p1) / n1 + p2 (1 - p2) / n2) on n1 and n2 test images (Agresti, An Introduction to
  Categorical Data Analysis, 2.2.1), which takes the two for independent.

A version at chance level does not become champion, the first no more than a later one. What comes
of it is told in one line.

**previous** is the champion before this one, which `rollback` goes back to.

**target-50pct** and its like name the newest version made for that target, by version number: a
newer version takes such an alias from an older one, which is told, and never the other way round.

A version is settled once. The tag `promotion` says how and is written last: run again, a chain or a
sweep that had ended changes nothing, and one that was killed before that is settled now. `promote`
and `rollback` are for people: they follow no rule.
"""

import logging
import math
from collections.abc import Sequence

from dsnet.errors import InputError
from dsnet.routing.target import Target
from pipeline.store import registry
from pipeline.store.aliases import target_alias
from pipeline.store.registry import CHAMPION, Version
from pipeline.training.evaluation import standard_error
from pipeline.training.sanity import Labels

logger = logging.getLogger(__name__)

PREVIOUS = "previous"
SETTLED = "promotion"
NO_TARGET = "none"
SAME_COST = 0.01
"""Share by which an average may exceed the champion's and still count as the same."""


def settle(version: Version, targets: Sequence[Target], labels: Labels) -> Version:
    """Give a version made and counted for `targets` the aliases that are its due, once.

    Where nobody asks, it runs at the middle one of its targets; its metrics are that one's, on the
    test images that `labels` counts.
    """
    if SETTLED in version.tags:
        logger.info(
            "%s is there already, no alias changes; when it was made: %s",
            version.uri,
            version.tags[SETTLED],
        )
        return version
    target = str(targets[len(targets) // 2]) if targets else NO_TARGET
    tags = {"target": target, "test_images": str(labels.test_images)}
    version = registry.annotate(version, tags, {})
    _point_targets(version, targets)
    present = champion(version.name)
    promoted, line = verdict(present, version, labels)
    if promoted:
        _crown(version, present)
    logger.log(logging.INFO if promoted else logging.WARNING, "%s", line)
    return registry.annotate(version, {SETTLED: line}, {})


def promote(name: str, number: int) -> str:
    """Make a version champion by hand, and say so. Raises InputError for one that is not there."""
    version = registry.resolve(f"models:/{name}/{number}")
    present = champion(name)
    if present is not None and present.version == number:
        return f"{version.uri} is champion already, nothing changes"
    _crown(version, present)
    line = f"champion of {name} is now {version.uri}"
    return f"{line}, after {present.uri}; back: dsnet rollback {name}" if present else line


def rollback(name: str) -> str:
    """Make the previous champion champion again, and say so.

    Raises InputError for a name that is not registered, or has no champion before the present one.
    """
    holders = _holders(name)
    present, before = holders.get(CHAMPION), holders.get(PREVIOUS)
    if before is None or (present is not None and present.version == before.version):
        now = present.uri if present is not None else "none"
        raise InputError(
            f"model {name}: expected a version with the alias {PREVIOUS}, the champion before this "
            f"one ({now}), found none to go back to; choose one: dsnet promote {name} VERSION"
        )
    registry.set_alias(name, CHAMPION, before.version)
    registry.remove_alias(name, PREVIOUS)
    line = f"champion of {name} is again {before.uri}"
    if present is None:
        return line
    return f"{line}, after {present.uri}; forward: dsnet promote {name} {present.version}"


def champion(name: str) -> Version | None:
    """The present champion of a model that has versions."""
    return _holders(name).get(CHAMPION)


def verdict(present: Version | None, new: Version, labels: Labels) -> tuple[bool, str]:
    """Whether `new` becomes champion, and the line that tells why or why not.

    present: the champion, None where there is none. labels: of the data that `new` is of.
    """
    name, ours = new.name, _told(new)
    by_hand = f"by hand: dsnet promote {name} {new.version}"
    stays = f"champion of {name} stays {_told(present)}" if present else f"no champion of {name}"
    if present is not None and present.version == new.version:
        return False, stays
    if labels.at_chance(new.metrics["top1"]):
        level = f"it is at chance level ({labels.chance:.2%})"
        return False, f"{stays}, {ours} is not promoted: {level}; {by_hand}"
    if present is None:
        return True, f"champion of {name} is now {ours}, the first"
    if reason := reason_against(present, new):
        return False, f"{stays}, {ours} is not promoted: {reason}; {by_hand}"
    return True, (
        f"champion of {name} is now {ours}, after {_told(present)}: same data and target, no "
        f"costlier, not less accurate by more than two standard errors of the difference "
        f"({200 * _difference_error(present, new):.2f} points); back: dsnet rollback {name}"
    )


def reason_against(present: Version, new: Version) -> str | None:
    """Why `new` may not take the place of the champion `present`, by the rule; None if it may."""
    if new.version < present.version:
        return "it is older"
    if present.tags["dataset_digest"] != new.tags["dataset_digest"]:
        return "it was trained and counted on other data"
    if missing := {"target", "test_images"} - present.tags.keys():
        return f"{present.uri} does not say its {' and '.join(sorted(missing))}"
    if present.tags["target"] != new.tags["target"]:
        return (
            f"another target is not a contest ({new.tags['target']}, and the champion's is "
            f"{present.tags['target']})"
        )
    cost, limit = new.metrics["average_madds"], present.metrics["average_madds"]
    if cost > (1 + SAME_COST) * limit:
        return f"it costs {cost / limit - 1:.1%} more on average"
    less = present.metrics["top1"] - new.metrics["top1"]
    if less > 2 * (error := _difference_error(present, new)):
        return (
            f"it is less accurate by {100 * less:.2f} points, more than two standard errors of the "
            f"difference ({200 * error:.2f})"
        )
    return None


def _point_targets(version: Version, targets: Sequence[Target]) -> None:
    """Give `version` the aliases of its targets that no newer version has."""
    holders = _holders(version.name)
    said = []
    for alias in map(target_alias, targets):
        present = holders.get(alias)
        if present is not None and present.version > version.version:
            said.append(f"{alias} stays with {present.uri}, which is newer")
            continue
        registry.set_alias(version.name, alias, version.version)
        if present is not None and present.version < version.version:
            other = present.tags["dataset_digest"] != version.tags["dataset_digest"]
            said.append(f"{alias} was {present.uri}{', of other data,' if other else ''} before")
    if said:
        logger.info("%s: %s", version.uri, "; ".join(said))


def _told(version: Version) -> str:
    top1, madds = version.metrics["top1"], version.metrics["average_madds"]
    return f"{version.uri} ({top1:.2%} at {madds:,.0f} MAdds)"


def _difference_error(one: Version, other: Version) -> float:
    """Standard error of the difference of their top-1."""
    return math.hypot(
        *(standard_error(v.metrics["top1"], int(v.tags["test_images"])) for v in (one, other))
    )


def _crown(version: Version, present: Version | None) -> None:
    # The champion last: until then nothing has changed that anybody pulls by default.
    if present is not None:
        registry.set_alias(version.name, PREVIOUS, present.version)
    registry.set_alias(version.name, CHAMPION, version.version)


def _holders(name: str) -> dict[str, Version]:
    """The version that each alias of a model names. InputError if it is not registered."""
    return {alias: version for version in registry.versions(name) for alias in version.aliases}
