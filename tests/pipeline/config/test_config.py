"""The configuration says what it means, and what is wrong with it, in one line."""

import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from dsnet.errors import InputError
from dsnet.routing.target import Target, parse_target
from pipeline.config import Config, config_from_dict, data_dir, fields, load_config, storage_dir
from pipeline.config.recipe import RandAugment
from pipeline.data.augment.recipes import get_recipe

CONFIGS = Path(__file__).parents[3] / "jobs" / "configs"


def refusal(overrides: dict[str, str] | None = None, path: Path | None = None) -> str:
    with pytest.raises(InputError) as caught:
        load_config(path, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def config_file(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return path

    return write


# ------------------------------------------------------------------------------- what it reads


def test_flags_win_over_the_file_and_the_file_over_defaults(config_file: Any) -> None:
    path = config_file("gate: {epochs: 7, lr: 0.5}\nseed: 3\n")
    config = load_config(path, {"gate.lr": "0.25"})
    assert (config.gate.epochs, config.gate.lr, config.seed) == (7, 0.25, 3)
    assert config.gate.batch_size == Config().gate.batch_size


def test_off_is_a_word_and_1e_4_a_number(config_file: Any) -> None:
    """YAML 1.1 reads them as false and as a text."""
    config = load_config(config_file("gate: {sgs: off, lr: 1e-4}\n"))
    assert config.gate.sgs == "off" and config.gate.lr == 1e-4


@pytest.mark.parametrize("text", ["0,2,3", "[0, 2, 3]"])
def test_routes_are_given_with_or_without_brackets(text: str) -> None:
    assert load_config(None, {"model.routes": text}).model.routes == (0, 2, 3)


def test_a_text_field_takes_a_flag_as_it_is() -> None:
    assert load_config(None, {"name": "2024"}).name == "2024"
    assert load_config(None, {"data.dir": "null"}).data.dir is None


def test_a_section_with_nothing_in_it_keeps_its_defaults(config_file: Any) -> None:
    assert load_config(config_file("gate:\n  # epochs: 3\n")) == Config()


@pytest.mark.parametrize(("recipe", "side"), [("digits", 8), ("cifar", 32), ("imagenet", 224)])
def test_the_resolution_is_the_recipes_own_unless_given(recipe: str, side: int) -> None:
    assert load_config(None, {"data.recipe": recipe}).data.resolution == side
    given_one = load_config(None, {"data.recipe": recipe, "data.resolution": "96"})
    assert given_one.data.resolution == 96


def test_a_starting_point_is_named_by_a_word_of_pythons(config_file: Any) -> None:
    path = config_file("supernet: {from: 'models:/a-supernet/2', freeze: [trunk], trunk_lr: 0.1}")
    config = load_config(path)
    assert (config.supernet.from_, config.supernet.freeze) == ("models:/a-supernet/2", ("trunk",))
    flags = {"supernet.from": "./official", "supernet.freeze": "stem,stages.0"}
    changed = load_config(path, flags)
    assert (changed.supernet.from_, changed.supernet.freeze) == ("./official", ("stem", "stages.0"))
    assert changed.as_dict()["supernet"]["from"] == "./official"
    assert "supernet.from" in {field.name for field in fields()}
    assert refusal({"supernet.from_": "x"}).endswith("the nearest is supernet.from")


def test_fine_tuning_has_gentler_defaults_that_what_is_given_replaces() -> None:
    names = "lr", "warmup_epochs"
    for values, expected in (
        ({}, (0.08, 5)),
        ({"from": "models:/a-supernet/2"}, (0.01, 0)),
        ({"from": "models:/a-supernet/2", "lr": 0.1}, (0.1, 0)),
    ):
        config = config_from_dict({"supernet": values})
        found = config.as_dict()["supernet"]  # what --print-config shows
        assert tuple(found[name] for name in names) == expected
        assert config_from_dict(config.as_dict()) == config


def test_every_field_is_documented_and_its_flag_accepts_its_default() -> None:
    for field in fields():
        assert len(field.description) > 10, field.name
        assert load_config(None, {field.name: field.default}) == Config(), field.name


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Config().gate.epochs = 3  # type: ignore[misc]


def test_folders_lie_in_the_home_unless_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DSNET_HOME", str(tmp_path))
    assert data_dir(Config()) == tmp_path / "data"
    assert storage_dir(Config()) == tmp_path / "train"
    monkeypatch.chdir(tmp_path)
    assert data_dir(load_config(None, {"data.dir": "here"})) == tmp_path / "here"


# ------------------------------------------------------------------------------ what it refuses


@pytest.mark.parametrize(
    ("flag", "nearest"),
    [
        ("gate.epoch", "gate.epochs"),
        ("supernet.labelsmoothing", "supernet.label_smoothing"),
        ("seeds", "seed"),
        ("data.holdouts", "data.holdout"),
    ],
)
def test_an_unknown_flag_is_refused_with_the_nearest_field(flag: str, nearest: str) -> None:
    line = refusal({flag: "1"})
    assert f"--{flag}" in line and line.endswith(f"the nearest is {nearest}")


def test_an_unknown_field_in_a_file_is_refused_with_the_file_and_the_nearest(
    config_file: Any,
) -> None:
    path = config_file("gate:\n  epoch: 3\n")
    assert refusal(path=path) == f"{path}: unknown field gate.epoch; the nearest is gate.epochs"


@pytest.mark.parametrize(
    ("flag", "text", "expected"),
    [
        ("gate.epochs", "five", "a whole number, at least 1"),
        ("gate.epochs", "0", "a whole number, at least 1"),
        ("gate.epochs", "3.0", "a whole number, at least 1"),
        ("gate.lr", "fast", "a number, above 0"),
        ("gate.lr", ".nan", "a number, above 0"),
        ("supernet.ema", "1", "a number, at least 0, below 1"),
        ("supernet.amp", "yes", "true or false, auto"),
        ("supernet.optimizer", "adam", "one of sgd, adamw"),
        ("supernet.clip_grad", "-1", "a number, above 0, or null"),
        ("cluster.workers", "[0, 2]", "a whole number, or two such as [2, 8], at least 1"),
        ("cluster.workers", "2,4,8", "a whole number, or two such as [2, 8], at least 1"),
        ("model.routes", "a,b", "whole numbers such as [0, 1, 2], not empty, or null"),
        ("model.routes", "[]", "whole numbers such as [0, 1, 2], not empty, or null"),
        ("gate.target", "50%", "a fraction above 0 and up to 1 (0.5) or a count of"),
        ("name", "a/b", "a text, matching"),
    ],
)
def test_a_wrong_value_is_refused_with_what_was_expected_and_found(
    flag: str, text: str, expected: str
) -> None:
    line = refusal({flag: text})
    assert line.startswith(f"--{flag}: expected {expected}") and line.endswith(f"found {text!r}")


def test_a_span_of_workers_is_from_the_fewest_to_the_most(config_file: Any) -> None:
    cluster = load_config(config_file("cluster:\n  workers: [2, 8]\n")).cluster
    assert (cluster.min_workers, cluster.max_workers, cluster.elastic) == (2, 8, True)
    assert not load_config(config_file("cluster:\n  workers: 8\n")).cluster.elastic
    line = refusal({"cluster.workers": "8,2"})
    assert line == "--cluster.workers: expected the fewest first, then the most, found [8, 2]"


def test_a_wrong_value_in_a_file_names_file_and_field(config_file: Any) -> None:
    path = config_file("supernet: {epochs: true}\n")
    line = refusal(path=path)
    assert line == f"{path}: supernet.epochs: expected a whole number, at least 1, found True"


def test_all_wrong_values_are_told_at_once(config_file: Any) -> None:
    line = refusal(path=config_file("seed: a\ngate: {lr: 0}\nepochs: 3\n"))
    assert all(name in line for name in ("seed:", "gate.lr:", "unknown field epochs"))


def test_a_recipe_is_a_name_or_a_base_and_what_differs(config_file: Any) -> None:
    text = "data: {recipe: {base: paper, randaugment: {magnitude: 5}, mixup: 0.2, scale: [0.3, 1]}}"
    recipe = load_config(config_file(text)).data.recipe
    assert load_config(None, {"data.recipe": str(recipe)}).data.recipe == recipe
    own, paper = get_recipe(recipe), get_recipe("paper")
    assert (own.mixup, own.scale) == (0.2, (0.3, 1.0))
    assert own.randaugment == RandAugment(magnitude=5)
    assert own.random_erasing == paper.random_erasing == 0.2
    assert load_config(config_file(text)).data.resolution == 224  # the base's
    assert get_recipe(load_config(None, {"data.recipe": "{base: paper}"}).data.recipe) == replace(
        paper, name="{base: paper}"
    )


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        (
            "{base: imagenet, color_jiter: 1}",
            "config: unknown field data.recipe.color_jiter; the "
            "nearest is data.recipe.color_jitter",
        ),
        (
            "{base: paper, randaugment: {magnitude_sd: 1}}",
            "config: unknown field data.recipe.randaugment.magnitude_sd"
            "; the nearest is data.recipe.randaugment.magnitude_std",
        ),
        (
            "{mixup: 1}",
            "--data.recipe.base: expected one of digits, light, cifar, imagenet, paper, "
            "evaluation, patches, found none",
        ),
        (
            "{base: paper, mixup: -1}",
            "--data.recipe.mixup: expected a number, at least 0, found -1",
        ),
        (
            "{base: paper, randaugment: {magnitude: 11}}",
            "--data.recipe.randaugment.magnitude: "
            "expected a number, at least 0, at most 10, found 11",
        ),
        (
            "{base: paper, scale: [1, 0.5]}",
            "--data.recipe.scale: expected the smaller number first, found [1.0, 0.5]",
        ),
    ],
)
def test_what_is_wrong_with_a_recipe_names_its_field(recipe: str, line: str) -> None:
    assert refusal({"data.recipe": recipe}) == line


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            {"supernet.epochs": "3", "supernet.warmup_epochs": "3"},
            "--supernet.warmup_epochs: expected fewer than supernet.epochs (3), found 3",
        ),
        (
            {"data.resolution": "64", "data.max_resolution": "32"},
            "--data.max_resolution: expected at least data.resolution (64), found 32",
        ),
        (
            {"model.routes": "3,1"},
            "--model.routes: expected rising indices without repeats, found [3, 1]",
        ),
        (
            {"supernet.freeze": "stem,stages.0"},
            "--supernet.freeze: expected with supernet.from, whose weights it keeps, "
            "found ['stem', 'stages.0'] alone",
        ),
        (
            {"supernet.resolution_from": "16"},
            "config: supernet.resolution_from: expected at most data.resolution (8), found 16",
        ),
        (
            {"supernet.resolution_from": "8", "supernet.compile": "true"},
            "--supernet.resolution_from: expected without supernet.compile, whose graphs are of "
            "one size, found 8",
        ),
        (
            {"name": "digits-supernet"},
            "--name: expected a name that does not end in -supernet, found 'digits-supernet'",
        ),
    ],
)
def test_values_that_do_not_go_together_are_refused(overrides: dict[str, str], line: str) -> None:
    assert refusal(overrides) == line


PHOTOS = "name: photos\ndata: {source: photos%s}\n%s"


@pytest.mark.parametrize(
    ("text", "missing", "small", "large"),
    [
        (
            PHOTOS % ("", ""),
            "data.recipe and model.arch",
            "data.recipe cifar and model.arch ds_mbnet_cifar",
            "data.recipe imagenet and model.arch ds_mbnet",
        ),
        (
            PHOTOS % (", resolution: 64", "model: {dropout: 0}"),
            "data.recipe and model.arch",
            "data.recipe cifar and model.arch ds_mbnet_cifar",
            "data.recipe imagenet and model.arch ds_mbnet",
        ),
        (
            PHOTOS % (", recipe: imagenet", ""),
            "model.arch",
            "model.arch ds_mbnet_cifar",
            "model.arch ds_mbnet",
        ),
        (
            PHOTOS % ("", "model: {arch: ds_resnet50}"),
            "data.recipe",
            "data.recipe cifar",
            "data.recipe imagenet",
        ),
    ],
)
def test_pictures_of_ones_own_are_not_trained_with_the_digits_recipe_or_network(
    config_file: Any, text: str, missing: str, small: str, large: str
) -> None:
    path = config_file(text)
    assert refusal(path=path) == (
        f"{path}: {missing}: expected with data.source photos, found none; for small pictures "
        f"(32 pixels) write {small}, for photographs (224 pixels) {large}; dsnet init FOLDER "
        "writes a configuration for the pictures there"
    )


def test_a_source_given_as_a_flag_is_no_exception() -> None:
    line = refusal({"data.source": "photos", "data.recipe": "cifar"})
    assert line.startswith("config: model.arch: expected with data.source photos, found none")


def test_pictures_of_ones_own_have_the_recipes_resolution(config_file: Any) -> None:
    path = config_file(PHOTOS % (", recipe: imagenet", "model: {arch: ds_mbnet}"))
    assert load_config(path).data.resolution == 224


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("gate: 3\n", "gate: expected a section with fields, found 3"),
        ("- 1\n", "expected fields and sections"),
        ("gate: [\n", "expected YAML"),
        ("gate: {epochs: 1, epochs: 2}\n", 'found duplicate key "epochs"'),
    ],
)
def test_a_file_of_another_shape_is_refused(config_file: Any, text: str, part: str) -> None:
    path = config_file(text)
    line = refusal({"gate.lr": "1"}, path)
    assert line.startswith(str(path)) and part in line


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    line = refusal(path=tmp_path / "none.yaml")
    assert line.startswith(f"{tmp_path / 'none.yaml'}: expected a configuration file")


# ---------------------------------------------------------------------------------- round trips

texts = st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20
) | st.sampled_from(
    ["off", "yes", "null", "~", "1e5", "08", "0x1f", "1:30", "2026-01-01", "- a", "a: b", "#", "="]
)
targets = st.builds(
    lambda fraction: Target(fraction=fraction), st.floats(0, 1, exclude_min=True)
) | st.builds(lambda count: Target(count=count), st.integers(1000, 10**13))
configs = st.fixed_dictionaries(
    {
        "name": st.text(string.ascii_letters + string.digits, min_size=1, max_size=20),
        "data": st.fixed_dictionaries(
            {
                "source": texts,
                "dir": st.none() | texts,
                "recipe": st.sampled_from(
                    ["digits", "cifar", {"base": "paper", "scale": [0.5, 1.0], "randaugment": None}]
                ),
            }
        ),
        "model": st.fixed_dictionaries(
            {
                "arch": texts,
                "routes": st.none()
                | st.lists(st.integers(0, 20), min_size=1, unique=True).map(sorted),
                "num_classes": st.none() | st.integers(2, 10**5),
            }
        ),
        "supernet": st.fixed_dictionaries(
            {
                "lr": st.floats(0, 1e6, exclude_min=True),
                "clip_grad": st.none() | st.floats(0, 1e3, exclude_min=True),
                "bootstrap": st.sampled_from(["ensemble", "plain", "distill", "labels"]),
                "amp": st.booleans() | st.just("auto"),
                "from": st.none() | texts,
            }
        ),
        "gate": st.fixed_dictionaries(
            {"target": st.none() | targets, "sgs": st.sampled_from(["try_best", "give_up", "off"])}
        ),
    }
)


@given(values=configs)
@example(values={"model": {"arch": "a\x85b\u2028c"}})
def test_a_config_written_as_yaml_or_as_a_dict_reads_back_equal(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    config = config_from_dict(values)
    path = tmp_path_factory.getbasetemp() / "round_trip.yaml"
    path.write_text(config.yaml(), encoding="utf-8")
    assert load_config(path) == config
    assert config_from_dict(config.as_dict()) == config


# -------------------------------------------------------------------------------------- targets


@given(target=targets)
def test_a_target_reads_back_from_its_text_and_from_its_scalar(target: Target) -> None:
    assert parse_target(str(target)) == target
    assert parse_target(target.scalar) == target


@given(count=st.integers(1000, 10**12))
def test_a_count_is_the_same_as_a_number_or_as_digits(count: int) -> None:
    assert parse_target(count) == parse_target(str(count)) == Target(count=count)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("0.5", Target(fraction=0.5)),
        (0.5, Target(fraction=0.5)),
        (".25", Target(fraction=0.25)),
        ("1", Target(fraction=1.0)),
        ("5e-1", Target(fraction=0.5)),
        ("200M", Target(count=200_000_000)),
        ("1.2G", Target(count=1_200_000_000)),
        ("90k", Target(count=90_000)),
        (200_000_000, Target(count=200_000_000)),
        (2e8, Target(count=200_000_000)),
    ],
)
def test_targets_are_fractions_or_counts(text: object, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    "value",
    ["", "0", "-1", "50", "50%", "0.2k", "1.5", "200 M", "inf", "nan", True, None, 0, 1.5, "M"],
)
def test_anything_else_is_no_target(value: object) -> None:
    with pytest.raises(InputError, match="expected a fraction"):
        parse_target(value)


def test_a_fraction_is_of_the_widest_routable_sub_network() -> None:
    space = [132_890_144, 152_917_184, 565_445_696]
    assert parse_target("0.5").madds(space) == 565_445_696 / 2
    assert parse_target("200M").madds(space) == 200_000_000


@pytest.mark.parametrize("text", ["0.2", "100M", "1G"])
def test_a_target_out_of_reach_is_refused_with_the_range(text: str) -> None:
    with pytest.raises(InputError, match=r"132,890,144 to 565,445,696 .*0\.235 to 1"):
        parse_target(text).madds([132_890_144, 152_917_184, 565_445_696])


# ------------------------------------------------------------------------ the configs that come


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_configs_that_come_with_the_project_are_valid(path: Path) -> None:
    assert load_config(path).gate.target is not None


def test_one_cycle_has_no_warm_up_to_be_shorter_than_the_training() -> None:
    assert config_from_dict({"supernet": {"epochs": 3, "schedule": "one_cycle"}})
    with pytest.raises(InputError, match=r"warmup_epochs: .*fewer than supernet.epochs \(3\)"):
        config_from_dict({"supernet": {"epochs": 3}})


def test_imagenet_has_the_papers_recipe() -> None:
    config = load_config(CONFIGS / "imagenet_mbnet.yaml")
    stage = config.supernet
    assert (stage.epochs, stage.optimizer, stage.schedule) == (150, "sgd", "cosine")
    assert (stage.lr, stage.batch_size, config.cluster.workers) == (0.08, 64, 8)
    assert (stage.warmup_epochs, stage.warmup_lr, stage.weight_decay) == (5, 1e-5, 1e-4)
    assert (stage.label_smoothing, stage.ema, config.model.dropout) == (0.1, 0.997, 0.2)
    assert (config.gate.epochs, config.gate.weight_decay) == (30, 1e-2)
