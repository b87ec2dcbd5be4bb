"""A training that is stopped within an epoch goes on as if nothing had been."""

import json
import random
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pipeline.config import config_from_dict
from pipeline.data.ingest.ingest import ingest
from pipeline.data.sources import open_source
from pipeline.stages import supernet
from pipeline.training.local_worker import LocalWorker
from pipeline.training.worker import Preempted
from tests import forked
from tests.pipeline.training.made import (
    BATCHES,
    Made,
    Stopped,
    differing,
    made,
    on_rank,
    small_config,
)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("arch", ["mbnet with one gate", "resnet with two gates"])
def test_stopped_and_resumed_equals_undisturbed(
    arch: str, optimizer: str, layout: torch.memory_format, tmp_path: Path
) -> None:
    saved = small_config(optimizer, checkpoint_steps=1)
    # What is undisturbed makes no checkpoint within an epoch: that one makes them changes nothing.
    whole = made(tmp_path / "whole", small_config(optimizer), arch, layout).run()
    parts = tmp_path / "parts"
    stop = random.Random(f"{arch} {optimizer} {layout}").randrange(1, 2 * BATCHES)
    with pytest.raises(Stopped):
        made(parts, saved, arch, layout).stopped_after(stop).run()
    resumed = made(parts, saved, arch, layout).run()
    assert differing(whole.everything(), resumed.everything()) == []
    assert resumed.reports == whole.reports[-len(resumed.reports) :]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A beton of 40 pictures of five classes, of which the first has more than half."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for number in range(40):
        path = folder / str(max(number % 12 - 7, 0)) / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20, 24, 3), np.uint8)).save(path)
    return ingest(open_source(str(folder), "train"), folder / "train.beton").beton


def test_an_augmented_and_mixed_training_at_rising_resolution_goes_on_as_it_would_have(
    pictures: Path, tmp_path: Path
) -> None:
    """Crops, colours, mixtures, sizes and draws follow from counters, and from no generator."""

    def training(folder: str, **fields: object) -> Made:
        config = small_config(batch_size=9, resolution_from=8, resolution_until=1.0, **fields)
        values = config.as_dict()
        recipe = {"base": "paper", "mixup": 0.2, "cutmix": 1.0}
        values["data"] |= {"recipe": recipe, "resolution": 16, "sampling": "balanced"}
        config = config_from_dict(values)
        found = made(tmp_path / folder, config)
        side = partial(supernet.resolution_of_epoch, config)
        loader = found.worker.train_loader(pictures, 9, mix=True, resolution_of=side)
        return replace(found, loader=loader)

    seen: list[tuple[int, ...]] = []
    whole = training("whole")
    inner = whole.algorithm.step

    def step(images: Tensor, targets: Tensor, *rest: Any) -> dict[str, Tensor]:
        assert targets.shape == (9, 5) and targets.is_floating_point()
        seen.append(tuple(images.shape[2:]))
        return inner(images, targets, *rest)

    whole.algorithm.step = step  # type: ignore[method-assign]
    whole.run()
    assert seen == BATCHES * [(8, 8)] + BATCHES * [(16, 16)]
    for number, stop in enumerate((2, BATCHES + 1)):
        with pytest.raises(Stopped):
            training(str(number), checkpoint_steps=1).stopped_after(stop).run()
        torch.manual_seed(stop)  # as another process would have it
        resumed = training(str(number), checkpoint_steps=1).run()
        assert differing(whole.everything(), resumed.everything()) == []
        assert resumed.reports == whole.reports[-len(resumed.reports) :]


class LosesItsNode(LocalWorker):
    """One that is told so after its first step."""

    def preempted(self) -> bool:
        return True


def test_before_a_node_is_taken_away_it_saves_and_leaves(tmp_path: Path) -> None:
    config = small_config()  # no checkpoint is due within an epoch
    whole = made(tmp_path / "whole", config).run()
    with pytest.raises(Preempted):
        made(tmp_path / "parts", config, worker=LosesItsNode).run()
    elsewhere = made(tmp_path / "parts", config)
    elsewhere.worker.resume(elsewhere.state.restore)
    assert (elsewhere.state.epoch, elsewhere.state.step) == (0, 1)
    assert differing(whole.everything(), elsewhere.run().everything()) == []


@pytest.mark.parametrize("accumulate", [2, 3])
def test_it_goes_on_between_steps_of_several_batches(accumulate: int, tmp_path: Path) -> None:
    config = small_config(checkpoint_steps=1, accumulate=accumulate)
    whole = made(tmp_path / "whole", config).run()
    with pytest.raises(Stopped):
        made(tmp_path / "parts", config).stopped_after(1).run()
    resumed = made(tmp_path / "parts", config).run()
    assert [report["steps"] for report in whole.reports] == [2, 4]
    assert differing(whole.everything(), resumed.everything()) == []
    assert resumed.reports == whole.reports


def test_two_ranks_each_go_on_with_their_own(tmp_path: Path) -> None:
    forked.run(on_rank, tmp_path, BATCHES + 2, processes=2)
    for rank in range(2):
        told = json.loads((tmp_path / f"{rank}.json").read_text())
        assert told == {"differing": [], "reports": True}


def test_what_a_snapshot_writes_is_what_was_then(tmp_path: Path) -> None:
    training = made(tmp_path / "run", small_config())
    then, write = training.everything(), training.state.snapshot()
    training.run()
    write(tmp_path)
    restored = made(tmp_path / "none", small_config())
    restored.state.restore(tmp_path)
    assert differing(then, restored.everything()) == []
