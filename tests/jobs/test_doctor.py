"""The doctor names every part, survives whatever is missing, and says what to do about it."""

import json
import shutil
import socket
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pytest

from jobs import cli, doctor
from jobs.doctor import GIB, Part, examine

PARTS = [
    "compiler", "pkg-config", "libturbojpeg", "opencv", "ffcv", "torch", "ray", "ray cluster",
    "mlflow", "mlflow store", "disk", "shared memory",
]  # fmt: skip


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cluster and no store but those that a test sets up."""
    monkeypatch.setenv("DSNET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(doctor, "STORE_SECONDS", 2.0)


@pytest.fixture
def server() -> Iterator[str]:
    """The address of something that listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def closed() -> str:
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    return f"127.0.0.1:{port}"


def found() -> dict[str, Part]:
    return {part.name: part for part in examine()}


def test_every_part_is_named_and_those_at_hand_have_their_version() -> None:
    parts = found()
    assert list(parts) == PARTS
    for name in ("ffcv", "torch", "ray", "mlflow"):
        assert parts[name].state == "ok"
        assert parts[name].version.partition("+")[0] == version(name).partition("+")[0]
    assert "CPUs" in parts["torch"].detail or "GiB" in parts["torch"].detail
    assert "GiB free" in parts["disk"].detail


def test_without_its_compiler_an_installed_ffcv_still_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    parts = found()
    packages = ("g++", "pkg-config", "libturbojpeg0-dev", "libopencv-dev")
    for name, package in zip(PARTS[:4], packages, strict=True):
        assert parts[name].state == "warning"
        assert parts[name].advice.endswith(f"apt-get install {package}")


def test_without_compiler_and_ffcv_both_are_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "ffcv", None)
    parts = found()
    assert {parts[name].state for name in PARTS[:5]} == {"missing"}


def test_missing_packages_are_findings_and_not_crashes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ffcv", "torch", "ray", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)
    parts = found()
    assert list(parts) == PARTS
    for name in ("ffcv", "torch", "ray", "mlflow"):
        assert parts[name].state == "missing"
        assert name in parts[name].detail
        assert parts[name].advice == "install it: make setup"


def test_a_library_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise OSError("libopencv_core.so.406: cannot open shared object file")

    monkeypatch.setitem(doctor.TO_RUN, "torch", fails)
    part = found()["torch"]
    assert part.state == "missing"
    assert "libopencv_core.so.406" in part.detail


def test_a_configured_cluster_must_answer(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", server)
    assert found()["ray cluster"].state == "ok"
    monkeypatch.setenv("RAY_ADDRESS", f"ray://{server}")
    assert found()["ray cluster"].state == "ok"
    address = closed()
    monkeypatch.setenv("RAY_ADDRESS", address)
    part = found()["ray cluster"]
    assert part.state == "missing"
    assert address in part.detail
    assert "RAY_ADDRESS" in part.advice


def test_a_cluster_on_this_machine_is_found(
    monkeypatch: pytest.MonkeyPatch, server: str, tmp_path: Path
) -> None:
    assert "starts its own cluster" in found()["ray cluster"].detail
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert found()["ray cluster"].state == "missing"
    note = tmp_path / "ray" / "ray_current_cluster"
    note.parent.mkdir()
    note.write_text(server)
    part = found()["ray cluster"]
    assert part.state == "ok"
    assert server in part.detail
    note.write_text(closed())  # the note of one that has ended
    assert found()["ray cluster"].state == "missing"


def test_looking_for_the_embedded_store_does_not_make_one(tmp_path: Path) -> None:
    assert found()["mlflow store"].state == "ok"
    assert not (tmp_path / "home").exists()


def test_a_store_must_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"http://{closed()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    part = found()["mlflow store"]
    assert part.state == "missing"
    assert address in part.detail
    assert "MLFLOW_TRACKING_URI" in part.advice


def test_a_password_in_the_stores_address_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:1")
    part = found()["mlflow store"]
    assert part.state == "missing"
    assert "secret" not in f"{part}"
    assert "MLFLOW_TRACKING_PASSWORD" in part.detail


class Usage(NamedTuple):
    free: int
    total: int = 100 * GIB


@pytest.mark.parametrize(
    ("free", "state"), [(100 * GIB, "ok"), (5 * GIB, "warning"), (GIB // 2, "missing")]
)
def test_a_disk_can_be_too_full(monkeypatch: pytest.MonkeyPatch, free: int, state: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(free))
    part = found()["disk"]
    assert part.state == state
    assert ("DSNET_HOME" in part.advice) == (state != "ok")


@pytest.mark.parametrize(
    ("free", "state"), [(GIB, "ok"), (GIB // 4, "warning"), (GIB // 32, "missing")]
)
def test_shared_memory_can_be_too_full(
    monkeypatch: pytest.MonkeyPatch, free: int, state: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(free))
    part = doctor.check_shared_memory()
    assert part.state == state
    assert ("/dev/shm" in part.advice) == (state != "ok")


@pytest.mark.parametrize(
    ("states", "status"), [(("ok", "ok"), 0), (("ok", "warning"), 0), (("missing", "ok"), 1)]
)
def test_only_what_is_missing_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    states: tuple[str, ...],
    status: int,
) -> None:
    parts = [Part(state, "1", "found", "do this", name=state) for state in states]
    monkeypatch.setattr(doctor, "examine", lambda: iter(parts))
    assert cli.run(["doctor", "--json"]) == status
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] == (status == 0)
    assert document["parts"][0] == {
        "name": states[0],
        "state": states[0],
        "version": "1",
        "detail": "found",
        "advice": "do this",
    }
    assert cli.run(["doctor"]) == status
    assert capsys.readouterr().out.count("do this") == 2
