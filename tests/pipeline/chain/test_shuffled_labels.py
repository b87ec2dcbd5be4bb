"""A training that cannot learn says so while it goes on, and nobody gets what came of it."""

import logging
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from jobs.commands.run import print_result
from pipeline import chain
from pipeline.store import registry
from pipeline.training.worker_group import WorkerGroup
from tests.pipeline.chain.conftest import configured

EPOCHS = 6


def shuffled_digits(folder: Path) -> Path:
    """Six hundred digits in class folders, each in one that was drawn for it."""
    digits = load_digits()
    labels = np.random.default_rng(0).permutation(digits.target)
    for number, (pixels, label) in enumerate(zip(digits.images[:600], labels[:600], strict=True)):
        split = "test" if number % 4 == 0 else "train"
        path = folder / split / str(label) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15.9375).astype(np.uint8)).convert("RGB").save(path)
    return folder


def test_shuffled_labels_are_told_before_a_third_of_the_steps_and_take_no_alias(
    workers: WorkerGroup,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = configured(
        name="shuffled",
        data={"source": str(shuffled_digits(tmp_path / "shuffled")), "holdout": 0.3},
        supernet={"epochs": EPOCHS, "batch_size": 8, "lr": 0.1},
    )
    with caplog.at_level(logging.INFO):
        result = chain.run(config, workers=workers)
    told = [line for line in caplog.messages if line.startswith("supernet: epoch ")]
    assert len(told) == EPOCHS
    assert all("held-out top-1 " in each and "% slimmest, " in each for each in told)
    (warned,) = [r for r in caplog.records if "the widest is at chance" in r.getMessage()]
    found = re.search(r"after (\d+) of (\d+) steps", warned.getMessage())
    assert warned.levelno == logging.WARNING and found is not None
    assert 3 * int(found[1]) <= int(found[2])
    assert "dsnet inspect" in warned.getMessage()
    # It has an alias neither of its target nor as the first of its name.
    assert result.unlearned is not None
    assert [version.aliases for version in registry.versions("shuffled")] == [()]
    print_result(result)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("models:/shuffled/1 DID NOT LEARN and took no alias: top-1 is ")
