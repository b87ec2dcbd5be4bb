"""What is registered comes back the same, is found by its names, and is nothing that can harm."""

import hashlib
import itertools
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import dsnet
from dsnet.errors import InputError
from dsnet.io import weights
from dsnet.io.files import SUMS, sha256
from dsnet.io.version_files import ADDED
from pipeline.store import connection, logged_model, outage, registry, tracking
from pipeline.store.registry import Version

TAGS = {"fingerprint": "f", "parent": "", "dataset_digest": "d", "code_version": "c"}
METRICS = {"top1": 0.975, "average_madds": 123456.75}
_names = (f"model-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def embedded_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home with a blank")


@pytest.fixture(params=["embedded", "server"])
def store(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, embedded_home: Path
) -> str:
    """Either store, configured; its URI."""
    monkeypatch.setenv("DSNET_HOME", str(embedded_home))
    monkeypatch.setattr(outage, "_FIRST_PAUSE", 0.01)
    if request.param == "embedded":
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue("mlflow_server"))
    return tracking.configure()


@pytest.fixture
def name() -> str:
    """A name that nothing is registered under yet."""
    return next(_names)


@pytest.fixture(scope="module")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Model directories by number, each with weights of its own."""
    root = tmp_path_factory.mktemp("models")

    def make(number: int) -> Path:
        if not (root / str(number)).exists():
            torch.manual_seed(number)
            dsnet.save(dsnet.create_model("ds_mbnet_digits", num_classes=10), root / str(number))
        return root / str(number)

    return make


Make = Callable[[int], Path]


def register(name: str, directory: Path, **changes: object) -> Version:
    arguments = {"stage": "gate", "run_id": None, "tags": TAGS, "metrics": METRICS, **changes}
    return registry.register(name, directory, **arguments)  # type: ignore[arg-type]


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def rewrite_sums(directory: Path) -> None:
    others = {SUMS, *ADDED}
    files = sorted(path for path in directory.iterdir() if path.name not in others)
    lines = [f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.name}\n" for f in files]
    (directory / SUMS).write_text("".join(lines))


# ------------------------------------------------------------------------ there and back again


def test_a_registered_model_comes_back_byte_for_byte(
    store: str, name: str, make_model: Make, tmp_path: Path
) -> None:
    with tracking.stage_run(None, "gate") as run:
        version = register(name, make_model(1), run_id=run.id, aliases=["champion"])
    pulled = registry.pull(version.uri, tmp_path / "pulled")
    assert content(pulled) == content(make_model(1))
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        here, there = dsnet.load(make_model(1)), dsnet.load(pulled)
        assert torch.equal(here(images, width=0), there(images, width=0))
    assert (version.name, version.version, version.run_id) == (name, 1, run.id)


def test_a_version_carries_its_lineage_and_its_metrics_exactly(
    store: str, name: str, make_model: Make
) -> None:
    metrics = METRICS | {"top1/width_0": 1 / 3}
    register(name, make_model(1), metrics=metrics, aliases=["champion", "target-0_5"])
    (version,) = registry.versions(name)
    assert version.tags.items() >= {**TAGS, "stage": "gate", "top1": "0.975"}.items()
    assert version.tags["average_madds"] == "123456.75"
    assert (version.stage, version.metrics) == ("gate", metrics)
    assert version.aliases == ("champion", "target-0_5")
    assert version == registry.resolve(f"models:/{name}/1")


def test_what_is_measured_later_is_added_to_a_version(
    store: str, name: str, make_model: Make
) -> None:
    version = register(name, make_model(1), metrics=METRICS | {"loss": 2.0})
    later = registry.annotate(version, {"evaluated_on": "test"}, {"top1": 0.5, "top5": 1.0})
    assert later.metrics == METRICS | {"loss": 2.0, "top1": 0.5, "top5": 1.0}
    assert later.tags.items() >= {**TAGS, "evaluated_on": "test", "top1": "0.5"}.items()
    assert registry.resolve(version.uri) == later
    with pytest.raises(ValueError, match="finite: top1"):
        registry.annotate(version, {}, {"top1": float("inf")})


def test_a_name_means_the_champion_and_else_the_latest(
    store: str, name: str, make_model: Make
) -> None:
    register(name, make_model(1))
    register(name, make_model(2))
    assert registry.resolve(f"models:/{name}").version == 2
    registry.set_alias(name, "champion", 1)
    assert registry.resolve(f"models:/{name}").version == 1
    assert registry.resolve(f"models:/{name}@champion").version == 1
    register(name, make_model(3), aliases=["champion"])
    assert registry.resolve(f"models:/{name}@champion").version == 3
    assert [v.aliases for v in registry.versions(name)] == [(), (), ("champion",)]


def test_registrations_at_once_all_get_a_version_of_their_own(
    store: str, name: str, make_model: Make, tmp_path: Path
) -> None:
    done: dict[int, Version] = {}
    for number in range(5):
        make_model(number)

    def work(number: int) -> None:
        done[number] = register(name, make_model(number), tags=TAGS | {"fingerprint": str(number)})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(version.version for version in done.values()) == [1, 2, 3, 4, 5]
    for number, version in done.items():
        pulled = registry.pull(version.uri, tmp_path / str(number))
        assert content(pulled) == content(make_model(number))


def test_a_version_is_found_by_its_fingerprint_the_newest_first(
    store: str, name: str, make_model: Make
) -> None:
    assert registry.find(name, "one") is None
    for fingerprint in ("one", "two", "one", "two"):
        register(name, make_model(1), tags=TAGS | {"fingerprint": fingerprint})
    found = registry.find(name, "one")
    assert found is not None and found.version == 3
    assert registry.find(name, "three") is None


def test_versions_without_a_name_are_those_of_every_model(
    store: str, name: str, make_model: Make
) -> None:
    register(name, make_model(1))
    register(name + "-supernet", make_model(1), stage="supernet")
    found = [(v.name, v.version, v.stage) for v in registry.versions() if v.name.startswith(name)]
    assert found == [(name, 1, "gate"), (name + "-supernet", 1, "supernet")]


def test_models_of_others_in_the_same_store_are_left_alone(
    store: str, name: str, make_model: Make
) -> None:
    client = tracking.client()
    run = client.create_run(connection.experiment(client))
    client.create_registered_model(name)
    client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)
    assert registry.versions(name) == []
    assert name not in {version.name for version in registry.versions()}
    with pytest.raises(InputError, match="expected a model with versions"):
        registry.resolve(f"models:/{name}")


# ----------------------------------------------------------------------------- names that fail


def test_an_unregistered_name_is_refused_with_what_there_is_and_the_nearest(
    store: str, name: str, make_model: Make
) -> None:
    register(name + "-digits", make_model(1))
    for call in (
        lambda: registry.resolve(f"models:/{name}-digit"),
        lambda: registry.versions(f"{name}-digit"),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert str(caught.value).startswith(f"model {name}-digit: expected a registered name (")
        assert str(caught.value).endswith(f"the nearest is {name}-digits")


def test_a_missing_version_or_alias_is_refused_with_those_there_are(
    store: str, name: str, make_model: Make
) -> None:
    for number in range(3):
        register(name, make_model(number), aliases=["champion"])
    with pytest.raises(InputError, match=rf"{name}/7: .* \(1 to 3\), found 7"):
        registry.resolve(f"models:/{name}/7")
    with pytest.raises(InputError, match=rf"{name}@best: .* \(champion\), found best"):
        registry.resolve(f"models:/{name}@best")


@pytest.mark.parametrize(
    "uri", ["digits", "models:/", "models:/a/b", "models:/a@", "models:/a'b/1", "runs:/a/b", ""]
)
def test_what_is_no_model_uri_is_refused(uri: str) -> None:
    with pytest.raises(InputError, match="expected models:/NAME"):
        registry.resolve(uri)


@pytest.mark.parametrize("alias", ["latest", "v3", "0.5", "", "a b"])
def test_an_alias_that_cannot_be_one_is_refused_before_anything_is_uploaded(
    alias: str, make_model: Make
) -> None:
    with pytest.raises(InputError, match="alias"):
        register("unused", make_model(1), aliases=[alias])


# ---------------------------------------------------------------------- what never is a version


def begun(name: str, directory: Path, run: str) -> Path:
    """Where a registration before has begun to upload the same model."""
    client = tracking.client()
    tags = TAGS | {"stage": "gate", "content": sha256(directory / SUMS)}
    return Path(logged_model.opened(client, name, run, tags).artifact_location)


def test_an_upload_that_fails_half_way_leaves_no_version(
    embedded: Path, name: str, make_model: Make
) -> None:
    model = make_model(1)
    with tracking.stage_run(None, "gate") as run:
        target = begun(name, model, run.id)
        (target / weights.WEIGHTS).mkdir(parents=True)  # in the way of the file
        with pytest.raises(RuntimeError, match=r"MLflow stored other files.*weights\.safetensors"):
            register(name, model, run_id=run.id)
        assert tracking.client().search_model_versions(f"name = '{name}'") == []
        shutil.rmtree(target / weights.WEIGHTS)
        version = register(name, model, run_id=run.id)
        assert (version.version, version.source) == (1, str(target)), "what was begun is used"


def test_files_left_in_the_place_of_an_upload_do_not_get_into_a_version(
    embedded: Path, name: str, make_model: Make
) -> None:
    model = make_model(1)
    with tracking.stage_run(None, "gate") as run:
        target = begun(name, model, run.id)
        target.mkdir(parents=True)
        (target / "evil.pkl").write_bytes(b"pickle")
        with pytest.raises(RuntimeError, match=r"evil\.pkl"):
            register(name, model, run_id=run.id)
    assert tracking.client().search_model_versions(f"name = '{name}'") == []


@pytest.mark.parametrize("missing", [*registry.REQUIRED_TAGS, "top1", "average_madds"])
def test_a_version_without_its_lineage_cannot_be_registered(missing: str, make_model: Make) -> None:
    tags = {key: value for key, value in TAGS.items() if key != missing}
    metrics = {key: value for key, value in METRICS.items() if key != missing}
    with pytest.raises(ValueError, match=missing):
        register("unused", make_model(1), tags=tags, metrics=metrics)


def test_a_version_without_the_metric_of_its_headline_cannot_be_registered(
    make_model: Make,
) -> None:
    with pytest.raises(ValueError, match="psnr missing"):
        register("unused", make_model(1), tags=TAGS | {"task": "restoring", "headline": "psnr"})


def test_a_metric_that_is_not_finite_cannot_be_registered(make_model: Make) -> None:
    with pytest.raises(ValueError, match="finite: top1"):
        register("unused", make_model(1), metrics=METRICS | {"top1": float("nan")})


def damage_weights(model: Path) -> None:
    (model / weights.WEIGHTS).write_bytes(b"other")


def add_pickle(model: Path) -> None:
    (model / "optimizer.pt").write_bytes(b"pickle")
    rewrite_sums(model)


def add_folder(model: Path) -> None:
    (model / "more").mkdir()
    (model / "more" / "run.py").write_text("print()")


def add_unlisted(model: Path) -> None:
    (model / "report.html").write_text("<p>")


def list_what_lies_outside(model: Path) -> None:
    with (model / SUMS).open("a") as file:
        file.write(f"{'0' * 64}  ../../outside\n")


def forget_sums(model: Path) -> None:
    (model / SUMS).unlink()


def empty_sums_line(model: Path) -> None:
    with (model / SUMS).open("a") as file:
        file.write("\n")


CHANGES = [
    damage_weights,
    add_pickle,
    add_folder,
    add_unlisted,
    list_what_lies_outside,
    forget_sums,
    empty_sums_line,
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_not_a_whole_model_directory_is_not_registered(
    embedded: Path, name: str, make_model: Make, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(make_model(1), model)
    change(model)
    with pytest.raises(InputError):
        register(name, model)
    assert name not in registry._names()


def spoil_weights(model: Path) -> None:
    state = load_file(model / weights.WEIGHTS)
    state["classifier.weight"][0, 0] = float("nan")
    save_file(state, model / weights.WEIGHTS)


def spoil_description(model: Path) -> None:
    text = (model / weights.MODEL).read_text()
    assert '"price": 0.0' in text
    (model / weights.MODEL).write_text(text.replace('"price": 0.0', '"price": 1e999'))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_weights, r"classifier\.weight in .*weights\.safetensors: expected finite"),
        (spoil_description, r"model\.json: metadata\.price: expected finite"),
    ],
)
def test_a_model_that_is_not_finite_is_not_registered(
    embedded: Path,
    name: str,
    make_model: Make,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    says: str,
) -> None:
    model = tmp_path / "model"
    shutil.copytree(make_model(1), model)
    spoil(model)
    rewrite_sums(model)
    with pytest.raises(InputError, match=says):
        register(name, model)
    assert name not in registry._names()


# -------------------------------------------------------------------------------- what is pulled


def change_weights_and_sums(model: Path) -> None:
    damage_weights(model)
    rewrite_sums(model)


@pytest.mark.parametrize("change", [*CHANGES, change_weights_and_sums])
def test_a_version_whose_artifacts_were_changed_is_not_pulled(
    embedded: Path, name: str, make_model: Make, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    version = register(name, make_model(1))
    change(Path(version.source))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError):
        registry.pull(version.uri, tmp_path / "pulled")
    assert sorted(tmp_path.iterdir()) == before


def test_a_version_that_lost_its_files_does_not_count_as_found(
    embedded: Path, name: str, make_model: Make
) -> None:
    old = register(name, make_model(1))
    new = register(name, make_model(1))
    shutil.rmtree(new.source)
    assert registry.find(name, "f") == old


def test_pulling_again_touches_nothing_and_mends_what_is_damaged(
    embedded: Path, name: str, make_model: Make, tmp_path: Path
) -> None:
    uri = register(name, make_model(1)).uri
    pulled = registry.pull(uri, tmp_path / "pulled")
    inode = pulled.stat().st_ino
    assert registry.pull(uri, pulled).stat().st_ino == inode
    damage_weights(pulled)
    assert content(registry.pull(uri, pulled)) == content(make_model(1))


def test_another_version_replaces_a_model_directory(
    embedded: Path, name: str, make_model: Make, tmp_path: Path
) -> None:
    for number in (1, 2):
        register(name, make_model(number))
    for number in (1, 2):
        pulled = registry.pull(f"models:/{name}/{number}", tmp_path / "pulled")
        assert content(pulled) == content(make_model(number))


def test_pulls_to_one_place_at_once_all_end_with_the_model(
    embedded: Path, name: str, make_model: Make, tmp_path: Path
) -> None:
    uri = register(name, make_model(1)).uri
    failed: list[BaseException] = []

    def work() -> None:
        try:
            registry.pull(uri, tmp_path / "pulled")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert content(tmp_path / "pulled") == content(make_model(1))
    assert [path.name for path in tmp_path.iterdir()] == ["pulled"]


def test_other_files_in_the_way_are_left_alone(
    embedded: Path, name: str, make_model: Make, tmp_path: Path
) -> None:
    uri = register(name, make_model(1)).uri
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="expected an empty or a model directory"):
        registry.pull(uri, tmp_path)
    with pytest.raises(InputError, match="found a file"):
        registry.pull(uri, tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert content(registry.pull(uri, tmp_path / "empty")) == content(make_model(1))


# ------------------------------------------------------------------------------------- numbers


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch, embedded_home: Path) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DSNET_HOME", str(embedded_home))
    monkeypatch.setattr(outage, "_FIRST_PAUSE", 0.01)
    tracking.configure()
    return embedded_home


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,8}", fullmatch=True),
        st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_metrics_survive_their_way_through_tags(metrics: dict[str, float]) -> None:
    metrics = {**METRICS, **metrics}
    metrics = {k: v for k, v in metrics.items() if k not in {*TAGS, "stage", "metrics", "content"}}
    tags = registry._as_tags("gate", TAGS, metrics)
    assert {name: float(tags[name]) for name in tags["metrics"].split()} == metrics
