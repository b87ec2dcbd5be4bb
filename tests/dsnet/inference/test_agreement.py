"""Predictor, ONNX file and `model(x)` agree: the same routes, logits within 1e-3."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from dsnet import DSNet, Predictor, normalize
from dsnet.inference.export import export, to_bytes
from dsnet.models.architecture import Architecture, Stage
from tests.dsnet.inference.networks import architectures, margins, network, pictures

TOLERANCE = 1e-3
CLEAR = 1e-4  # choices that are nearer may come out either way, in any order of summation
BACKENDS = ("torch", "onnxruntime")
EXAMPLE = Architecture(
    name="example",
    family="mbnet",
    stem=Stage((16, 32), stride=2),
    stages=(Stage((32, 64)), Stage((64, 128, 192), blocks=2, gated=True)),
    num_classes=5,
    resolution=16,
)

patient = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


@torch.no_grad()
def expected(model: DSNet, images: Tensor, price: float) -> tuple[Tensor, Tensor]:
    """Logits and widths of the network itself."""
    x = normalize(images, model.metadata.mean, model.metadata.std)
    return model.dynamic(x, price)


@pytest.mark.parametrize("backend", BACKENDS)
@given(
    architecture=architectures(),
    seed=st.integers(0, 99),
    count=st.integers(1, 65),
    price=st.sampled_from((0.0, 0.7, -0.7, 100.0, -100.0)),
    mix=st.sampled_from(("mixed", "one route", "alternating")),
)
@patient
def test_the_predictor_is_the_network(
    backend: str, architecture: Architecture, seed: int, count: int, price: float, mix: str
) -> None:
    model = network(architecture, seed)
    images = pictures(model, 24)
    images = images[margins(model, images, price) > CLEAR]
    assume(len(images))
    logits, widths = expected(model, images, price)
    kinds = widths.unique()
    if mix == "one route":
        images = images[widths == kinds[-1]]
    elif mix == "alternating":
        images = torch.stack([images[widths == kind][0] for kind in kinds])
    images = images[torch.arange(count) % len(images)]
    logits, widths = expected(model, images, price)

    got_logits, got_widths = Predictor(model, backend=backend, price=price)(images)

    assert torch.equal(got_widths, widths)
    torch.testing.assert_close(got_logits, logits, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("backend", BACKENDS)
@given(architecture=architectures(gates=(0, 2)), seed=st.integers(0, 99), data=st.data())
@patient
def test_a_fixed_width_is_that_sub_network(
    backend: str, architecture: Architecture, seed: int, data: st.DataObject
) -> None:
    model = network(architecture, seed)
    width = data.draw(st.sampled_from([*range(len(model.space)), model.space.largest]))
    images = pictures(model, 3)
    with torch.no_grad():
        x = normalize(images, model.metadata.mean, model.metadata.std)
        logits = model(x, width=width)

    got_logits, got_widths = Predictor(model, backend=backend, width=width)(images)

    torch.testing.assert_close(got_logits, logits, rtol=0, atol=TOLERANCE)
    index = width if isinstance(width, int) else -1
    assert index == -1 or got_widths.tolist() == [index] * 3


@given(
    architecture=architectures(),
    seed=st.integers(0, 99),
    opset=st.integers(17, 23),
    count=st.integers(0, 9),
)
@patient
def test_the_file_is_the_network_in_plain_onnx_runtime(
    tmp_path_factory: pytest.TempPathFactory,
    architecture: Architecture,
    seed: int,
    opset: int,
    count: int,
) -> None:
    model = network(architecture, seed)
    images = pictures(model, 9)
    images = images[margins(model, images, 0.0) > CLEAR][:count]
    path = export(model, tmp_path_factory.mktemp("onnx") / "model.onnx", opset=opset)

    session = onnxruntime.InferenceSession(path)
    feed = {"images": images.numpy(), "price": np.array(0, np.float32)}
    got_logits, got_widths = session.run(["logits", "widths"], feed)

    logits, widths = expected(model, images, 0.0)
    assert got_widths.tolist() == widths.tolist()
    np.testing.assert_allclose(got_logits, logits.numpy(), rtol=0, atol=TOLERANCE)


def test_the_file_has_standard_operators_alone_and_the_inputs_and_outputs_it_promises() -> None:
    model = network(EXAMPLE, 0)
    proto = onnx.load_from_string(to_bytes(model))
    onnx.checker.check_model(proto, full_check=True)
    assert {opset.domain for opset in proto.opset_import} == {""}
    images, *optional = [value.name for value in proto.graph.input]
    assert (images, optional) == ("images", ["price", "head.0.weight"])
    assert {value.name for value in proto.graph.initializer} >= {*optional}
    assert [value.name for value in proto.graph.output] == ["logits", "widths", "madds"]
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize("routes", [None, ((0, 1),)])
def test_gates_that_are_not_trained_run_the_widest_everywhere(
    routes: tuple[tuple[int, ...], ...] | None,
) -> None:
    model = network(replace(EXAMPLE, routes=routes), 0)
    images = pictures(model, 5)
    for parameter in model.slimming_parameters():
        torch.nn.init.zeros_(parameter)
    widest = model.space.routes[-1]
    for backend in BACKENDS:
        assert Predictor(model, backend=backend)(images)[1].tolist() == [widest] * 5
    session = onnxruntime.InferenceSession(to_bytes(model))
    assert session.run(["widths"], {"images": images.numpy()})[0].tolist() == [widest] * 5


def test_a_fixed_width_runs_no_gate() -> None:
    model = network(EXAMPLE, 0)
    proto = onnx.load_from_string(to_bytes(model, width=1))
    assert [value.name for value in proto.graph.input] == ["images"]
    kinds = {node.op_type for node in proto.graph.node}
    assert not kinds & {"If", "ArgMax", "TopK", "GatherND", "ScatterND"}


def test_half_precision_weights_halve_the_file_and_barely_move_the_logits() -> None:
    model = network(EXAMPLE, 0)
    images = pictures(model, 16)
    whole, half = to_bytes(model, width=2), to_bytes(model, width=2, float16=True)
    assert len(half) < 0.75 * len(whole)
    runs = [
        onnxruntime.InferenceSession(content).run(["logits"], {"images": images.numpy()})[0]
        for content in (whole, half)
    ]
    difference = np.abs(runs[0] - runs[1]).max()
    assert 0 < difference < 0.01 * np.abs(runs[0]).max()


def test_a_compiled_predictor_is_the_network(request: pytest.FixtureRequest) -> None:
    # Traced and run operator by operator: a C++ compiler would take a minute.
    torch.compiler.set_default_backend("aot_eager")
    request.addfinalizer(lambda: torch.compiler.set_default_backend(None))
    tiny = replace(EXAMPLE, stages=(Stage((8, 16), gated=True),))
    model = network(tiny, 0)
    images = pictures(model, 5)
    logits, widths = expected(model, images, 0.0)
    got_logits, got_widths = Predictor(model, compile=True)(images)
    assert torch.equal(got_widths, widths)
    torch.testing.assert_close(got_logits, logits, rtol=0, atol=TOLERANCE)
