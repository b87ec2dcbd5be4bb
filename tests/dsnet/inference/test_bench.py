"""What the benchmark compares is what it says it is."""

import numpy as np
import onnxruntime
import pytest
import torch

import dsnet
from dsnet.inference.export import to_bytes
from dsnet.inference.torch_backend import TorchBackend
from jobs.bench import rivals
from jobs.bench.mixes import EVEN, MEDIUM, SMALL, Mix
from jobs.bench.shares import shares
from tests.dsnet.inference.networks import network, pictures
from tests.dsnet.inference.test_agreement import EXAMPLE


@pytest.mark.parametrize(("mix", "average"), [(SMALL, 153e6), (MEDIUM, 200e6), (EVEN, 341.5e6)])
def test_the_mixes_average_to_what_they_stand_for(mix: Mix, average: float) -> None:
    model = dsnet.create_model("ds_mbnet", routes=mix.routes)
    reached = sum(share * model.madds(route) for route, share in mix.shares().items())
    assert reached == pytest.approx(average, rel=0.005)
    assert sum(mix.counts) == 32


def test_mobilenet_v1_is_the_published_one() -> None:
    """569 million multiply-adds and 4.2 million parameters (arXiv 1704.04861, table 4)."""
    folded = rivals.mobilenet_v1()
    assert folded.madds[0] == pytest.approx(569e6, rel=1e-3)
    parameters = sum(buffer.numel() for buffer in TorchBackend(folded).buffers())
    assert parameters == pytest.approx(4.2e6, rel=0.01)


def test_torchvisions_networks_say_the_same_in_both_runtimes() -> None:
    rival = rivals.FromPixels("mobilenet_v2")
    images = torch.randint(0, 256, (3, 224, 224, 3), dtype=torch.uint8)
    session = onnxruntime.InferenceSession(rivals.torchvision_onnx(rival))
    with torch.inference_mode():
        expected = rival(images).numpy()
    got = session.run(None, {"images": images.numpy()})[0]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


def test_the_shares_of_prefix_gate_grouping_and_tails_make_up_the_whole() -> None:
    model = network(EXAMPLE, 0)
    records = shares(to_bytes(model), pictures(model, 24), threads=1)
    *parts, total = records
    assert [record.name.split()[-1] for record in parts] == ["prefix", "gate", "grouping", "tails"]
    assert all(record.value > 0 for record in parts)
    # Of every run they are a hundred, whatever the machine does; their medians need not be.
    lows, highs = zip(*(record.spread for record in parts), strict=True)
    assert sum(lows) <= 100 + 1e-9 and sum(highs) >= 100 - 1e-9
    assert total.unit == "ms" and total.value > 0
