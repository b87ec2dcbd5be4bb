"""A short training on few pictures teaches every width, whatever the slim ones learn from."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.config import Config, config_from_dict
from pipeline.data.dataset import Dataset, ingest
from pipeline.stages import calibrate, supernet
from pipeline.stages.stage import Upstream
from pipeline.training.evaluation import Evaluation
from pipeline.training.local_worker import LocalWorker

PICTURES = 500
CHANCE = 0.1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 handwritten digits as files of 32 pixels, a folder for each class."""
    digits = load_digits()
    source = tmp_path_factory.mktemp("few")
    for split, first, last in (("train", 0, PICTURES), ("test", PICTURES, PICTURES + 100)):
        for index in range(first, last):
            place = source / split / str(digits.target[index])
            place.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray((digits.images[index] * 15.9).astype(np.uint8))
            picture.resize((32, 32), Image.Resampling.BICUBIC).save(place / f"{index}.png")
    return source


def trained(config: Config, dataset: Dataset, folder: Path) -> list[float]:
    """Stage I and recalibration in this process; top-1 of every width on held-out pictures."""
    for name, stage, model in (
        ("supernet", supernet.STAGE, None),
        ("calibrate", calibrate.STAGE, folder / "supernet" / "model"),
    ):
        with closing(LocalWorker(config, folder / name)) as worker:
            upstream = Upstream(config, dataset, model)
            stage.loop(worker, stage.inputs.of(upstream))
    counts = Evaluation.from_dict(worker.metrics[-1]["evaluation"])
    return [right / counts.images for right in counts.static.values["top1"]]


@pytest.mark.parametrize("bootstrap", ["ensemble", "plain", "distill", "labels"])
def test_every_width_learns_from_500_pictures(folder: Path, tmp_path: Path, bootstrap: str) -> None:
    """Slim widths that imitate a teacher which knows nothing yet learn its constant answer by
    heart, and the filters that they share with the teacher with it."""
    config = config_from_dict(
        {
            "data": {
                "source": str(folder),
                "recipe": "digits",
                "resolution": 16,
                "holdout": 0.2,
                "dir": str(folder.parent),
            },
            "model": {"arch": "ds_resnet12_mnist"},
            "cluster": {"workers": 1},
            "supernet": {
                "epochs": 12,
                "batch_size": 64,
                "lr": 0.1,
                "schedule": "one_cycle",
                "random_widths": 1,
                "bootstrap": bootstrap,
                "checkpoint_every": 12,
            },
        }
    )
    top1 = trained(config, ingest(config), tmp_path)
    assert min(top1) > 5 * CHANCE, top1
