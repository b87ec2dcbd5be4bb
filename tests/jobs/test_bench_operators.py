"""The benchmark of operators: every one counted once, as what it is, with the work it does."""

from collections import Counter

import numpy as np
import pytest
import torch

import dsnet
from dsnet import DSNet
from dsnet.inference.export import to_bytes
from dsnet.inference.onnx_backend import OnnxBackend
from dsnet.inference.onnx_graph import build
from jobs.bench import operators, rivals
from jobs.bench.inference import RIVAL
from jobs.bench.kinds import ATTENTION, DEPTHWISE, OTHER, POINTWISE, STEM, kind, product, times
from jobs.bench.mixes import SMALL, blotches
from jobs.bench.onnx_profile import Operator, Run, least, profile
from jobs.bench.options import Options

CONVOLUTIONS = {STEM: 1, DEPTHWISE: 13, POINTWISE: 13}
EVERYWHERE = {*CONVOLUTIONS, "pixels", "pooling", "classifier"}
GATED = {*EVERYWHERE, ATTENTION, "SiLU", "product with attention"}
# Where the runtime has no layout of its own there is nothing to reorder.
LAYOUT = {"reordering"}

# DS-MBNet's blocks: widest input, output size at 224 pixels.
BLOCKS = ((24, 112), (88, 56), (168, 56), (168, 28), (264, 28), (264, 14))
BLOCKS += (*5 * ((640, 14),), (640, 7), (1152, 7))


@pytest.fixture(scope="module")
def model() -> DSNet:
    torch.manual_seed(0)
    return dsnet.create_model("ds_mbnet", routes=SMALL.routes).eval()


@pytest.fixture(scope="module")
def files(model: DSNet) -> dict[str, bytes]:
    """A floor, a file with routing inside, and MobileNetV1."""
    mobilenet = build(rivals.mobilenet_v1(), 17, False).SerializeToString()
    return {"floor": to_bytes(model, width=1), "routed": to_bytes(model), "V1": mobilenet}


def runs(content: bytes, images: int = 1, times: int = 1, price: float = 0.0) -> list[Run]:
    feed = {"images": blotches(images).numpy()}
    if OnnxBackend(content, threads=1).priced:
        feed["price"] = np.array(price, np.float32)
    return profile(content, [feed] * times, threads=1)


@pytest.mark.parametrize("name", ["floor", "routed", "V1"])
def test_the_operators_of_a_run_take_all_of_it_and_none_counts_twice(
    files: dict[str, bytes], name: str
) -> None:
    found = runs(files[name], times=9)
    assert all(run.between >= 0 for run in found)
    # Hardly anything is left for starting them, and for profiling: but for what disturbs a run.
    assert max(times(run).total() / run.time for run in found) > 0.7


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("floor", GATED | {"widths"}),
        ("routed", GATED | {"gate", "grouping"}),
        ("V1", EVERYWHERE | {"widths"}),
    ],
)
def test_every_operator_is_recognised(files: dict[str, bytes], name: str, kinds: set[str]) -> None:
    (run,) = runs(files[name])
    found = Counter(kind(operator) for operator in run.operators)
    assert set(found) - LAYOUT == kinds and OTHER not in kinds
    assert {name: found[name] for name in CONVOLUTIONS} == CONVOLUTIONS
    assert found[ATTENTION] == (0 if name == "V1" else 26)  # two for each block


@pytest.mark.parametrize("width", [1, 13])
def test_pointwise_multiply_adds_are_what_is_left_of_all_of_them(model: DSNet, width: int) -> None:
    for images in (1, 2):
        (run,) = runs(to_bytes(model, width=width), images)
        assert pointwise(run) == images * expected(model, width)


@pytest.mark.parametrize(("price", "route"), [(1e6, SMALL.routes[0]), (-1e6, SMALL.routes[-1])])
def test_a_routed_file_s_multiply_adds_are_those_of_the_widths_that_images_took(
    model: DSNet, files: dict[str, bytes], price: float, route: int
) -> None:
    (run,) = runs(files["routed"], images=3, price=price)
    assert pointwise(run) == 3 * expected(model, route)


def pointwise(run: Run) -> int:
    figures = {figure.what: figure.value for figure in operators.figures([run], 1)}
    return round(figures[operators.MADDS])


def expected(model: DSNet, width: int) -> int:
    """Closed form: everything but the stem, depthwise halves, gates, pooling and classifier."""
    wide, wider = 224 + 32 * width, 736 + 32 * width
    inputs = (16, 32, 48, 48, 96, 96, *5 * (wide,), wide, wider)
    rest = 27 * 16 * 112**2 + 1000 * wider + wider * 7**2
    for channels, (widest, size) in zip(inputs, BLOCKS, strict=True):
        reduced = widest // 4
        rest += 9 * channels * size**2 + channels * size**2 + 2 * channels * reduced
    return model.madds(width, 224) - rest


def test_floors_are_called_by_what_they_cost(model: DSNet) -> None:
    for name, width in operators.FLOORS.items():
        assert name == f"floor {model.madds(width, 224) / 1e6:.0f}M"


def test_kinds_and_what_is_between_operators_make_up_the_whole(files: dict[str, bytes]) -> None:
    for content in files.values():
        total, *parts = [
            figure.value
            for figure in operators.figures(runs(content, 2), 2)
            if figure.unit == "ms/image"
        ]
        assert sum(parts) == pytest.approx(total)
        assert all(part >= 0 for part in parts)


def test_a_pointwise_convolution_is_a_product_of_pixels_and_channels(
    files: dict[str, bytes],
) -> None:
    (run,) = runs(files["V1"], images=2)
    first = next(operator for operator in run.operators if kind(operator) == POINTWISE)
    assert product(first) == (2 * 112**2, 32, 64)  # arXiv 1704.04861, table 1


def test_what_disturbs_a_run_does_not_count() -> None:
    def run(time: int, *operators: int) -> Run:
        shape = ((1, 8, 4, 4),)
        return Run(
            time,
            tuple(Operator(f"{i}", "Mul", 0, t, shape, shape) for i, t in enumerate(operators)),
        )

    # In the first operator, in the second, between them.
    found = least([run(720, 705, 9), run(920, 5, 909), run(320, 5, 9)])
    assert [operator.time for operator in found.operators] == [5, 9]
    assert (found.between, found.time) == (6, 20)


@pytest.mark.slow
def test_rates_have_ceilings_and_shares_make_up_the_whole() -> None:
    records = {record.name: record for record in operators.bench(Options(1, True, None, 1))}
    assert all(record.against in {None, *records} for record in records.values())
    rates = [record for name, record in records.items() if name.endswith(operators.RATE)]
    assert len(rates) == 4
    for rate in rates:
        assert rate.against == operators.CEILING
        assert rate.ratio == pytest.approx(rate.value / records[operators.CEILING].value)
    for name in ("floor 153M", "floor 565M", "DS-MBNet S", RIVAL):
        whole = f"batch 1 onnxruntime {name} {operators.PROFILED}"
        shares = [r.ratio or 0 for r in records.values() if r.against == whole]
        assert sum(shares) == pytest.approx(1)
