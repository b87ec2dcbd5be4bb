"""A table on disk is the table in memory, whole, and only ever used for the network it is of."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dsnet
from dsnet import DSNet, InputError
from dsnet.models.registry import FAMILIES
from dsnet.routing import RoutingTable, build_rows
from dsnet.routing.tuned import put_heads
from dsnet.tasks.registry import TASKS
from dsnet.training.table_gate import GateOptions, train_gate
from pipeline.data.ingest.ingest import ingest
from pipeline.data.loading.loader import Loader, LoaderOptions
from pipeline.data.manifest import Manifest
from pipeline.data.sources import open_source
from pipeline.routing_table.arrays import from_arrays
from pipeline.routing_table.build import build
from pipeline.routing_table.description import FILE, Description, describe
from pipeline.routing_table.read import read_arrays, read_table
from pipeline.routing_table.shards import pending
from pipeline.stages.table import shares
from tests.toy import TOY_FAMILIES

from .conftest import TWO_GATES, random_network

INDICES = np.arange(0, 360, 2)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return ingest(open_source("digits", "test"), tmp_path_factory.mktemp("beton") / "test.beton")


@pytest.fixture(scope="module")
def model() -> DSNet:
    torch.manual_seed(0)
    model = random_network(replace(TWO_GATES, num_classes=10))
    model.metadata = dsnet.Metadata(resolution=8, mean=(0.3,) * 3, std=(0.4,) * 3)
    return model


@pytest.fixture
def still(model: DSNet, digits: Manifest) -> Description:
    """The held-out kind: as evaluation shows the images, in shards of 50."""
    return described(model, digits)


def described(model: DSNet, digits: Manifest, **other: object) -> Description:
    return describe(
        model,
        digits,
        INDICES,
        **{
            "supernet": "models:/digits-supernet/2",
            "fingerprint": "f" * 64,
            "part": "holdout",
            "views": 0,
            "recipe": "digits",
            "resolution": 8,
            "seed": 1,
            "shard_rows": 50,
            **other,
        },  # type: ignore[arg-type]
    )


def built(
    model: DSNet, digits: Manifest, folder: Path, description: Description, batch_size: int = 32
) -> list[str]:
    """Build what is missing; the names of the shards that were."""
    missing = pending(folder, description)
    build(model, digits.beton, INDICES, folder, description, missing, batch_size=batch_size)
    return [shard.name for shard in missing]


def direct(model: DSNet, digits: Manifest) -> RoutingTable:
    with Loader(
        digits.beton,
        LoaderOptions(batch_size=180, recipe="digits", train=False, resolution=8, indices=INDICES),
    ) as loader:
        (batch,) = loader.epoch(0)
    metadata = model.metadata
    images = dsnet.normalize(batch.images, metadata.mean, metadata.std)
    inputs, targets = model.task.pair(images, batch.labels, batch.keys)
    return build_rows(model, inputs, targets, batch.indices, labels=batch.labels)


def test_what_is_read_is_what_the_network_computed(
    model: DSNet, digits: Manifest, still: Description, tmp_path: Path
) -> None:
    assert len(built(model, digits, tmp_path, still)) == 4  # 50, 50, 50 and 30 rows
    table, expected = read_table(tmp_path, still), direct(model, digits)
    assert table.paths.routes == (3, 3)
    assert torch.equal(table.paths.madds, expected.paths.madds)
    for name in ("labels", "samples", "views"):
        assert torch.equal(getattr(table, name), getattr(expected, name)), name
    assert list(table.measures) == ["top1", "top5"]
    for name, values in table.measures.items():
        assert torch.equal(values, expected.measures[name]), name
    for ours, theirs in zip(
        (*table.features, table.losses), (*expected.features, expected.losses), strict=True
    ):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs)
    assert table.confidences is not None
    torch.testing.assert_close(table.confidences.float(), expected.confidences, atol=1e-3, rtol=0)


def test_a_task_without_labels_has_its_own_measures_in_the_table(
    digits: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, architecture = TOY_FAMILIES["toy_smoothing"]
    monkeypatch.setitem(TASKS, family.task.name, family.task)
    monkeypatch.setitem(FAMILIES, "toy_smoothing", family)
    torch.manual_seed(0)
    smoother = DSNet(architecture).eval()
    about = described(smoother, digits)
    assert (about.task, about.confidences) == ("smoothing", False)
    built(smoother, digits, tmp_path, about)
    table, expected = read_table(tmp_path, about), direct(smoother, digits)
    assert table.confidences is None
    assert len(table.labels.unique()) == 10  # the data's, though the task does not ask for them
    assert torch.equal(table.labels, expected.labels)
    torch.testing.assert_close(table.losses, expected.losses)
    assert table.measures.keys() == {"psnr", "mae"}
    for name, values in table.measures.items():
        torch.testing.assert_close(values, expected.measures[name])


def test_choices_from_the_file_are_the_networks_own(
    model: DSNet, digits: Manifest, still: Description, tmp_path: Path
) -> None:
    built(model, digits, tmp_path, still)
    table = read_table(tmp_path, still)
    model = copy.deepcopy(model)
    trained = train_gate(table, table, [float(table.paths.madds.mean())], GateOptions(steps=20))
    put_heads(model, trained.heads)
    (price,) = trained.prices
    metadata = model.metadata
    with Loader(
        digits.beton,
        LoaderOptions(batch_size=64, recipe="digits", train=False, resolution=8, indices=INDICES),
    ) as loader:
        batches = [
            dsnet.normalize(batch.images, metadata.mean, metadata.std) for batch in loader.epoch(0)
        ]
    routes = torch.cat([model.route(images, price) for images in batches]).tolist()
    path = table.paths.choose(table.logits(trained.heads), price)
    assert [model.space.routes[p] for p in path] == routes
    assert len(set(routes)) > 1


def test_views_are_augmented_each_in_its_own_way_and_kept_in_half_precision(
    model: DSNet, digits: Manifest, tmp_path: Path
) -> None:
    description = described(model, digits, views=2, part="train")
    built(model, digits, tmp_path, description)
    table = read_table(tmp_path, description)
    assert len(table) == 360
    assert table.views.tolist() == [0] * 180 + [1] * 180
    assert table.samples.tolist() == INDICES.tolist() * 2
    assert table.losses.dtype == table.features[0].dtype == torch.float16
    first, second = table.features[0].float().chunk(2)
    assert (first != second).any(dim=(1, 2)).float().mean() > 0.5


def test_the_rows_do_not_depend_on_the_batch_size_or_the_number_of_workers(
    model: DSNet, digits: Manifest, tmp_path: Path
) -> None:
    description = described(model, digits, views=1, part="train")
    one, two = tmp_path / "one", tmp_path / "two"
    built(model, digits, one, description, batch_size=7)
    shards = pending(two, description)
    for rank in (1, 0):
        mine = shards[rank::2]
        build(model, digits.beton, INDICES, two, description, mine, batch_size=64)
    for ours, theirs in zip(read_table(one).features, read_table(two).features, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=2e-3)


def test_whole_shards_are_kept_and_the_others_built_again(
    model: DSNet, digits: Manifest, still: Description, tmp_path: Path
) -> None:
    names = built(model, digits, tmp_path, still)
    expected = read_table(tmp_path, still)
    whole = {name: (tmp_path / name).read_bytes() for name in names}
    cut, flipped, other, gone = names
    (tmp_path / cut).write_bytes(whole[cut][: len(whole[cut]) // 2])
    middle = len(whole[flipped]) // 3
    (tmp_path / flipped).write_bytes(
        whole[flipped][:middle]
        + bytes(byte ^ 0xFF for byte in whole[flipped][middle : middle + 8])
        + whole[flipped][middle + 8 :]
    )
    (tmp_path / other).write_bytes(whole[cut])  # whole, but with the rows of another
    (tmp_path / gone).unlink()
    with pytest.raises(InputError, match=f"{cut} missing or damaged; build it again"):
        read_table(tmp_path, still)
    assert built(model, digits, tmp_path, still) == names
    assert torch.equal(read_table(tmp_path, still).losses, expected.losses)

    (tmp_path / cut).write_bytes(b"")
    times = {name: (tmp_path / name).stat().st_mtime_ns for name in names}
    assert built(model, digits, tmp_path, still) == [cut]
    for name in names[1:]:
        assert (tmp_path / name).stat().st_mtime_ns == times[name]
    assert built(model, digits, tmp_path, still) == []


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"supernet": "models:/digits-supernet/3"}, "supernet models:/digits-supernet/3"),
        ({"fingerprint": "e" * 64}, "fingerprint e"),
        ({"seed": 2}, "seed 2"),
        ({"part": "test"}, "part test"),
    ],
)
def test_a_table_of_something_else_is_refused_by_name(
    model: DSNet,
    digits: Manifest,
    still: Description,
    tmp_path: Path,
    other: dict[str, object],
    named: str,
) -> None:
    built(model, digits, tmp_path, still)
    wanted = described(model, digits, **other)
    for use in (pending, read_table):
        with pytest.raises(InputError, match=f"expected a routing table with {named}"):
            use(tmp_path, wanted)


def test_a_table_of_other_data_is_refused_by_name(
    model: DSNet, digits: Manifest, still: Description, tmp_path: Path
) -> None:
    built(model, digits, tmp_path, still)
    wanted = replace(still, dataset="0" * 64)
    with pytest.raises(InputError, match=r"a routing table with dataset 0+\.\.\., found one with"):
        pending(tmp_path, wanted)


def test_a_folder_without_a_table_or_with_something_else_is_refused(
    still: Description, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=f"found no {FILE} in it"):
        read_table(tmp_path, still)
    (tmp_path / FILE).write_text(json.dumps({"format": 99}))
    with pytest.raises(InputError, match="found something else"):
        read_table(tmp_path, still)


def test_other_programs_can_read_a_shard_and_learn_what_it_is_of(
    model: DSNet, digits: Manifest, still: Description, tmp_path: Path
) -> None:
    name = built(model, digits, tmp_path, still)[1]
    shard = pq.read_table(tmp_path / name)
    assert shard["sample"].to_pylist() == INDICES[50:100].tolist()
    about = json.loads(shard.schema.metadata[b"dsnet.routing_table"])
    assert about["supernet"] == "models:/digits-supernet/2"
    assert about["dataset"] == digits.digest
    right = direct(model, digits).headline[50:100]
    assert [[bits >> p & 1 for p in range(9)] for bits in shard["top1"].to_pylist()] == (
        right.int().tolist()
    )


def test_arrays_become_a_table_without_a_copy(
    model: DSNet, digits: Manifest, still: Description, tmp_path: Path
) -> None:
    built(model, digits, tmp_path, still)
    arrays = read_arrays(tmp_path, still)
    table = from_arrays(arrays)
    assert table.losses.data_ptr() == arrays["losses"].ctypes.data  # type: ignore[union-attr]
    assert table.features[1].data_ptr() == arrays["features_1"].ctypes.data  # type: ignore[union-attr]


@given(sizes=st.lists(st.integers(1, 16384), max_size=40), workers=st.integers(1, 9))
def test_workers_share_every_shard_once_and_none_waits_long(sizes: list[int], workers: int) -> None:
    given_out = shares(sizes, workers)
    assert len(given_out) == workers
    assert sorted(index for mine in given_out for index in mine) == list(range(len(sizes)))
    busy = [sum(sizes[index] for index in mine) for mine in given_out]
    assert max(busy) - min(busy) <= max(sizes, default=0)
