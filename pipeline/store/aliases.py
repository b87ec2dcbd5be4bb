"""The aliases of targets: 0.5 is target-50pct, 200M is target-200M."""

from dsnet.routing.target import Target, parse_target

_TARGET = "target-"


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
