"""What all stages share: found by fingerprint if made before, else trained, else registered."""

import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import dsnet
from dsnet import InputError
from dsnet.files import write_sums
from dsnet.inference.export import write_onnx
from dsnet.routing.tuned import TunedGate
from pipeline.config import Config, storage_dir
from pipeline.data.dataset import Dataset
from pipeline.store import registry, tracking
from pipeline.store.code_version import code_version
from pipeline.store.fingerprint import Spec, fingerprint
from pipeline.store.registry import Version
from pipeline.store.tracking import Run
from pipeline.training.evaluation import Evaluation, stderr_name
from pipeline.training.state import MODEL
from pipeline.training.trainer import Loop, StageResult, train
from pipeline.training.worker import Settings

logger = logging.getLogger(__name__)

GATE = "gate"  # the stage whose versions are served


@dataclass(frozen=True)
class Job:
    """One chain: what it was asked for, its data, and its MLflow run."""

    config: Config
    dataset: Dataset
    run: Run

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

    def local(self, version: Version) -> Path:
        """The version's model directory, in the storage that every worker reads."""
        folder = storage_dir(self.config) / "versions" / f"{version.name}-{version.version}"
        return registry.pull(version.uri, folder)


def find_or_train(
    job: Job,
    stage: Spec,
    name: str,
    loop: Loop,
    settings: Settings,
    parent: Version | None = None,
) -> Version:
    """The version of `name` that `loop` makes, trained now or found where it was trained before.

    Its metrics are counted by the loop on the images that were kept from training.
    """
    key = job.fingerprint(stage, [parent] if parent else [])
    if found := registry.find(name, key):
        logger.info("%s: %s is there already", stage.name, found.uri)
        return found
    if parent is not None:
        settings = {**settings, "model": str(job.local(parent))}
    with tracking.stage_run(job.run, stage.name, {"fingerprint": key}) as run:
        outcome = run_loop(job, stage, loop, settings, key, run)
        counts = Evaluation.from_dict(outcome.metrics["evaluation"])
        model = dsnet.load(outcome.directory / MODEL)
        metrics = headline(counts, model)
        return register_model(job, stage.name, name, model, metrics, key, run, parent)


def register_model(
    job: Job,
    stage: str,
    name: str,
    model: dsnet.DSNet,
    metrics: dict[str, float],
    key: str,
    run: Run,
    parent: Version | None,
    *,
    gates: Sequence[TunedGate] = (),
    evaluated_on: str = "holdout",
    aliases: Sequence[str] = (),
    attach: Callable[[Path], object] | None = None,
) -> Version:
    """Make `model` the next version of `name`, with where it comes from and what it reaches.

    metrics: the headline's mean and average_madds at least, on the images that `evaluated_on` says.
    key: the stage's fingerprint. gates: what `dsnet.load` chooses from for a budget. attach:
    puts further files into the model directory. A gated network goes with its ONNX file.
    """
    with tempfile.TemporaryDirectory() as folder:
        directory = dsnet.save(model, Path(folder, "model"), gates)
        if attach is not None:
            attach(directory)
            write_sums(directory)
        if stage == GATE:
            try:
                write_onnx(model, directory)
            except InputError as error:
                logger.warning("%s goes without an ONNX file: %s", name, error)
        return registry.register(
            name,
            directory,
            stage=stage,
            run_id=run.id,
            tags={
                "fingerprint": key,
                "parent": parent.uri if parent else "",
                "dataset_digest": job.dataset.digest,
                "code_version": code_version(),
                "evaluated_on": evaluated_on,
                "holdout": holdout_tag(job.config),
                "task": model.task.name,
                "headline": model.task.headline.name,
            },
            metrics=metrics,
            aliases=aliases,
        )


def holdout_tag(config: Config) -> str:
    """Which training images a version was not trained on: `data.holdout` of them, by `seed`."""
    return f"{config.data.holdout:g}, {config.seed}"


def run_loop(
    job: Job,
    stage: Spec,
    loop: Loop,
    settings: Settings,
    key: str,
    run: Run,
) -> StageResult:
    """What `loop` reported from its workers. `key`: the stage's fingerprint."""
    settings = {
        **settings,
        "train": str(job.dataset.train.beton),
        "test": str(job.dataset.test.beton),
    }
    return train(stage.name, loop, job.config, settings, fingerprint=key, run=run)


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
