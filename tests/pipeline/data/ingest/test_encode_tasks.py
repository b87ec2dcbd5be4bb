"""Pictures encoded by Ray tasks on two nodes are written as one process writes them."""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray.cluster_utils import Cluster

from dsnet.errors import InputError
from pipeline.data.ingest.encode import Encoder
from pipeline.data.ingest.encode_tasks import _Encoding
from pipeline.data.ingest.ingest import ingest
from pipeline.data.manifest import read_manifest
from pipeline.data.sources import open_source
from tests.pipeline.chain.faults import left_by_the_session
from tests.pipeline.data.conftest import encoded, smooth_picture


@pytest.fixture
def two_nodes() -> Iterator[dict[str, str]]:
    """The environment of those who join a cluster of a head without CPUs and two nodes of one."""
    with pytest.MonkeyPatch.context() as patch:
        for name in left_by_the_session():
            patch.delenv(name)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        try:
            for _ in range(2):
                cluster.add_node(num_cpus=1)
            yield os.environ | {"RAY_ADDRESS": cluster.address}
        finally:
            cluster.shutdown()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 small pictures in two classes, the 200th damaged; as a folder and as Parquet."""
    folder = tmp_path_factory.mktemp("many")
    rows = []
    for number in range(300):
        path = folder / "in" / ("cat", "dog")[number % 2] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = encoded(smooth_picture(70 + number % 5, 80, number))
        path.write_bytes(content if number != 200 else content[:100])
        rows.append({"image": {"bytes": path.read_bytes(), "path": None}, "label": number % 2})
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("label", pa.int64())])
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "train.parquet", row_group_size=64)
    return folder


def test_the_beton_is_that_of_one_process(
    two_nodes: dict[str, str], many: Path, tmp_path: Path
) -> None:
    alone = ingest(open_source(str(many / "in"), "train"), tmp_path / "alone.beton", max_bad=0.01)
    made = tmp_path / "tasks.beton"
    command = [sys.executable, "-m", "jobs.cli", "ingest", str(many / "in"), str(made), "--tasks"]
    done = subprocess.run(
        [*command, "--max-bad", "0.01"], env=two_nodes, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(made)
    assert manifest.digest == alone.digest
    assert (manifest.left_out, manifest.left_out_for) == (1, alone.left_out_for)
    assert np.allclose(manifest.mean, alone.mean)


def test_a_source_that_has_been_read_from_goes_to_another_process(many: Path) -> None:
    source = open_source(str(many / "train.parquet"), "train")
    before = source[70]
    there = pickle.loads(pickle.dumps(source))
    assert there[70] == before and there[299].label == source[299].label


def test_a_node_that_sees_other_files_is_refused(many: Path) -> None:
    """As where every node has a folder of its own: nothing of it is taken for the same."""
    encoder = Encoder(open_source(str(many / "in"), "train"), None, 90, "jpg")
    same, other = (_Encoding(encoder, seen) for seen in (encoder.source.fingerprint(), "another"))
    assert len(same.part(0, 3)) == 3
    with pytest.raises(InputError, match="expected the same files on every node"):
        other.part(0, 3)
