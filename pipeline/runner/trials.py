"""Short trainings of a few configurations, to choose one by held-out pictures."""

import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np

import dsnet
from pipeline.cluster.progress import Progress
from pipeline.config import Config, config_from_dict
from pipeline.data.dataset import ingest
from pipeline.data.manifest import Beton
from pipeline.data.random_bits import permutation
from pipeline.data.threads import torch_threads
from pipeline.stages import calibrate, supernet
from pipeline.stages.stage import Inputs, Stage, Upstream
from pipeline.training.evaluation import Evaluation
from pipeline.training.local_worker import LocalWorker, alone


def tried(candidates: Mapping[str, Config], images: int) -> dict[str, float]:
    """Train each for `images` images in this process: the headline's mean over its widths.

    The candidates' data are the same, and are ingested where they are not there yet. What is
    measured are the held-out pictures, not those that a chain is tested on.
    """
    reached = {}
    with Progress("trials", total=len(candidates), unit="trainings") as progress, torch_threads():
        for done, (name, config) in enumerate(candidates.items(), start=1):
            reached[name] = _reached(config, images)
            progress.update(done, **{name: f"{reached[name]:.3g}"})
    return reached


class _FewPictures(LocalWorker):
    """Trains on the first `most` of the shuffled training pictures."""

    most: int

    def train_and_holdout(self, beton: Beton) -> tuple[np.ndarray, np.ndarray]:
        ours, aside = super().train_and_holdout(beton)
        return np.sort(ours[permutation(len(ours), self.config.seed, 0)[: self.most]]), aside


def _reached(config: Config, images: int) -> float:
    dataset = ingest(config)
    pictures = dataset.train.samples * (1 - config.data.holdout)
    config = _short(config, max(1, round(images / pictures)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def run(stage: Stage[Inputs], model: Path | None) -> LocalWorker:
            with closing(_FewPictures(config, folder / stage.spec.name)) as worker:
                worker.most = images
                stage.loop(worker, stage.inputs.of(Upstream(config, dataset, model)))
            return worker

        run(supernet.STAGE, None)
        worker = run(calibrate.STAGE, folder / supernet.SPEC.name / "model")
        model = dsnet.load(folder / calibrate.SPEC.name / "model")
    rows = Evaluation.from_dict(worker.metrics[-1]["evaluation"]).rows(model)
    return sum(row.value for row in rows) / len(rows)


def _short(config: Config, epochs: int) -> Config:
    """A training of so many epochs by one worker with all workers' threads, measured at its end."""
    values = alone(config).as_dict()
    values["cluster"]["threads"] = config.cluster.threads * config.cluster.max_workers
    values["supernet"] |= {"epochs": epochs, "checkpoint_every": epochs, "evaluate_every": None}
    return config_from_dict(values)
