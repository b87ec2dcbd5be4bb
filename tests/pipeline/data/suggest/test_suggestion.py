"""A suggested configuration loads as it is, suits the pictures, and says what will hurt."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dsnet import create_model
from dsnet.errors import InputError
from dsnet.models.create import architecture
from pipeline.config import Config, load_config
from pipeline.data.suggest.choices import choices, steps_for
from pipeline.data.suggest.doubts import doubts
from pipeline.data.suggest.kinds import KINDS, kind_of, smallest_crop
from pipeline.data.suggest.suggestion import suggest
from pipeline.data.suggest.survey import Survey

CROPS = {"base": "imagenet", "scale": [0.5, 1.0], "flip": False, "crop": 1.0}


def folder(
    root: Path, counts: Sequence[int], size: tuple[int, int], mode: str = "RGB", suffix: str = "png"
) -> Path:
    """Class folders a, b, … with so many pictures each, of `size` (width, height)."""
    for label, count in enumerate(counts):
        (root / "abcdefgh"[label]).mkdir(parents=True)
        for number in range(count):
            picture = Image.new(mode, size, 20 * label if mode == "L" else (20 * label, number, 0))
            picture.save(root / "abcdefgh"[label] / f"{number:03}.{suffix}")
    return root


def loaded(source: Path | str, folder: Path) -> Config:
    file = folder / "written.yaml"
    file.write_text(suggest(str(source)).yaml(), encoding="utf-8")
    return load_config(file)


def found(
    side: int = 300,
    pictures: int = 1000,
    grey: float = 0.0,
    longest: int = 500,
    names: Sequence[str] = ("cats", "dogs"),
) -> Survey:
    first, second = names
    counts = {first: pictures // 2, second: pictures - pictures // 2}
    return Survey(counts, 200, side, (longest,), grey, ())


@pytest.mark.parametrize(
    ("size", "mode", "recipe", "resolution", "max_resolution", "arch"),
    [
        ((28, 30), "L", "digits", 28, None, "ds_resnet8_cifar"),
        ((40, 32), "RGB", "digits", 32, None, "ds_resnet8_cifar"),
        ((400, 300), "RGB", CROPS, 64, 128, "ds_resnet8_photos"),
    ],
)
def test_what_is_written_loads_and_suits_the_pictures(
    tmp_path: Path,
    size: tuple[int, int],
    mode: str,
    recipe: str | dict[str, Any],
    resolution: int,
    max_resolution: int | None,
    arch: str,
) -> None:
    root = folder(tmp_path / "My photos, 2024", [12, 13], size, mode)
    config = loaded(root, tmp_path)
    assert (config.name, config.data.source) == ("My-photos-2024", str(root))
    assert config.as_dict()["data"]["recipe"] == recipe
    assert config.data.resolution == resolution
    assert (config.data.max_resolution, config.model.arch) == (max_resolution, arch)
    # A fifth is tested on and a tenth of the rest held out: 18 images, of which most epochs and
    # the smallest batches make most steps.
    assert (config.supernet.epochs, config.supernet.batch_size) == (100, 8)
    assert config.supernet.lr == pytest.approx(0.1 * (2 * 8 / 32) ** 0.5, abs=5e-4)


def test_what_is_written_is_what_was_chosen_and_each_line_has_its_reason(tmp_path: Path) -> None:
    suggestion = suggest(str(folder(tmp_path / "in", [6, 6], (20, 20))))
    config = load_config(None, {}).as_dict()
    for section, values in suggestion.values().items():
        config[section] = config[section] | values if isinstance(values, dict) else values
    assert loaded(tmp_path / "in", tmp_path).as_dict() == config
    lines = suggestion.yaml().splitlines()
    for number, line in enumerate(lines):
        assert len(line) <= 100 or "#" not in line
        if not line.endswith(":") and not line.lstrip().startswith("#"):
            assert lines[number - 1].lstrip().startswith("# "), line


@given(st.integers(1, 4000), st.integers(2, 2 * 10**6), st.sampled_from([0.0, 0.4, 1.0]), st.data())
def test_every_choice_is_a_configuration_of_a_network_that_exists(
    side: int, pictures: int, grey: float, data: st.DataObject
) -> None:
    longest = data.draw(st.integers(side, 10_000))
    survey = found(side, pictures, grey, longest)
    values: dict[str, str] = {}
    for choice in choices("/photos", survey):
        values[choice.field] = str(choice.value)
        assert choice.why
    config = load_config(None, values)
    assert config.data.resolution == kind_of(survey).resolution
    list(doubts(survey))


def test_a_kind_of_pictures_has_a_network_that_can_meet_half_of_its_multiply_adds() -> None:
    for kind in KINDS:
        assert architecture(kind.arch).gates
        model = create_model(kind.arch)
        counts = [model.madds(i, kind.resolution) for i in model.space.routes]
        assert counts[0] < 0.5 * counts[-1]


def test_large_sets_of_photographs_get_the_papers_network_and_few_a_small_one() -> None:
    assert kind_of(found(pictures=19_999)).arch == "ds_resnet8_photos"
    assert kind_of(found(pictures=20_000)).arch == "ds_mbnet"
    assert kind_of(found(side=160, pictures=20_000)).resolution == 64
    assert kind_of(found(side=8, grey=1.0)).arch == "ds_mbnet_digits"
    assert kind_of(found(side=28, grey=0.9)).arch == "ds_resnet8_cifar"  # some have colours


@given(st.integers(10, 10**6), st.integers(10, 10**6))
def test_more_pictures_never_get_fewer_steps_than_fewer(one: int, other: int) -> None:
    """But for the most epochs that few pictures get, and what makes an epoch whole."""
    few, many = sorted((one, other))
    wanted = []
    for pictures in (few, many):
        chosen = {choice.field: choice.value for choice in choices("/x", found(32, pictures))}
        trained_on = pictures * (1 - chosen["data.holdout"])
        epochs = chosen["supernet.epochs"]
        steps_of_epoch = trained_on / (2 * chosen["supernet.batch_size"])
        wanted.append(steps_for(trained_on))
        if epochs < 100:
            assert wanted[-1] <= 1.001 * epochs * steps_of_epoch
            assert (epochs - 1) * steps_of_epoch <= wanted[-1]
    assert wanted[0] <= wanted[1]


@pytest.mark.parametrize(
    ("names", "grey", "mirrored"),
    [
        (("cats", "dogs"), 0.0, True),
        (("cats", "dogs"), 1.0, False),  # scans
        (("a", "b"), 0.0, False),
        (("10", "11"), 0.0, False),
        (("turn_left", "turn_right"), 0.0, False),
        (("bright", "leftover"), 0.0, True),
    ],
)
def test_pictures_are_mirrored_only_where_their_classes_allow_it(
    names: tuple[str, str], grey: float, mirrored: bool
) -> None:
    for side, recipe in ((32, "cifar" if mirrored else "digits"), (300, None)):
        survey = found(side, grey=grey, names=names)
        (choice,) = (c for c in choices("/x", survey) if c.field == "data.recipe")
        assert choice.value == recipe if recipe else choice.value["flip"] is mirrored
        assert "mirrored" in choice.why


def test_crops_are_weaker_for_few_photographs_and_fall_without_a_cliff() -> None:
    parts = [smallest_crop(pictures) for pictures in (10, 2_000, 4_000, 20_000, 10**6, 10**8)]
    assert parts == sorted(parts, reverse=True)
    assert (parts[0], parts[1], parts[-1]) == (0.5, 0.5, 0.08)
    assert all(later > 0.75 * former for former, later in pairwise(parts[:3]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("photos", "photos"),
        ("_x y_", "x-y"),
        ("Bücher", "B-cher"),
        ("日本", "pictures"),
        ("birds-supernet", "birds"),
        ("n" * 200, "n" * 60),
    ],
)
def test_a_name_is_made_of_the_folders(name: str, expected: str) -> None:
    assert choices(f"/data/{name}", found())[0].value == expected


def test_what_will_hurt_is_said(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", [5, 100], (20, 20), "L")
    few, unequal, little, grey, small = (
        "1 of 2 classes have fewer than 10 pictures to train on",
        "the classes are unequal, from 4 pictures (a) to 80 (b)",
        "84 pictures to train on are few",
        "the pictures are grey",
        "smaller (20 pixels, the middle one) than the network's 28",
    )
    warnings = suggest(str(root)).warnings
    for words in (few, unequal, little, grey, small):
        assert any(words in warning for warning in warnings), words
    fine = Survey({"a": 1000, "b": 900}, 200, 300, (500,), 0.0, ())
    assert not list(doubts(fine))
    (many,) = doubts(found(pictures=100_000))
    assert many.startswith("100,000 photographs at 224 pixels want GPUs")
    damaged = Survey({"a": 1000, "b": 900}, 200, 300, (500,), 0.5, ("x.png: damaged",))
    assert [sentence[:10] for sentence in doubts(damaged)] == ["1 of the 2", "50.0% of t"]


def test_one_class_alone_and_no_picture_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"two classes or more.*found one class, a"):
        suggest(str(folder(tmp_path / "one", [5], (8, 8))))
    with pytest.raises(InputError, match="found no such file or folder"):
        suggest(str(tmp_path / "nothing"))
    for label in "ab":
        (tmp_path / "bad" / label).mkdir(parents=True)
        for number in range(5):
            (tmp_path / "bad" / label / f"{number}.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"pictures that can be read, found none among 8"):
        suggest(str(tmp_path / "bad"))


def test_digits_and_parquet_files_are_looked_at_too(tmp_path: Path) -> None:
    digits = loaded("digits", tmp_path)
    assert (digits.data.source, digits.model.arch) == ("digits", "ds_mbnet_digits")
    (png,) = folder(tmp_path / "one", [1], (32, 32)).glob("*/*.png")
    image = {"bytes": png.read_bytes(), "path": png.name}
    table = pa.table({"image": [image] * 10, "label": [0, 1] * 5})
    pq.write_table(table, tmp_path / "birds.parquet")
    birds = loaded(tmp_path / "birds.parquet", tmp_path)
    assert (birds.name, birds.model.arch) == ("birds", "ds_resnet8_cifar")


def test_a_path_from_here_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "in", [5, 5], (8, 8))
    monkeypatch.chdir(tmp_path)
    for given_path in ("in", "./in", "in/"):
        assert suggest(given_path).values()["data"]["source"] == str(tmp_path / "in")
