"""What is tested on is a split of the source's own, or else a fixed share of what it has."""

import logging
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsnet.errors import InputError
from pipeline.config import Config, Data, config_from_dict
from pipeline.data.dataset import ingest, ingest_test
from pipeline.data.sources import open_source
from pipeline.data.sources.base import Source
from pipeline.data.sources.derived import Relabeled
from pipeline.data.sources.train_and_test import evaluated_on, train_and_test
from pipeline.data.split import held_out
from tests.pipeline.data.conftest import encoded
from tests.pipeline.data.sources.test_idx import write

from .test_sources import parquet

LABELS = st.lists(st.integers(0, 7), min_size=1, max_size=300).map(np.array)


@given(LABELS, st.integers(1, 99))
def test_a_held_out_share_is_disjoint_whole_stratified_and_the_same_every_time(
    labels: np.ndarray, percent: int
) -> None:
    train, test = held_out(labels, percent / 100)
    assert sorted([*train, *test]) == list(range(len(labels)))
    total = -(-percent * len(labels) // 100)
    for label in np.unique(labels):
        count = int((labels == label).sum())
        of_class = int((labels[test] == label).sum())
        assert of_class < count  # one at least is trained on
        assert abs(of_class - total * Fraction(count, len(labels))) <= 1
    again = held_out(labels.copy(), percent / 100)
    assert np.array_equal(again[0], train) and np.array_equal(again[1], test)


def photos(folder: Path, **counts: int) -> Path:
    """Class folders with so many pictures each, each of a colour of its own."""
    for label, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            picture = np.full((4, 4, 3), (40 * label, number, 0), np.uint8)
            (folder / name / f"{number:03}.png").write_bytes(encoded(picture))
    return folder


def config(source: Path, out: Path, **data: object) -> Config:
    where = {"source": str(source), "dir": str(out), "recipe": "cifar"}
    return config_from_dict({"data": where | data, "model": {"arch": "ds_mbnet_cifar"}})


def paths(source: Source) -> set[str]:
    return {source[index].path for index in range(len(source))}


def test_a_folder_of_classes_alone_lends_a_fifth_of_each_to_the_test_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = photos(tmp_path / "in", ant=20, bee=10)
    with caplog.at_level(logging.INFO):
        train, test = train_and_test(Data(source=str(root)))
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == (
        f"{root}: 6 of 30 pictures are held out to test on (data.test_share 0.2); folders train "
        "and test of your own would be used instead"
    )
    assert (train.split, test.split, train.classes) == ("train", "test", test.classes)
    assert np.bincount(train.labels()).tolist() == [16, 8]
    assert np.bincount(test.labels()).tolist() == [4, 2]
    for part in (train, test):
        assert [part[i].label for i in range(len(part))] == part.labels().tolist()
    assert not paths(train) & paths(test)
    assert paths(train) | paths(test) == paths(open_source(str(root), "train"))


def test_what_is_held_out_is_the_same_where_the_test_alone_is_asked_for(tmp_path: Path) -> None:
    chosen = config(photos(tmp_path / "in", ant=5, bee=7), tmp_path / "out")
    dataset = ingest(chosen)
    assert (dataset.train.samples, dataset.test.samples) == (9, 3)
    assert ingest_test(chosen) == dataset.test
    assert paths(evaluated_on(chosen.data)) == paths(train_and_test(chosen.data)[1])


def test_another_share_makes_both_betons_anew_and_the_same_share_neither(tmp_path: Path) -> None:
    root = photos(tmp_path / "in", ant=20, bee=20)
    fifth = ingest(config(root, tmp_path / "out"))
    assert ingest(config(root, tmp_path / "out", test_share=0.2)) == fifth
    half = ingest(config(root, tmp_path / "out", test_share=0.5))
    assert (half.train.samples, half.test.samples) == (20, 20)
    for before, after in ((fifth.train, half.train), (fifth.test, half.test)):
        assert before.fingerprint != after.fingerprint and before.digest != after.digest


def test_a_class_of_one_picture_is_trained_on_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = photos(tmp_path / "in", ant=1, bee=4)
    with caplog.at_level("WARNING"):
        train, test = train_and_test(Data(source=str(root), test_share=0.9))
    assert np.bincount(train.labels()).tolist() == [1, 1]
    assert test.labels().tolist() == [1, 1, 1]
    assert "no picture of ant, of which nothing can be said" in caplog.text


def test_classes_of_one_picture_alone_cannot_be_evaluated_on(tmp_path: Path) -> None:
    root = photos(tmp_path / "in", ant=1, bee=1)
    with pytest.raises(InputError, match=r"at least two pictures.*found 2 pictures of 2 classes"):
        train_and_test(Data(source=str(root)))


@pytest.mark.parametrize("split", ["val", "valid", "validation"])
def test_a_validation_split_is_tested_on_where_there_is_no_test(
    tmp_path: Path, split: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "in"
    photos(root / "train", ant=2, bee=2)
    photos(root / split, bee=1)
    with caplog.at_level(logging.INFO):
        train, test = train_and_test(Data(source=str(root)))
    assert f"{root} has no split test: tested on is {split} (1 pictures)" in caplog.text
    assert (len(train), len(test), test.labels().tolist()) == (4, 1, [1])
    photos(root / "test", ant=1, bee=2)
    assert len(train_and_test(Data(source=str(root)))[1]) == 3


def test_a_split_that_is_asked_for_by_name_is_that_one_or_none(tmp_path: Path) -> None:
    flat = photos(tmp_path / "in", ant=5, bee=5)
    for split in ("test", "val"):
        with pytest.raises(InputError, match=f"split '{split}' .*expected one of train"):
            train_and_test(Data(source=str(flat), test_split=split))
    photos(tmp_path / "parts" / "train", ant=2, bee=2)
    photos(tmp_path / "parts" / "val", ant=1, bee=1)
    _, test = train_and_test(Data(source=str(tmp_path / "parts"), test_split="val"))
    assert len(test) == 2


@pytest.mark.parametrize("name", ["test", "val"])
def test_pictures_are_never_both_trained_and_evaluated_on(tmp_path: Path, name: str) -> None:
    root = photos(tmp_path / name, ant=5, bee=5)
    with pytest.raises(InputError, match=rf"other pictures to test on \(split {name}\)"):
        train_and_test(Data(source=str(root)))
    assert len(evaluated_on(Data(source=str(root)))) == 10  # to measure on, they are all there
    with pytest.raises(InputError, match="other pictures to test on"):
        train_and_test(Data(source=str(root), test_split="train"))


def test_a_parquet_file_and_the_half_of_mnist_are_shared_out_too(tmp_path: Path) -> None:
    file = parquet(tmp_path / "x.parquet", [0, 1] * 10)
    idx = write(tmp_path / "idx", train=[0, 1] * 10)
    for given_source in (file, idx):
        train, test = train_and_test(Data(source=str(given_source)))
        assert (len(train), sorted(test.labels())) == (16, [0, 0, 1, 1])


def test_splits_of_their_own_are_opened_as_they_are() -> None:
    train, test = train_and_test(Data(source="digits"))
    for side in (train, test):
        own = open_source("digits", side.split)
        assert type(side) is type(own) and side.fingerprint() == own.fingerprint()


def test_labels_need_no_picture_to_be_read(tmp_path: Path) -> None:
    root = photos(tmp_path / "in", ant=2, bee=3)
    sources = [open_source("digits", "test"), open_source(str(root), "train")]
    sources.append(open_source(str(parquet(tmp_path / "x.parquet", [1, 0, 1])), "train"))
    sources.append(open_source(str(write(tmp_path / "idx", train=[2, 0, 1])), "train"))
    sources.append(Relabeled(sources[1], ["aardvark", "ant", "bee"]))
    for source in sources:
        labels = source.labels()
        assert labels.dtype == np.int64
        assert labels.tolist() == [source[index].label for index in range(len(source))]
