"""What a stage's result depends on, as one digest: equal digests mean that it need not run again.

The code counts by its content and not by its git commit: a commit changes with a README, and says
nothing of what is not committed. It counts without the files that only carry or show results, so
that a clearer message does not train a network again.
"""

import hashlib
import importlib.metadata
import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.config import Config

_ROOT = Path(__file__).resolve().parent.parent
_WITHOUT_EFFECT = (
    "pipeline/board.py",
    "pipeline/config",  # values count, below; how they are read does not
    "pipeline/doctor.py",
    "pipeline/fingerprint.py",
    "pipeline/metrics.py",
    "pipeline/mlflow_callback.py",
    "pipeline/mlflow_environment.py",
    "pipeline/predict.py",
    "pipeline/progress.py",
    "pipeline/promotion.py",
    "pipeline/registry.py",
    "pipeline/report",
    "pipeline/sanity.py",
    "pipeline/tracking.py",
)

# Where the files lie, how many threads read them and how often is saved changes no result. The
# number of workers does: it is a factor of the batch.
_INPUT = ("data.recipe", "data.resolution", "data.max_resolution", "data.holdout", "seed")
_STAGES: dict[str, tuple[str, ...]] = {
    "supernet": (*_INPUT, "model", "cluster.workers", "supernet"),
    "calibrate": (*_INPUT, "calibrate"),
    "table": (*_INPUT, "model.routes", "table.views"),
    "gate": (*_INPUT, "model.routes", "cluster.workers", "gate", "table"),
    "sweep": (*_INPUT, "model.routes", "gate", "table", "sweep"),
    "evaluate": (*_INPUT, "evaluate"),
}
_NOT_COUNTED = frozenset(
    {
        "supernet.checkpoint_every",
        "gate.supernet",
        "table.batch_size",
        "sweep.cpus_per_trial",
        "evaluate.batch_size",
    }
)


def fingerprint(stage: str, config: Config, *, inputs: Sequence[str], dataset_digest: str) -> str:
    """SHA-256, in hexadecimal, of all that the result of `stage` depends on.

    `inputs`: identities of the versions it reads, best their own fingerprints, in order.
    `dataset_digest`: of the data it reads.
    """
    if stage not in _STAGES:
        raise ValueError(f"stage {stage!r}: expected one of {', '.join(_STAGES)}")
    document = {
        "stage": stage,
        "config": _selected(config.as_dict(), _STAGES[stage]),
        "inputs": list(inputs),
        "dataset": dataset_digest,
        "code": source_digest(),
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def code_version() -> str:
    """For people: `0.1.0+3fe1…`, or in a checkout the commit, with what is not committed marked.

    The mark is the start of `source_digest`, so that two states of one commit differ.
    """
    mark = source_digest()[:8]
    commit = _git("rev-parse", "--short=12", "HEAD")
    if commit is None:
        try:
            return f"{importlib.metadata.version('dsnet')}+{mark}"
        except importlib.metadata.PackageNotFoundError:  # a job's uploaded sources
            return f"sources+{mark}"
    changed = _git("status", "--porcelain", "--", "dsnet", "pipeline", "jobs", "pyproject.toml")
    return commit if changed == "" else f"{commit}-dirty.{mark}"


@cache
def source_digest() -> str:
    """SHA-256 of the sources in dsnet/ and pipeline/ that results depend on: names and content."""
    return digest_of(_ROOT, _WITHOUT_EFFECT)


def digest_of(root: Path, without: Iterable[str]) -> str:
    """SHA-256 of the .py files in `root`'s dsnet/ and pipeline/, but for the paths in `without`."""
    skipped = [root / path for path in without]
    total = hashlib.sha256()
    for folder in ("dsnet", "pipeline"):
        for path in sorted((root / folder).rglob("*.py")):
            if not any(path.is_relative_to(skip) for skip in skipped):
                total.update(path.relative_to(root).as_posix().encode() + b"\0")
                total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _selected(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The named fields and sections, by dotted name, without those that never count."""
    chosen: dict[str, Any] = {}
    for name in names:
        value: Any = values
        for part in name.split("."):
            value = value[part]
        if isinstance(value, Mapping):
            chosen |= {f"{name}.{key}": item for key, item in value.items()}
        else:
            chosen[name] = value
    return {name: value for name, value in chosen.items() if name not in _NOT_COUNTED}


def _git(*arguments: str) -> str | None:
    """What git prints, None outside of a checkout of this project."""
    if not (_ROOT / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(_ROOT), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
