"""A version is an MLflow model: it answers as we do where only MLflow and a runtime are."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import dsnet
from dsnet import Metadata
from dsnet.errors import InputError
from dsnet.inference.export import write_onnx
from dsnet.io.files import SUMS, read_sums, sha256
from dsnet.routing.tuned import fitted
from pipeline.predict.model import open_runner
from pipeline.predict.stream import Row, predict
from pipeline.store import registry, tracking
from pipeline.store.registry import Version
from tests.bare_python import BarePython
from tests.embedded_store import embedded_store
from tests.pipeline.store.test_pull import pictures, tuned_gates

URI = "models:/digits@champion"
TAGS = {"fingerprint": "f", "parent": "", "dataset_digest": "d", "code_version": "c"}
SIZES = [(8, 8), (30, 20), (17, 41), (8, 8), (64, 64), (5, 6)]
# None: as tuned. Between the gates' targets a price is read off the curve of the nearest.
BUDGETS = [None, 0.3, 0.5, 0.62, 1.0, 200_000]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store with one version: gates for three targets, an ONNX file, a crop."""
    folder = tmp_path_factory.mktemp("home")
    with embedded_store(folder):
        mlflow.set_tracking_uri(tracking.configure())
        yield folder
        mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def version(home: Path) -> Version:
    torch.manual_seed(0)
    metadata = Metadata(resolution=8, crop=0.8, classes=tuple("abcdefghij"))
    model = dsnet.create_model("ds_mbnet_digits", metadata=metadata).eval()
    with torch.no_grad():  # answers that depend on the image
        x = dsnet.normalize(pictures(0), metadata.mean, metadata.std)
        model.classifier.weight /= model(x).std(0).mean() / 3
    gates = list(tuned_gates(model))
    directory = dsnet.save(fitted(model, gates[1]), home / "model", gates)
    write_onnx(fitted(model, gates[1]), directory)
    return registry.register(
        "digits",
        directory,
        stage="gate",
        run_id=None,
        tags=TAGS,
        metrics={"top1": 0.9, "average_madds": 1.0},
        aliases=["champion"],
    )


@pytest.fixture(autouse=True, scope="module")
def path_kept() -> Iterator[None]:
    """MLflow puts a version's code before all else on the path, where later tests would find it."""
    before = [*sys.path]
    yield
    sys.path[:] = before


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures of several sizes as PNG files."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for index, (width, height) in enumerate(6 * SIZES):
        level, contrast = random.random((1, 1, 3)), random.random()
        noise = level + contrast * (random.random((height, width, 3)) - 0.5)
        pixels = (noise.clip(0, 1) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return sorted(folder.iterdir())


def encoded(files: list[Path]) -> list[str]:
    return [base64.b64encode(path.read_bytes()).decode() for path in files]


def answered(files: list[Path], budget: str | None) -> list[Row]:
    """What `dsnet predict` says."""
    with open_runner(URI, budget) as (runner, spent):
        batches = predict(runner, [str(path) for path in files], spent)
        return [row for rows in batches for row in rows]


def check(answers: list[dict[str, Any]], files: list[Path], budget: float | None) -> None:
    """Answers are those of `dsnet predict`."""
    expected = answered(files, None if budget is None else str(budget))
    assert len({row["label"] for row in expected}) > 3
    for key in ("label", "class", "width", "madds"):
        assert [a[key] for a in answers] == [row[key] for row in expected], budget
    confidences = [a["confidence"] for a in answers]
    assert confidences == pytest.approx([row["confidence"] for row in expected], abs=1e-4)


ELSEWHERE = """
import importlib.util, json, os, sys
ours = ("dsnet", "pipeline", "jobs", "ray", "ffcv", "cv2", "onnx")
assert not [name for name in ours if importlib.util.find_spec(name)]
import mlflow
model = mlflow.pyfunc.load_model(os.environ["URI"])
images, budgets = json.loads(os.environ["IMAGES"]), json.loads(os.environ["BUDGETS"])
answers = [
    model.predict(images, params={"budget": budget} if budget else None).to_dict("records")
    for budget in budgets
]
print(json.dumps([answers, sorted({"torch", "onnxruntime"} & sys.modules.keys())]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_it_answers_alike_where_only_mlflow_and_a_runtime_are(
    version: Version, files: list[Path], tmp_path: Path, runtime: str
) -> None:
    python = BarePython(tmp_path / "bare", "mlflow", "numpy", "safetensors", "pillow", runtime)
    printed = python.run(
        ELSEWHERE,
        URI=URI,
        IMAGES=json.dumps(encoded(files)),
        BUDGETS=json.dumps(BUDGETS),
        MLFLOW_TRACKING_URI=tracking.uri(),
        MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false",
    )
    answers, used = json.loads(printed.splitlines()[-1])
    assert used == [runtime]
    for budget, found in zip(BUDGETS, answers, strict=True):
        check(found, files, budget)


@pytest.fixture(scope="module")
def loaded(version: Version) -> Any:
    return mlflow.pyfunc.load_model(URI)


def test_every_kind_of_input_gives_the_same_answers(loaded: Any, files: list[Path]) -> None:
    names = [str(path) for path in files]
    contents = [path.read_bytes() for path in files]
    expected = loaded.predict(contents)
    check(expected.to_dict("records"), files, None)
    for given in (
        encoded(files),
        names,
        files,
        pd.DataFrame({"image": contents}),
        pd.DataFrame({"image": names, "other": names}),
        [Image.open(path) for path in files],
    ):
        pd.testing.assert_frame_equal(loaded.predict(given), expected)
    large = files[1::6]  # of one size, other than the model's
    arrays = np.stack([np.array(Image.open(path)) for path in large])
    pd.testing.assert_frame_equal(
        loaded.predict(arrays), expected.iloc[1::6].reset_index(drop=True)
    )


def test_the_likeliest_classes_come_in_order(loaded: Any, files: list[Path]) -> None:
    best, three = (loaded.predict(files, params={"top_k": k}) for k in (1, 3))
    pd.testing.assert_frame_equal(three[best.columns], best)
    for row in three.itertuples():
        assert (row.labels[0], row.confidences[0]) == (row.label, row.confidence)
        assert sorted(row.confidences, reverse=True) == row.confidences
        assert row.classes == ["abcdefghij"[label] for label in row.labels]


def test_no_images_have_no_answers(loaded: Any) -> None:
    assert list(loaded.predict([]).columns) == ["label", "class", "confidence", "width", "madds"]
    assert len(loaded.predict(np.zeros((0, 8, 8, 3), np.uint8))) == 0


@pytest.mark.parametrize(
    ("given", "params", "says"),
    [
        (["no picture"], {}, "image 0: expected base64 text or the path of a file"),
        ([b"no picture"], {}, "image 0: expected a picture that decodes"),
        ([None], {}, "image 0: expected encoded bytes"),
        (np.zeros((1, 8, 8, 3), np.float32), {}, "expected uint8 pixels from 0 to 255"),
        (np.zeros((1, 3, 8, 8), np.uint8), {}, "move the channels last"),
        (pd.DataFrame({"picture": []}), {}, "expected a column image, found picture"),
        (np.zeros((1, 8, 8, 3), np.uint8), {"budget": 7.0}, "expected a fraction above 0"),
        (np.zeros((1, 8, 8, 3), np.uint8), {"budget": 0.01}, "target 0.01: expected"),
        (np.zeros((1, 8, 8, 3), np.uint8), {"top_k": 11}, "top_k: expected 1 to 10"),
    ],
)
def test_wrong_inputs_are_refused_in_a_sentence(
    loaded: Any, given: Any, params: dict[str, Any], says: str
) -> None:
    with pytest.raises(mlflow.MlflowException, match=says) as caught:
        loaded.predict(given, params=params)
    assert caught.value.get_http_status_code() == 400


def test_mlflow_knows_it_as_onnx_too_and_shows_an_example(version: Version, loaded: Any) -> None:
    assert {"images", "price"} <= {each.name for each in mlflow.onnx.load_model(URI).graph.input}
    info = mlflow.models.get_model_info(URI)
    assert {each.name for each in info.signature.params} == {"budget", "top_k"}
    assert len(loaded.predict(loaded.input_example)) == 1


def test_versions_are_found_by_numbers_and_joined_to_run_and_data(version: Version) -> None:
    client = tracking.client()
    experiment = client.get_run(version.run_id).info.experiment_id

    def found(filter_string: str) -> list[str]:
        return [m.model_id for m in client.search_logged_models([experiment], filter_string)]

    assert version.tags["model_id"] in found("metrics.top1 > 0.85")
    assert version.tags["model_id"] not in found("metrics.top1 > 0.95")
    model = client.get_logged_model(version.tags["model_id"])
    assert model.source_run_id == version.run_id
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "digits", "version": "1"}]
    (output,) = client.get_run(version.run_id).outputs.model_outputs
    assert output.model_id == model.model_id
    assert {metric.dataset_digest for metric in model.metrics} == {"d"}


def test_the_card_says_costs_at_once_and_accuracies_when_they_are_counted(
    home: Path, version: Version
) -> None:
    client = tracking.client()
    before = client.get_model_version("digits", "1").description
    assert (Path(version.source) / "README.md").read_text() == before
    widest = json.loads(version.tags["facts"])["madds"][-1]
    assert f"| width 3 | {widest:,} | 100.0% |  |" in before
    counted = {
        "images": 400,
        "static": {"values": {"top1": [100, 200, 300, 360]}, "squares": {}},
        "routed": {"values": {"top1": [350]}, "squares": {}},
        "picked": [100, 100, 100, 100],
    }
    metrics = {"top1": 0.875, "average_madds": 150_000.0}
    registry.annotate(version, {"evaluation": json.dumps(counted)}, metrics)
    after = client.get_model_version("digits", "1").description
    assert f"| width 3 | {widest:,} | 100.0% | 0.9000 |" in after
    assert "| 150,000 |" in after and "**0.8750**" in after and "400 test images" in after


def test_a_version_that_was_altered_is_refused_by_name(version: Version, tmp_path: Path) -> None:
    folder = Path(mlflow.artifacts.download_artifacts(URI, dst_path=str(tmp_path)))
    for name in ("model.onnx", "gates.safetensors", "model.json"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(InputError, match=name):
            mlflow.pyfunc.load_model(str(folder))
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("name", ["weights.safetensors", "README.md"])
def test_a_version_changed_where_it_is_stored_is_refused_by_its_tags(
    version: Version, name: str
) -> None:
    """Checksums lie beside the files: who changes one can change the other."""
    folder = Path(version.source.removeprefix("file://"))
    before = {path: path.read_bytes() for path in (folder / name, folder / SUMS)}
    content = bytearray(before[folder / name])
    content[-1] ^= 1
    try:
        (folder / name).write_bytes(content)
        sums = {
            **read_sums(folder),
            **({} if name == "README.md" else {name: sha256(folder / name)}),
        }
        (folder / SUMS).write_text("".join(f"{sums[each]}  {each}\n" for each in sorted(sums)))
        with pytest.raises(InputError, match="models:/digits/1: expected the files that were"):
            mlflow.pyfunc.load_model(URI)
    finally:
        for path, whole in before.items():
            path.write_bytes(whole)
    mlflow.pyfunc.load_model(URI)


def test_a_copy_is_held_to_its_checksums_where_the_registry_is_away(
    version: Version,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = Path(mlflow.artifacts.download_artifacts(URI, dst_path=str(tmp_path)))
    ours = tracking.uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", ours)  # MLflow sets it too, and it is put back
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    try:
        mlflow.pyfunc.load_model(str(folder))
    finally:
        mlflow.set_tracking_uri(ours)
    assert "could not be compared with the version's tags" in caplog.text
    (folder / SUMS).unlink()
    with pytest.raises(InputError, match=f"it has no {SUMS}"):
        mlflow.pyfunc.load_model(str(folder))


# ------------------------------------------------------------------------------------ over HTTP


@pytest.fixture(scope="module")
def server(version: Version, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`mlflow models serve`, in a process that has nothing of ours on its path; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", URI, "--port", port]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"MLFLOW_TRACKING_URI": tracking.uri(), "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    folder = tmp_path_factory.mktemp("server")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--env-manager", "local", "--workers", "1"],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    try:
        while True:
            assert process.poll() is None and time.monotonic() < deadline, (
                folder / "log"
            ).read_text()
            try:
                urllib.request.urlopen(f"{url}/ping", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield url
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def post(url: str, **body: Any) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"{url}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)["predictions"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["message"]


@pytest.mark.slow
def test_a_server_answers_base64_pictures_and_refuses_the_rest(
    server: str, files: list[Path]
) -> None:
    three = files[:3]
    rows = {"columns": ["image"], "data": [[text] for text in encoded(three)]}
    expected = {budget: answered(three, budget) for budget in (None, "0.3")}
    for body in ({"dataframe_split": rows}, {"inputs": encoded(three)}):
        for budget, params in ((None, {}), ("0.3", {"params": {"budget": 0.3}})):
            status, answers = post(server, **body, **params)
            assert status == 200, answers
            assert [a["label"] for a in answers] == [e["label"] for e in expected[budget]]
            assert [a["width"] for a in answers] == [e["width"] for e in expected[budget]]
    for body, says in (
        ({"inputs": ["no picture"]}, "expected base64 text"),
        ({"inputs": [str(three[0])]}, "expected base64 text, found"),  # a path is none of theirs
        ({"dataframe_split": rows, "params": {"budget": 9}}, "expected a fraction above 0"),
        ({"dataframe_split": {"columns": ["x"], "data": [["y"]]}}, "expected a column image"),
    ):
        status, message = post(server, **body)
        assert status == 400 and says in message, (body, message)
