"""Stage I from another's weights: what is handed on has them where it should not learn."""

from contextlib import closing
from pathlib import Path

import pytest
import torch

import dsnet
from dsnet import InputError
from pipeline.config import config_from_dict
from pipeline.stages import supernet
from pipeline.stages.stage import Upstream
from pipeline.training.local_worker import LocalWorker
from tests.pipeline.stages.tiny import Tiny


def test_a_frozen_part_is_the_starting_points_and_the_rest_goes_on_from_it(tmp_path: Path) -> None:
    tiny = Tiny(tmp_path)
    start = dsnet.save(tiny.model, tmp_path / "start")
    values = tiny.config.as_dict()
    values["supernet"] |= {"from": str(start), "freeze": ["stem", "stages.0"], "trunk_lr": 0.1}
    config = config_from_dict(values)
    with pytest.raises(InputError, match=r"supernet\.from: expected none"):
        supernet.Inputs.of(Upstream(config, tiny.dataset))
    with closing(LocalWorker(config, tmp_path / "checkpoint")) as worker:
        upstream = Upstream(config, tiny.dataset, start=start)
        supernet.loop(worker, supernet.Inputs.of(upstream))
    first, *later = [said.line for said in worker.said]
    assert first.startswith("before the first step: held-out top-1 ")
    assert later[0].startswith("epoch 1 of 1, 2 of 2 steps: held-out top-1 ")
    tuned = dsnet.load(tmp_path / "checkpoint" / "model")
    for name, parameter in tuned.named_parameters():
        before = tiny.model.get_parameter(name)
        if ".slimming." in name:
            assert not parameter.any()  # stage II's
        elif name.startswith(("stem.", "stages.0.")):
            assert torch.equal(parameter, before), name
        elif parameter.ndim > 1:
            # Three steps away from it, and not from any other beginning.
            assert not torch.equal(parameter, before), name
            assert (parameter - before).norm() < 0.5 * before.norm(), name
    statistics = tuned.get_buffer("stem.bn.running_mean")
    assert not torch.equal(statistics, tiny.model.get_buffer("stem.bn.running_mean"))
