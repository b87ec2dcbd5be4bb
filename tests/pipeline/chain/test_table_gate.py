"""The chain with a gate from the table: what is registered does what the table said."""

from pathlib import Path

import numpy as np
import pytest

import dsnet
from dsnet import InputError, Predictor
from dsnet.io.weights import load_gates
from dsnet.runtime.exported import Exported
from pipeline import chain
from pipeline.chain import ChainResult
from pipeline.store import registry
from pipeline.training.worker_group import WorkerGroup
from tests.pipeline.chain.conftest import configured

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_a_gate_from_the_table_meets_its_target_and_keeps_its_prices(
    result: ChainResult, workers: WorkerGroup, tmp_path: Path
) -> None:
    found = chain.run(
        configured(
            name="tabled",
            gate={"method": "table", "supernet": result.versions[1].uri},
            table={"views": 2, "steps": 60},
        ),
        workers=workers,
    )
    assert {"champion", "target-50pct"} <= set(found.version.aliases)
    folder = registry.pull(found.version.uri, tmp_path / "model")
    model = dsnet.load(folder)
    (gate,) = load_gates(folder)
    widest = max(model.madds(route) for route in model.space.routes)
    assert gate.target == 0.5 * widest
    assert model.metadata.price == gate.price
    assert model.metadata.prices == gate.prices
    dynamic = found.rows[-1]
    assert dynamic.name == "dynamic"
    # 360 test images; the target is met on the held-out ones.
    assert dynamic.share == pytest.approx(0.5, abs=0.06)
    assert found.version.metrics["average_madds"] == pytest.approx(dynamic.madds)


def test_a_gate_that_looks_again_counts_all_that_it_runs(
    result: ChainResult, workers: WorkerGroup, tmp_path: Path
) -> None:
    found = chain.run(
        configured(
            name="looking",
            gate={"look": "both", "method": "table", "supernet": result.versions[1].uri},
            table={"views": 2, "steps": 60},  # the table of the test above
        ),
        workers=workers,
    )
    folder = registry.pull(found.version.uri, tmp_path / "model")
    model = dsnet.load(folder)
    assert model.looks is not None
    assert "may look at an image again" in (Path(found.version.source) / "README.md").read_text()
    assert found.rows[-1].share == pytest.approx(0.5, abs=0.1)
    assert found.version.metrics["average_madds"] == pytest.approx(found.rows[-1].madds)
    pictures = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    in_torch = Predictor(folder, 0.6).routed(pictures)
    outputs, widths, madds = Exported(folder)(pictures, 0.6)
    assert widths.tolist() == in_torch.widths.tolist()
    assert madds.tolist() == in_torch.madds.tolist()
    assert np.allclose(outputs, in_torch.outputs.numpy(), atol=1e-3)


def test_a_second_look_is_refused_where_there_is_none(home: Path) -> None:
    with pytest.raises(InputError, match=r"expected gate\.method table, found straight_through"):
        chain.run(configured(gate={"look": "both", "method": "straight_through"}))
