"""`supernet.compile`: one graph for each width and segment, and the training that it is without.

Graphs are traced by torch.compile and run operator by operator (aot_eager): a C++ compiler takes
minutes for as many. One test has it at work, on one block.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from dsnet import DSNet, InputError
from dsnet.models.architecture import Architecture, Stage
from dsnet.training import CompiledPasses, Passes, make_teacher, prepare_compiler
from pipeline.data.loading.batch import Batch
from tests.pipeline.training.made import (
    BATCHES,
    Made,
    Pictures,
    Stopped,
    differing,
    made,
    small_config,
)

TWO_BLOCKS = Architecture(
    name="two blocks",
    family="mbnet",
    stem=Stage((4, 8), stride=2),
    stages=(Stage((8, 12)), Stage((8, 12), stride=2, gated=True)),
)
# Its two sub-networks share the prefix. The student runs it, two tails, and both segments of the
# largest width; the teacher these two.
GRAPHS = (1 + 2 + 2) + 2
TRIAL = 1  # what is compiled first of all, to see whether there is a compiler


@pytest.fixture
def compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CompileCounterWithBackend]:
    """What graphs are compiled by; `frame_count` of them have been."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "generated"))
    compiler = CompileCounterWithBackend("aot_eager")
    torch.compiler.set_default_backend(compiler)
    yield compiler
    torch.compiler.set_default_backend(None)
    torch.compiler.reset()


class Uneven(Pictures):
    """The last batch of each epoch is smaller than the others."""

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        for number, batch in enumerate(super().epoch(epoch, start=start), start):
            images = 4 if number < BATCHES - 1 else 3
            yield Batch(
                *(each[:images] for each in (batch.images, batch.labels, batch.indices, batch.keys))
            )


def uneven(directory: Path, **fields: Any) -> Made:
    """Two epochs on batches of 4, the last of each of 3."""
    fields = {"batch_size": 4, "checkpoint_steps": 1, "bootstrap": "plain", **fields}
    training = made(directory, small_config(**fields), TWO_BLOCKS)
    training.loader = Uneven()
    return training


def test_each_width_is_compiled_once_and_trains_stops_and_goes_on_as_without(
    compiler: CompileCounterWithBackend, tmp_path: Path
) -> None:
    """Losses, weights, momentum, moving average and statistics, by the same names."""
    plain = uneven(tmp_path / "plain").run()
    whole = uneven(tmp_path / "whole", compile=True).run()
    assert compiler.frame_count == TRIAL + GRAPHS  # in all steps of two epochs
    torch.testing.assert_close(whole.everything(), plain.everything(), rtol=1e-4, atol=1e-6)
    for found, expected in zip(whole.reports, plain.reports, strict=True):
        assert found["losses"] == pytest.approx(expected["losses"], rel=1e-5)
    with pytest.raises(Stopped):
        uneven(tmp_path / "parts", compile=True).stopped_after(BATCHES + 1).run()
    resumed = uneven(tmp_path / "parts", compile=True).run()
    assert differing(whole.everything(), resumed.everything()) == []


def test_generated_code_computes_what_the_layers_do() -> None:
    """Outputs, gradients and statistics."""
    torch.manual_seed(0)
    one_block = Architecture(
        name="one block", family="mbnet", stem=Stage((4, 8)), stages=(Stage((4, 8)),), num_classes=3
    )
    network = DSNet(one_block)
    images = torch.randn(4, 3, 8, 8)
    found = outcome(CompiledPasses(copy_of(network), 4), images)
    torch.testing.assert_close(found, outcome(Passes(copy_of(network)), images))


def copy_of(network: DSNet) -> DSNet:
    return make_teacher(network).train().requires_grad_(True)


def outcome(passes: Passes, images: Tensor) -> dict[str, Tensor]:
    model = passes.model
    outputs = passes.whole(images, model.space.largest)
    outputs.square().sum().backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {"outputs": outputs.detach(), **gradients, **dict(model.named_buffers())}


def test_a_machine_without_a_compiler_is_told_so_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever others have compiled before: it has a folder of its own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # so that it is as before, at the end
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    with (
        torch._inductor.config.patch({"cpp.cxx": ("/nowhere/g++",)}),
        pytest.raises(
            InputError, match=r"^supernet.compile: expected a C\+\+ compiler.*nowhere.*$"
        ),
    ):
        prepare_compiler(torch.device("cpu"))
    assert Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).parent == tmp_path
