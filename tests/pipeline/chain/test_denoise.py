"""A denoiser on every stage, from a flat folder of pictures to crops in the report."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dsnet
from dsnet import InputError
from dsnet.routing.target import parse_target
from pipeline import chain
from pipeline.config import Config, config_from_dict
from pipeline.data.dataset import ingest
from pipeline.data.loading.loader import Loader, LoaderOptions
from pipeline.report import render
from pipeline.store import registry
from pipeline.sweep.run import SweepResult, sweep
from pipeline.training.worker_group import WorkerGroup
from tests.conftest import ONE_AT_A_TIME

NOISE = {"noise": [10, 40], "shot": 5}


@pytest.fixture(scope="module")
def config(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Of six pictures, smooth and busy ones, in tiles."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for index in range(6):
        side = 3 if index % 2 else 24
        coarse = Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8))
        coarse.resize((96, 72), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return config_from_dict(
        {
            "name": "small-denoise",
            "task": NOISE,
            "data": {
                "source": str(folder),
                "recipe": "patches",
                "resolution": 24,
                "tile": 24,
                "holdout": 0.25,
                "test_share": 0.34,
            },
            "model": {"arch": "ds_denoiser_48"},
            "cluster": {"workers": 2},
            "supernet": {
                "epochs": 3,
                "batch_size": 4,
                "optimizer": "adamw",
                "lr": 0.002,
                "warmup_epochs": 0,
                "bootstrap": "labels",
            },
            "table": {"views": 1, "steps": 40},
            "sweep": ONE_AT_A_TIME,
        }
    )


@pytest.fixture(scope="module")
def swept(config: Config, workers: WorkerGroup) -> SweepResult:
    targets = [parse_target(target) for target in (0.3, 0.6)]
    return sweep(config, targets, "the test", workers=workers)


def test_the_table_is_the_network(config: Config, swept: SweepResult, tmp_path: Path) -> None:
    """Of every test tile and path, with the noise that the evaluation adds."""
    (version,) = swept.versions
    model = dsnet.load(registry.pull(version.uri, tmp_path / "model"))
    assert model.task.settings() == {"noise": [10.0, 40.0], "shot": 5.0}
    assert model.metadata.std == (1, 1, 1) and model.metadata.classes == ()
    dataset = ingest(config)
    assert dataset.test.samples == 3 * 3 * 4
    with Loader(
        dataset.test.beton,
        LoaderOptions(batch_size=36, recipe="patches", train=False, resolution=24),
    ) as loader:
        (batch,) = loader.epoch(0)
    inputs, targets = model.task.pair(
        dsnet.normalize(batch.images, (0,) * 3, (1,) * 3), batch.labels, batch.keys
    )
    for row, width in zip(swept.results.of_kind("static"), model.space.routes, strict=True):
        with torch.no_grad():
            measured = model.task.measure(model(inputs, width=width), targets)
        for name, values in measured.items():
            assert row.measures[name] == pytest.approx(float(values.mean()), rel=1e-5)
        assert row.madds == model.madds(width)


def test_the_page_shows_what_pictures_become(swept: SweepResult) -> None:
    page = render(swept.results)
    for title in ("given", "slimmest", "routed", "widest", "wanted"):
        assert page.count(f">{title}</span>") == 12
    assert "dB" in page


def test_a_supernet_for_other_noise_or_another_task_is_refused(
    config: Config, swept: SweepResult, workers: WorkerGroup
) -> None:
    supernet = registry.versions("small-denoise-supernet")[-1].uri
    other = {**config.as_dict(), "task": {"noise": 25}, "gate": {"supernet": supernet}}
    with pytest.raises(InputError, match=r"task: expected .*'shot': 5.0.*, found .*'noise': 25"):
        chain.run(config_from_dict(other), workers=workers)
    digits = {"gate": {"supernet": supernet}}
    with pytest.raises(InputError, match="expected a supernet for classification"):
        chain.run(config_from_dict(digits), workers=workers)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"task": {"noise": 25}, "model": {"arch": "ds_mbnet_cifar"}}, "has no settings"),
        ({"task": {"noise": 400}}, "task.noise: expected a level"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_done(
    config: Config, changes: dict[str, object], problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        chain.run(config_from_dict({**config.as_dict(), **changes}))
