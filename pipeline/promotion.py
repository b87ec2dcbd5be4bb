"""Promotion: the aliases under which other teams find what a chain has made."""

import logging

from dsnet.target import Target, parse_target
from pipeline import registry
from pipeline.registry import CHAMPION, Version

logger = logging.getLogger(__name__)

_TARGET = "target-"


def promote(version: Version, target: Target | None) -> Version:
    """Point the target's alias at `version`, and `champion` unless the present one is better."""
    if target is not None:
        registry.set_alias(version.name, target_alias(target), version.version)
    present = champion(version.name)
    if present is not None and dominates(present, version):
        logger.warning("%s stays champion: as accurate and no costlier", present.uri)
    else:
        registry.set_alias(version.name, CHAMPION, version.version)
    return registry.resolve(version.uri)


def crown_first(version: Version) -> None:
    """Make `version` champion if its name has none."""
    if champion(version.name) is None:
        registry.set_alias(version.name, CHAMPION, version.version)


def champion(name: str) -> Version | None:
    """The present champion of a model that has versions."""
    return next((v for v in registry.versions(name) if CHAMPION in v.aliases), None)


def dominates(present: Version, new: Version) -> bool:
    """Whether `present` is better, on the same data, in one figure and no worse in the other."""
    if present.tags["dataset_digest"] != new.tags["dataset_digest"]:
        return False
    ours = (present.metrics["top1"], -present.metrics["average_madds"])
    theirs = (new.metrics["top1"], -new.metrics["average_madds"])
    return ours != theirs and all(a >= b for a, b in zip(ours, theirs, strict=True))


def target_alias(target: Target) -> str:
    """The alias of a target: 0.5 -> target-50pct, 200M -> target-200M. Aliases have no dots."""
    share = f"{100 * target.fraction:g}pct" if target.fraction is not None else str(target)
    return f"{_TARGET}{share.replace('.', '_')}"


def target_uri(name: str, target: Target) -> str:
    """Where to pull the version of `name` for a target from: models:/NAME@target-50pct."""
    return f"models:/{name}@{target_alias(target)}"


def alias_target(uri: str) -> Target | None:
    """The target that `models:/NAME@target-50pct` asks for; None for any other URI."""
    alias = uri.rpartition("@")[2]
    if not alias.startswith(_TARGET):
        return None
    text = alias.removeprefix(_TARGET).replace("_", ".")
    if text.endswith("pct"):
        return Target(fraction=float(text.removesuffix("pct")) / 100)
    return parse_target(text)
