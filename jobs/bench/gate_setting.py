"""What gates are made from, whichever way: one supernet, the same images, one worker."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import ray

import dsnet
from dsnet import DSNet
from dsnet.routing import RoutingTable
from pipeline import chain
from pipeline.config import Config, config_from_dict, import_plugins
from pipeline.data.dataset import Dataset, ingest
from pipeline.data.manifest import Beton
from pipeline.data.random_bits import permutation
from pipeline.data.split import holdout
from pipeline.routing_table.build import build
from pipeline.routing_table.read import read_table
from pipeline.routing_table.shards import pending
from pipeline.runner.checks import check_classes, check_model
from pipeline.runner.job import Job
from pipeline.runner.supernet import gateless, given_supernet
from pipeline.runner.tables import all_of, described
from pipeline.stages import gate
from pipeline.store import tracking
from pipeline.store.registry import Version
from pipeline.training.worker import LocalWorker, Worker, alone
from pipeline.training.worker_group import WorkerGroup


@dataclass(frozen=True)
class Setting:
    """
    config: for one worker. supernet: calibrated. model: its directory, with the routes that the
    config allows. images, aside: numbers in the training beton of the images to train on and of
    those held out.
    """

    config: Config
    dataset: Dataset
    supernet: Version
    model: Path
    images: np.ndarray
    aside: np.ndarray

    def changed(self, **sections: Any) -> "Setting":
        """The same with fields of the config's sections, or whole values such as `seed`, replaced.

        The images stay, whatever the seed: others would be held out, which the supernet has seen.
        """
        values = self.config.as_dict()
        for name, value in sections.items():
            values[name] = values[name] | value if isinstance(value, dict) else value
        return replace(self, config=config_from_dict(values))

    @contextmanager
    def worker(self) -> Iterator[Worker]:
        """The only worker, which sees `images` and `aside`."""
        folder = self.model.parent / "checkpoint"
        with closing(_SomeImages(self.config, folder, self.images, self.aside)) as worker:
            yield worker

    def straight_through(self) -> DSNet:
        """A gate by stage II's steps and its calibration, without what it evaluates on the way."""
        train = self.dataset.train.beton
        with self.worker() as worker:
            state = gate.prepared(worker, self.model)
            for _ in gate.train_heads(worker, state, train):
                pass
            holdout = worker.holdout_loader(train, self.config.gate.batch_size)
            gate.set_prices(worker, state.model, holdout)
            return state.model

    def table(self, part: str) -> RoutingTable:
        """The routing table of "train", "holdout" or "test" images: built, written and read."""
        manifest, indices = {
            "train": (self.dataset.train, self.images),
            "holdout": (self.dataset.train, self.aside),
            "test": (self.dataset.test, all_of(self.dataset.test)),
        }[part]
        model = dsnet.load(self.model)
        description = described(self.config, self.supernet, model, part, manifest, indices)
        with TemporaryDirectory(dir=self.model.parent) as name:
            folder = Path(name)
            build(
                model,
                manifest.beton,
                indices,
                folder,
                description,
                pending(folder, description),
                batch_size=self.config.table.batch_size,
                threads=self.config.cluster.threads,
            )
            return read_table(folder, description)


@contextmanager
def prepare(config: Config, images: int | None, threads: int) -> Iterator[Setting]:
    """The config's supernet, found or trained as `dsnet run` does, and what to train its gates on.

    images: how many; None for all. They are drawn by the config's seed: data may lie in order of
    class. threads: of torch, and of the loader. Raises InputError as `dsnet run` does.
    """
    import_plugins(config)
    tracking.configure()
    check_model(config)
    given = given_supernet(config)
    dataset = ingest(config)
    check_classes(config, dataset, given)
    with TemporaryDirectory() as folder:
        with tracking.chain_run(config) as run, WorkerGroup() as workers:
            job = Job(config, dataset, run, workers)
            supernet = given or chain.make_supernet(job)
            model = dsnet.save(gateless(job, supernet), Path(folder) / "model")
        ray.shutdown()  # what is measured should have no company
        ours, aside = holdout(dataset.train, config.data.holdout, config.seed)
        drawn = np.sort(ours[permutation(len(ours), config.seed, 0)[:images]])
        setting = Setting(alone(config), dataset, supernet, model, drawn, aside)
        yield setting.changed(cluster={"threads": threads})


def quick(config: Config) -> Config:
    """The same of everything, but as little as there can be; of a name of its own."""
    few = {
        "cluster": {"workers": 1},
        "supernet": {"epochs": 1, "warmup_epochs": 0},
        "gate": {"epochs": 1},
        "table": {"views": 1, "steps": 20},
    }
    values = config.as_dict()
    for section, changed in few.items():
        values[section] |= changed
    return config_from_dict(values | {"name": f"{config.name}-quick"})


class _SomeImages(LocalWorker):
    """images, aside: the numbers of the images to train on and held out, of any beton."""

    def __init__(
        self, config: Config, directory: Path, images: np.ndarray, aside: np.ndarray
    ) -> None:
        super().__init__(config, directory)
        self.images, self.aside = images, aside

    def train_and_holdout(self, beton: Beton) -> tuple[np.ndarray, np.ndarray]:
        return self.images, self.aside
