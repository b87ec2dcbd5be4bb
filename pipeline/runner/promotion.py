"""Promotion: the aliases under which other teams find what a chain or a sweep has made.

**champion.** The first version of a name becomes champion. Another takes its place only if it

- is newer, by version number,
- is for the same task, and compared by the same measure, its headline,
- was counted on the same data (the tag `dataset_digest`),
- is for the same target (the tag `target`; versions without one compare with each other),
- costs the same or less: at most `promotion.cost` more on average, 1% where nothing else is said,
  by which two gates for one target differ,
- is not worse by more than `promotion.tolerance`; where that is not set, by more than two standard
  errors of the difference, which takes the two for independent. Of two shares (top-1) on n1 and n2
  test images it is sqrt(p1 (1 - p1) / n1 + p2 (1 - p2) / n2) (Agresti, An Introduction to
  Categorical Data Analysis, 2.2.1); of other means the root of the sum of their squared standard
  errors, which stand among the versions' metrics.

What did not learn (`pipeline.runner.sanity.not_learned`) does not become champion, the first no
more than a later one. What comes of it is told in one line.

**previous** is the champion before this one, which `rollback` goes back to.

**target-50pct** and its like follow the same rule, each by what its two versions reach at that
target: the first version that learned and was made for it has it, and another takes it only if it
could take the champion's place from that one. Of a sweep's version that is by its gate for that
target.

A version is settled once. The tag `promotion` says how and is written last: run again, a chain or a
sweep that had ended changes nothing, and one that was killed before that is settled now. `promote`
and `rollback` are for people: they follow no rule.

Who changes the champion of a name holds its lock, in $DSNET_HOME: MLflow cannot set an alias only
where it still is what was compared with. Processes with another home do not wait for each other.
"""

import json
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from filelock import FileLock

from dsnet.errors import InputError
from dsnet.routing.target import Target
from dsnet.tasks.measure import Measure
from pipeline.config import Promotion, home
from pipeline.store import registry
from pipeline.store.aliases import target_alias
from pipeline.store.card import REACHED
from pipeline.store.registry import CHAMPION, Version
from pipeline.training.evaluation import standard_error, stderr_name

logger = logging.getLogger(__name__)

PREVIOUS = "previous"
SETTLED = "promotion"
NO_TARGET = "none"
RULE = Promotion()
"""Where a configuration says nothing else."""


def settle(
    version: Version,
    targets: Sequence[Target],
    images: int,
    unlearned: Sequence[str | None],
    rule: Promotion = RULE,
) -> Version:
    """Give a version made and measured for `targets` the aliases that it earns, once.

    Where nobody asks, it runs at the middle one of its targets; its metrics are that one's, on so
    many test images. unlearned: for each target why the version did not learn, None where it did;
    a single one where there is no target. rule: by which it may take an alias from another.
    """
    with _alone(version.name):
        version = registry.resolve(version.uri)  # another process may have settled it
        if SETTLED in version.tags:
            logger.info(
                "%s exists already, no alias changes; when it was made: %s",
                version.uri,
                version.tags[SETTLED],
            )
            return version
        middle = len(targets) // 2
        target = str(targets[middle]) if targets else NO_TARGET
        tags = {"target": target, "test_images": str(images)}
        version = registry.annotate(version, tags, {})
        for each, reason in zip(targets, unlearned, strict=False):
            _point_target(version, each, reason, rule)
        present = champion(version.name)
        promoted, line = verdict(present, version, unlearned[middle], rule)
        if promoted:
            _crown(version, present)
        logger.log(logging.INFO if promoted else logging.WARNING, "%s", line)
        return registry.annotate(version, {SETTLED: line}, {})


def promote(name: str, number: int, target: Target | None = None) -> str:
    """Make a version champion by hand, and say so. Raises InputError for one that is not there.

    target: it gets that target's alias, and not the champion's.
    """
    with _alone(name):
        version = registry.resolve(f"models:/{name}/{number}")
        alias = CHAMPION if target is None else target_alias(target)
        present = _holders(name).get(alias)
        if present is not None and present.version == number:
            return f"{version.uri} is {alias} already, nothing changes"
        if target is None:
            _crown(version, present)
        else:
            registry.set_alias(name, alias, number)
    line = f"{alias} of {name} is now {version.uri}"
    if present is None:
        return line
    back = f"promote {name} {present.version} --target {target}" if target else f"rollback {name}"
    return f"{line}, after {present.uri}; back: dsnet {back}"


def rollback(name: str) -> str:
    """Make the previous champion champion again, and say so.

    Raises InputError for a name that is not registered, or has no champion before the present one.
    """
    with _alone(name):
        holders = _holders(name)
        present, before = holders.get(CHAMPION), holders.get(PREVIOUS)
        if before is None or (present is not None and present.version == before.version):
            now = present.uri if present is not None else "none"
            raise InputError(
                f"model {name}: expected a version with the alias {PREVIOUS}, the champion before "
                f"this one ({now}), found none to go back to; choose one: dsnet promote {name} "
                "VERSION"
            )
        registry.set_alias(name, CHAMPION, before.version)
        registry.remove_alias(name, PREVIOUS)
    line = f"champion of {name} is again {before.uri}"
    if present is None:
        return line
    return f"{line}, after {present.uri}; forward: dsnet promote {name} {present.version}"


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """While one process compares with the champion of a name and changes it, others wait."""
    folder = home() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"champion-{name}.lock"):
        yield


def champion(name: str) -> Version | None:
    """The present champion of a model that has versions."""
    return _holders(name).get(CHAMPION)


def verdict(
    present: Version | None, new: Version, unlearned: str | None, rule: Promotion = RULE
) -> tuple[bool, str]:
    """Whether `new` becomes champion, and the line that tells why or why not.

    present: the champion, None where there is none. unlearned: why `new` did not learn; None: it
    did.
    """
    name, ours = new.name, _told(new)
    by_hand = f"by hand: dsnet promote {name} {new.version}"
    stays = f"champion of {name} stays {_told(present)}" if present else f"no champion of {name}"
    if present is not None and present.version == new.version:
        return False, stays
    if unlearned is not None:
        return False, f"{stays}, {ours} is not promoted: it did not learn ({unlearned}); {by_hand}"
    if present is None:
        return True, f"champion of {name} is now {ours}, the first"
    if reason := reason_against(present, new, rule):
        return False, f"{stays}, {ours} is not promoted: {reason}; {by_hand}"
    allowed, kind = _tolerance(present, new, rule)
    return True, (
        f"champion of {name} is now {ours}, after {_told(present)}: same data and target, no "
        f"costlier, not {_worse(new.headline)} by more than {kind} "
        f"({_amount(new.headline, allowed)} {new.headline.steps}); back: dsnet rollback {name}"
    )


def reason_against(present: Version, new: Version, rule: Promotion = RULE) -> str | None:
    """Why `new` may not take the place of the champion `present`, by the rule; None if it may."""
    if new.version < present.version:
        return "it is older"
    if present.task != new.task:
        return f"another task is not a contest ({new.task}, and the champion's is {present.task})"
    if present.headline != new.headline:
        return (
            f"another measure is not a contest ({new.headline.name}, and the champion's is "
            f"{present.headline.name})"
        )
    if present.tags["dataset_digest"] != new.tags["dataset_digest"]:
        return "it was trained and counted on other data"
    for version in (present, new):
        if (
            missing := _needed(version.headline, rule)
            - version.tags.keys()
            - version.metrics.keys()
        ):
            return f"{version.uri} does not say its {' and '.join(sorted(missing))}"
    if present.tags["target"] != new.tags["target"]:
        return (
            f"another target is not a contest ({new.tags['target']}, and the champion's is "
            f"{present.tags['target']})"
        )
    cost, limit = new.metrics["average_madds"], present.metrics["average_madds"]
    if cost > (1 + rule.cost) * limit:
        more = f"{cost / limit - 1:.1%} more on average"
        return f"it costs {more}, and promotion.cost allows {rule.cost:.1%}"
    headline = new.headline
    worse = headline.error(new.value) - headline.error(present.value)
    allowed, kind = _tolerance(present, new, rule)
    if worse > allowed:
        return (
            f"it is {_worse(headline)} by {_amount(headline, worse)} {headline.steps}, more than "
            f"{kind} ({_amount(headline, allowed)})"
        )
    return None


def _point_target(version: Version, target: Target, unlearned: str | None, rule: Promotion) -> None:
    """Give `version` the alias of a target that it was made for, if the rule allows it; say so."""
    name, alias = version.name, target_alias(target)
    present = _holders(name).get(alias)
    if present is not None and present.version == version.version:
        return
    if unlearned is not None:
        reason: str | None = f"it did not learn ({unlearned})"
    elif present is not None:
        reason = reason_against(_at(present, target), _at(version, target), rule)
    else:
        reason = None
    if reason is not None:
        stays = f"stays with {present.uri}" if present is not None else "names no version"
        by_hand = f"by hand: dsnet promote {name} {version.version} --target {target}"
        logger.warning("%s %s, not %s: %s; %s", alias, stays, version.uri, reason, by_hand)
        return
    registry.set_alias(name, alias, version.version)
    if present is not None:
        logger.info("%s: %s was %s before", version.uri, alias, present.uri)


def _at(version: Version, target: Target) -> Version:
    """A version by what it reaches at one of the targets that a sweep has made it for."""
    wanted = str(target)
    budgets = json.loads(version.tags.get(REACHED, "{}")).get("budgets", {})
    if version.tags.get("target") == wanted or wanted not in budgets:
        return version
    madds, value = budgets[wanted]
    # A standard error among the metrics stays the middle target's, on the same images.
    metrics = {**version.metrics, version.headline.name: value, "average_madds": madds}
    return replace(version, tags={**version.tags, "target": wanted}, metrics=metrics)


def _told(version: Version) -> str:
    reached, madds = version.headline.text(version.value), version.metrics["average_madds"]
    return f"{version.uri} ({reached} at {madds:,.0f} MAdds)"


def _needed(headline: Measure, rule: Promotion) -> set[str]:
    """The tags and metrics without which a version cannot be compared."""
    if rule.tolerance is not None:
        return {"target"}
    return {"target", "test_images"} | (set() if headline.share else {stderr_name(headline)})


def _tolerance(present: Version, new: Version, rule: Promotion) -> tuple[float, str]:
    """How much worse `new` may be, in the headline's own units, and what that is."""
    if rule.tolerance is not None:
        return rule.tolerance, "promotion.tolerance"
    return 2 * _difference_error(present, new), "two standard errors of the difference"


def _difference_error(one: Version, other: Version) -> float:
    """Standard error of the difference of their values."""
    return math.hypot(_standard_error(one), _standard_error(other))


def _standard_error(version: Version) -> float:
    if version.headline.share:
        return standard_error(version.value, int(version.tags["test_images"]))
    return version.metrics[stderr_name(version.headline)]


def _worse(headline: Measure) -> str:
    return "less accurate" if headline.share else "worse"


def _amount(headline: Measure, difference: float) -> str:
    """A difference without its sign, in `headline.steps`."""
    return headline.difference(difference)[1:]


def _crown(version: Version, present: Version | None) -> None:
    # The champion last: until then nothing has changed that anybody pulls by default.
    if present is not None:
        registry.set_alias(version.name, PREVIOUS, present.version)
    registry.set_alias(version.name, CHAMPION, version.version)


def _holders(name: str) -> dict[str, Version]:
    """The version that each alias of a model names. InputError if it is not registered."""
    return {alias: version for version in registry.versions(name) for alias in version.aliases}
