"""One chain or sweep on its driver: its configuration, data, MLflow run and workers, its models."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

import dsnet
from dsnet.io.files import atomic_directory
from pipeline.cluster import events
from pipeline.config import Config, lock_file, version_dir
from pipeline.data.dataset import Dataset
from pipeline.runner.force import Forced
from pipeline.store import registry
from pipeline.store.fingerprint import Spec, fingerprint
from pipeline.store.registry import Version
from pipeline.store.tracking import Run
from pipeline.training.evaluation import Evaluation, stderr_name

if TYPE_CHECKING:  # it brings Ray Train, without which a finished chain does
    from pipeline.training.worker_group import WorkerGroup

logger = logging.getLogger(__name__)

GATE = "gate"  # the stage whose versions are served


@dataclass(frozen=True)
class Start:
    """The starting point of a supernet, see `runner.starting_point`."""

    directory: Path
    """Its model directory, in the storage."""
    identity: str
    """What the supernet's fingerprint has of it: a version's own fingerprint, or a digest of all
    that is read of a directory (weights, architecture, names of classes)."""
    version: Version | None = None
    """Where it is a registered one."""


@dataclass(frozen=True)
class Job:
    """One chain or sweep."""

    config: Config
    dataset: Dataset
    run: Run
    workers: "WorkerGroup"
    start: Start | None = None
    """What the first stage starts from, where the config names something."""
    forced: Forced | None = None
    """What is made again although it exists."""

    @property
    def supernet_name(self) -> str:
        """Registered name of stage I's models."""
        return f"{self.config.name}-supernet"

    def fingerprint(self, stage: Spec, inputs: Sequence[Version] = (), *rest: str) -> str:
        """What the result of `stage` depends on, as one digest; `rest`: what else it was asked."""
        return fingerprint(
            stage,
            self.config,
            inputs=[*(version.tags["fingerprint"] for version in inputs), *rest],
            dataset_digest=self.dataset.digest,
        )

    def found(self, name: str, key: str, place: str | None = None) -> Version | None:
        """The newest version of `name` with that fingerprint, unless it is to be made again.

        place: which one that was given may take, see `runner.register_external`.
        """
        version = registry.find(name, key, place)
        return version if version is not None and self.accepts(key, version) else None

    def accepts(self, key: str, version: Version) -> bool:
        """Whether what a stage with that fingerprint has made of `version` will do."""
        return self.forced is None or self.forced.accepts(key, version.version)

    @contextmanager
    def found_or_locked(
        self, stage: str, name: str, key: str, place: str | None = None
    ) -> Iterator[Version | None]:
        """Within, what `found` returns; if that is None, no other run makes it meanwhile."""
        if found := self.found(name, key, place):
            events.tell("there", stage=stage, version=found.uri)
            yield found
            return
        with self.alone(f"{name}-{stage}", key):
            # Looked for again: the run that was waited for may have made it.
            if found := self.found(name, key, place):
                logger.info("%s: found %s, which another run has made", stage, found.uri)
            yield found

    @contextmanager
    def alone(self, what: str, key: str) -> Iterator[None]:
        """While one run makes `what` with the fingerprint `key`, others that want it wait.

        A run that has waited has to look again for the result. The lock ends with its process,
        however that ends.
        """
        lock = FileLock(lock_file(self.config, what, key))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.info("%s: another run is making it; waiting for its end", what)
            self.workers.leave()  # or each may hold what the other waits for
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def local(self, version: Version) -> Path:
        """The version's model directory, in the storage that every worker reads."""
        return local(self.config, version)

    def keep(self, version: Version, directory: Path) -> None:
        """Let `local` find the model directory that was just registered as `version`.

        Whole or not at all; what the registry has need not be fetched from it again.
        """
        with atomic_directory(version_dir(self.config, version.name, version.version)) as folder:
            shutil.copytree(directory, folder, dirs_exist_ok=True)


def local(config: Config, version: Version) -> Path:
    """Its model directory in the storage, fetched from the registry if it is not there."""
    return registry.pull(version.uri, version_dir(config, version.name, version.version))


def headline(counts: Evaluation, model: dsnet.DSNet) -> dict[str, float]:
    """Every measure's mean and the average MAdds, as metrics of a version.

    Of the dynamic network, or of the widest before there is a gate. Where the headline is no share,
    its standard error too, which a share's value tells by itself: `psnr_stderr`.
    """
    rows = {row.name: row for row in counts.rows(model)}
    row = rows.get("dynamic") or rows[f"width {len(model.space) - 1}"]
    metrics = {**row.measures, "average_madds": row.madds}
    if not model.task.headline.share:
        metrics[stderr_name(model.task.headline)] = row.stderr
    return metrics
