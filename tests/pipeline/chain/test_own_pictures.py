"""A folder of class folders, and nothing more, becomes a registered model without an edit."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import chain
from pipeline.config import load_config
from pipeline.data.suggest.suggestion import suggest
from pipeline.training.worker_group import WorkerGroup


@pytest.mark.slow
def test_the_suggested_configuration_ends_registered_and_was_tested_on_the_held_out_fifth(
    workers: WorkerGroup, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0)
    for label, name in enumerate(("red", "green", "blue")):
        (tmp_path / "colours" / name).mkdir(parents=True)
        for number in range(20):
            picture = noise.integers(0, 64, (8, 8, 3), np.uint8)
            picture[..., label] += 128
            Image.fromarray(picture).save(tmp_path / "colours" / name / f"{number}.png")
    file = tmp_path / "colours.yaml"
    file.write_text(suggest(str(tmp_path / "colours")).yaml())
    result = chain.run(load_config(file), workers=workers)
    assert (result.version.name, result.images) == ("colours", 12)
    assert [version.stage for version in result.versions] == ["supernet", "calibrate", "gate"]
    assert result.rows[-1].value > 0.9  # colours are easy to tell
