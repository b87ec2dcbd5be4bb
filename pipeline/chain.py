"""The chain: ingest -> supernet -> calibrate -> gate -> evaluate -> register."""

import json
from dataclasses import dataclass

import dsnet
from dsnet import InputError, create_model
from pipeline import cluster, registry, tracking
from pipeline.config import Config
from pipeline.evaluation import Evaluation, Row
from pipeline.registry import Version
from pipeline.stage import Job
from pipeline.stages.calibrate import calibrate
from pipeline.stages.evaluate import evaluate
from pipeline.stages.gate import gate
from pipeline.stages.ingest import Dataset, ingest
from pipeline.stages.register import register
from pipeline.stages.supernet import supernet


@dataclass(frozen=True)
class ChainResult:
    """What a chain has made."""

    version: Version
    """The gated network, registered and evaluated."""
    rows: list[Row]
    """Every sub-network, the largest width and the dynamic network, on the test images."""
    versions: list[Version]
    """Everything registered under the chain's two names."""


def run(config: Config) -> ChainResult:
    """Run every stage that is not done yet; each takes the version the one before registered.

    Raises InputError, before any training, for what cannot work: an unknown architecture, a target
    out of the routing space's range, data that is not there, a cluster that is too small.
    """
    tracking.configure()
    check_model(config)
    given = registry.resolve(config.gate.supernet) if config.gate.supernet else None
    dataset = ingest(config)
    check_classes(config, dataset)
    cluster.connect(config.cluster)
    with tracking.chain_run(config) as parent:
        job = Job(config, dataset, parent)
        version = gate(job, given or calibrate(job, supernet(job)))
        version = register(job, evaluate(job, version))
        counts = Evaluation.from_dict(json.loads(version.tags["evaluation"]))
        rows = counts.rows(dsnet.load(job.local(version)))
        names = (version.name, job.supernet_name) if given is None else (version.name,)
        return ChainResult(version, rows, [v for name in names for v in registry.versions(name)])


def check_model(config: Config) -> None:
    """Raise InputError if the model cannot be made or the target cannot be met."""
    model = create_model(config.model.arch, 2, routes=config.model.routes)
    resolution = config.data.resolution
    if config.gate.target is not None:
        config.gate.target.madds([model.madds(i, resolution) for i in model.space.routes])


def check_classes(config: Config, dataset: Dataset) -> None:
    """Raise InputError if the model has fewer outputs than the data has classes."""
    wanted, classes = config.model.num_classes, len(dataset.train.classes)
    if wanted is not None and wanted < classes:
        raise InputError(
            f"model.num_classes: expected at least {classes}, the classes of {config.data.source}, "
            f"found {wanted}"
        )
