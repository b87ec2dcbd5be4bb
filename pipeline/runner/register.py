"""A model becomes a registered version, which the next stage finds in the storage."""

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import dsnet
from dsnet import InputError
from dsnet.inference.export import write_onnx
from dsnet.io.files import write_sums
from dsnet.routing.tuned import TunedGate
from pipeline.cluster import events
from pipeline.config import Config
from pipeline.data.dataset import Dataset
from pipeline.report.plot import accuracy_file
from pipeline.report.results import GATE as ROUTED
from pipeline.report.results import STATIC, Row
from pipeline.runner.job import GATE, Job
from pipeline.runner.seen import record
from pipeline.store import registry
from pipeline.store.card import REACHED, Reached
from pipeline.store.code_version import code_version
from pipeline.store.registry import Version
from pipeline.store.tracking import Run

logger = logging.getLogger(__name__)


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
    reached: Reached | None = None,
    given: Mapping[str, str] | None = None,
) -> Version:
    """Make `model` the next version of `name`, with where it comes from and what it reaches.

    metrics: the headline's mean and average_madds at least, on the images that `evaluated_on` says.
    key: the stage's fingerprint. gates: what `dsnet.load` chooses from for a budget. attach:
    puts further files into the model directory. reached: what the card shows and draws. given:
    tags of one that was not trained here, and whose training images nobody knows. A gated network
    goes with its ONNX file.
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
                logger.warning("%s is registered without an ONNX file: %s", name, error)
        version = registry.register(
            name,
            directory,
            stage=stage,
            run_id=run.id,
            tags={
                "fingerprint": key,
                "parent": parent.uri if parent else "",
                "dataset_digest": job.dataset.digest,
                "data": data_tag(job.dataset),
                "code_version": code_version(),
                "evaluated_on": evaluated_on,
                **(_trained(job, run, parent) if given is None else given),
                "task": model.task.name,
                "headline": model.task.headline.name,
                **({REACHED: reached.json()} if reached else {}),
            },
            metrics=metrics,
            aliases=aliases,
            picture=accuracy_file(_points(model, metrics, reached), model.task.headline)
            if reached
            else None,
        )
        events.tell("registered", stage=stage, version=version.uri, run_id=run.known_id)
        job.keep(version, directory)
        return version


def _trained(job: Job, run: Run, parent: Version | None) -> dict[str, str]:
    """Tags of what was trained here: which pictures were held out, and a record of the others."""
    tags = {"holdout": holdout_tag(job.config)}
    if parent is not None and parent.tags.get("dataset_digest") == job.dataset.digest:
        return tags  # it, or one before it, has the record
    return tags | record(job.dataset.train, run)


def _points(model: dsnet.DSNet, metrics: Mapping[str, float], reached: Reached) -> list[Row]:
    """Of every width and every budget; of the gate as it is, where there are no budgets."""
    rows = [
        Row(STATIC, f"width {index}", madds=float(model.madds(index)), value=value)
        for index, value in reached.widths.items()
    ]
    budgets = {f"budget {target}": point for target, point in reached.budgets.items()}
    if model.gates_trained and not budgets:
        point = metrics["average_madds"], metrics[model.task.headline.name]
        budgets = {"as the gate chooses": point}
    return rows + [
        Row(ROUTED, name, madds=madds, value=value, chosen=True)
        for name, (madds, value) in budgets.items()
    ]


def data_tag(dataset: Dataset) -> str:
    """The data in words, for people."""
    counts = f"{dataset.train.samples:,} training and {dataset.test.samples:,} test images"
    return f"{Path(dataset.train.source).name}: {counts}"


def holdout_tag(config: Config) -> str:
    """Which training images a version was not trained on: `data.holdout` of them, by `seed`."""
    return f"{config.data.holdout:g}, {config.seed}"
