"""Fewer workers than shares take the same steps, and another number of them goes on within one."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from pipeline.config import Config, config_from_dict
from pipeline.training.local_worker import LocalWorker
from tests import forked
from tests.pipeline.training.made import (
    BATCHES,
    Made,
    Pictures,
    Stopped,
    joined,
    made,
    rank_of,
    small_config,
)


def elastic(**fields: Any) -> Config:
    """For one to three workers."""
    values = small_config(**fields).as_dict()
    values["cluster"]["workers"] = [1, 3]
    return config_from_dict(values)


def after_one_step(training: Made) -> dict[str, torch.Tensor]:
    """The student's parameters."""
    with pytest.raises(Stopped):
        training.stopped_after(1).run()
    return of_student(training)


def of_student(training: Made) -> dict[str, torch.Tensor]:
    """Its parameters."""
    assert training.state.student is not None
    named = training.state.student.named_parameters()
    return {name: each.detach().contiguous() for name, each in named}


@pytest.mark.parametrize(
    ("rank", "workers", "shares"),
    [(0, 3, [0]), (2, 3, [2]), (0, 2, [0, 2]), (1, 2, [1]), (0, 1, [0, 1, 2])],
)
def test_shares_go_round_the_workers(
    rank: int, workers: int, shares: list[int], tmp_path: Path
) -> None:
    for config, expected in ((elastic(), (shares, 3)), (small_config(), ([rank], workers))):
        worker = LocalWorker(config, tmp_path)
        worker.rank, worker.world_size = rank, workers
        assert (list(worker.shares), worker.step_shares) == expected


def expected_step(folder: Path) -> dict[str, torch.Tensor]:
    """PyTorch's own step on the mean of three batches' gradients."""
    training = made(folder, elastic(), dropout=0.0)
    for group in training.state.optimizer.param_groups:
        group["lr"] = training.schedule.learning_rate(0, BATCHES)
    for rank in range(3):
        batch = next(Pictures([rank]).epoch(0))
        images, labels = batch.pair(training.state.model, torch.device("cpu"))
        training.algorithm.step(images, labels, 0, None)
    for parameter in training.state.learning:
        if parameter.grad is not None:
            parameter.grad /= 3
    training.state.optimizer.step()
    return of_student(training)


def on_two(rank: int, folder: Path) -> None:
    """Two workers for three shares: one step; and on from where one worker was."""
    joined(rank, 2, folder)
    config = elastic(checkpoint_steps=1)
    first = made(folder / "two", config, worker=rank_of(rank, 2), dropout=0.0)
    parameters = after_one_step(first)
    dist.barrier()
    on = made(folder / "one", config, worker=rank_of(rank, 2), dropout=0.0).run()
    if rank == 0:
        save_file(parameters, folder / "two.safetensors")
        (folder / "on.json").write_text(json.dumps([report["steps"] for report in on.reports]))
    dist.destroy_process_group()


def test_two_workers_for_three_shares_and_one_take_the_same_step(tmp_path: Path) -> None:
    expected = expected_step(tmp_path / "expected")
    one = made(tmp_path / "one", elastic(checkpoint_steps=1), dropout=0.0)
    torch.testing.assert_close(after_one_step(one), expected, rtol=1e-5, atol=1e-7)
    forked.run(on_two, tmp_path, processes=2)
    two = load_file(tmp_path / "two.safetensors")
    torch.testing.assert_close(two, expected, rtol=1e-5, atol=1e-7)
    # From one worker's checkpoint after a step, two went on to the end; and one does from theirs.
    assert json.loads((tmp_path / "on.json").read_text()) == [BATCHES, 2 * BATCHES]
    ranks = [load_file(tmp_path / "two" / f"rank-{rank}.safetensors") for rank in range(2)]
    on = made(tmp_path / "two", elastic(), dropout=0.0)
    on.state.restore(tmp_path / "two")
    assert on.state.student is not None and on.state.step == 1
    for name, buffer in on.state.student.named_buffers():
        both = [rank[f"student.{name}"] for rank in ranks]
        mean = sum(both) / 2 if buffer.is_floating_point() else both[0]
        torch.testing.assert_close(buffer, mean)
    assert any(not torch.equal(a, b) for a, b in zip(*(r.values() for r in ranks), strict=True))
    assert [report["steps"] for report in on.run().reports] == [BATCHES, 2 * BATCHES]


def test_other_workers_draw_what_none_has_drawn(tmp_path: Path) -> None:
    training = made(tmp_path, elastic())
    generator = training.state.generator = torch.Generator()
    training.state.step = 2
    training.state.snapshot(lambda data: [data, data])(tmp_path)  # of two workers

    def drawn() -> list[float]:
        training.worker.seed(0)
        generator.manual_seed(3)
        training.state.go_on_drawing()
        return [*torch.rand(3).tolist(), *torch.rand(3, generator=generator).tolist()]

    undisturbed = drawn()
    training.state.restore(tmp_path)
    others = drawn()
    assert not set(others) & set(undisturbed)
    training.state.restore(tmp_path)
    assert drawn() == others
