"""No weight is copied, sliced or folded during a prediction."""

from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dsnet import Predictor
from dsnet.inference.export import to_bytes
from tests.dsnet.inference.networks import network, pictures
from tests.dsnet.inference.test_agreement import EXAMPLE

MULTIPLY = {"aten.conv2d", "aten.linear"}
# The mean from the pixels, the cost times the price, the choice and the routes, what each costs.
REST = {"aten.sub", "aten.mul", "aten.eq", "aten.index"}


class WeightUses(TorchDispatchMode):
    """Which operators are given memory that belongs to `weights`."""

    def __init__(self, weights: list[Tensor]):
        super().__init__()
        self.weights = {weight.untyped_storage().data_ptr() for weight in weights}
        self.operators: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        tensors = [value for value in args if isinstance(value, Tensor)]
        if any(t.untyped_storage().data_ptr() in self.weights for t in tensors):
            self.operators.add(str(func.overloadpacket))
        return func(*args, **(kwargs or {}))


def test_in_torch_weights_are_only_ever_multiplied_with() -> None:
    model = network(EXAMPLE, 0)
    images = pictures(model, 16)
    predictor = Predictor(model)
    weights = list(predictor.backend.state_dict().values())
    before = [(weight.data_ptr(), weight.clone()) for weight in weights]

    with WeightUses(weights) as uses:
        widths = predictor(images)[1]
        predictor(images[:1])

    assert len(widths.unique()) == 3, "every branch runs"
    assert MULTIPLY <= uses.operators <= MULTIPLY | REST
    after = list(predictor.backend.state_dict().values())
    assert [weight.data_ptr() for weight in after] == [address for address, _ in before]
    assert all(torch.equal(weight, old) for weight, (_, old) in zip(after, before, strict=True))


def test_in_torch_every_branch_owns_its_weights_whole_and_contiguous() -> None:
    predictor = Predictor(network(EXAMPLE, 0))
    for name, weight in predictor.backend.state_dict().items():
        layout = torch.channels_last if weight.dim() == 4 else torch.contiguous_format
        assert weight.is_contiguous(memory_format=layout), name
        assert weight.untyped_storage().nbytes() == weight.nbytes, name


def test_the_model_that_was_given_is_not_the_predictor() -> None:
    """Training on does not change what a predictor says."""
    model = network(EXAMPLE, 0)
    images = pictures(model, 4)
    predictors = [Predictor(model, backend=name) for name in ("torch", "onnxruntime")]
    before = [predictor(images)[0] for predictor in predictors]
    with torch.no_grad():
        for parameter in [*model.parameters(), *model.buffers()]:
            parameter.mul_(1.5)
    for predictor, logits in zip(predictors, before, strict=True):
        assert torch.equal(predictor(images)[0], logits)


def test_onnx_runtime_has_cut_and_folded_everything_when_it_has_loaded(
    tmp_path: Path,
) -> None:
    """What it runs, as it writes it down itself, holds no arithmetic on constants."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(to_bytes(network(EXAMPLE, 0)), options)
    graph = onnx.load(tmp_path / "optimised.onnx").graph
    branches = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    assert len(branches) == 6
    for part in (graph, *branches):
        constants = {initializer.name for initializer in (*part.initializer, *graph.initializer)}
        constants -= {name for node in part.node for name in node.output}
        constants -= {value.name for value in graph.input}  # the price: an input with a default
        for node in part.node:
            constant = [name in constants for name in node.input if name]
            assert not constant or not all(constant), node.op_type
