"""The routing tables of a supernet: train, held-out and test, built once for every target."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import dsnet
from dsnet import DSNet
from dsnet.routing import RoutingTable
from pipeline.config import Config, table_dir
from pipeline.data.manifest import Manifest
from pipeline.data.split import holdout
from pipeline.routing_table.arrays import Arrays
from pipeline.routing_table.description import Description, describe
from pipeline.routing_table.read import read_arrays, read_table
from pipeline.routing_table.shards import pending
from pipeline.runner.job import Job
from pipeline.stages import table as table_stage
from pipeline.store import tracking
from pipeline.store.registry import Version

PARTS = ("train", "holdout", "test")


@dataclass(frozen=True)
class Tables:
    """Where the tables lie, and what each is a table of."""

    folder: Path
    descriptions: dict[str, Description]

    def read(self, part: str) -> RoutingTable:
        """One table, in memory. Raises InputError if it is not whole."""
        return read_table(self.folder / part, self.descriptions[part])

    def arrays(self, part: str) -> Arrays:
        """One table as plain arrays, for Ray's object store."""
        return read_arrays(self.folder / part, self.descriptions[part])


def make_tables(job: Job, supernet: Version, model: DSNet) -> Tables:
    """Build what is missing of the supernet's tables, on Ray Train workers.

    model: the supernet's network, with the routes that its gates may pick. Raises InputError if the
    folder holds tables of anything else, or the gates have too many joint paths.
    """
    key = job.fingerprint(table_stage.SPEC, [supernet])
    folder = table_dir(job.config, supernet.name, key)
    images = _images(job)
    descriptions = {
        part: described(job.config, supernet, model, part, manifest, indices)
        for part, (manifest, indices) in images.items()
    }
    tables = Tables(folder, descriptions)
    with job.alone(f"{supernet.name}-table", key):
        missing = {part: pending(folder / part, descriptions[part]) for part in PARTS}
        if not any(missing.values()):
            return tables
        directory = dsnet.save(model, folder / "model")
        parts = [
            table_stage.Part(
                manifest.place, indices, folder / part, descriptions[part], missing[part]
            )
            for part, (manifest, indices) in images.items()
        ]
        with tracking.stage_run(job.run, "table", {"fingerprint": key}) as run:
            stage, inputs = table_stage.STAGE, table_stage.Inputs(directory, parts)
            name = stage.spec.name
            job.workers.run(name, stage.loop, inputs, job.config, fingerprint=key, run=run)
        return tables


def _images(job: Job) -> dict[str, tuple[Manifest, np.ndarray]]:
    """Which images of which beton make each table."""
    train, test = job.dataset.train, job.dataset.test
    ours, aside = holdout(train, job.config.data.holdout, job.config.seed)
    return {"train": (train, ours), "holdout": (train, aside), "test": (test, all_of(test))}


def all_of(manifest: Manifest) -> np.ndarray:
    """Every index of a beton."""
    return np.arange(manifest.samples)


def described(
    config: Config,
    supernet: Version,
    model: DSNet,
    part: str,
    manifest: Manifest,
    indices: np.ndarray,
) -> Description:
    """One part's table, before it is built: training images as training sees them, the others as
    evaluation does.
    """
    return describe(
        model,
        manifest,
        indices,
        supernet=supernet.uri,
        fingerprint=supernet.tags["fingerprint"],
        part=part,
        views=config.table.views if part == "train" else 0,
        recipe=config.data.recipe,
        resolution=config.data.resolution,
        seed=config.seed,
    )
