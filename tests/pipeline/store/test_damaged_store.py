"""An embedded store whose file is damaged is refused in one line that names it."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from dsnet.errors import InputError
from jobs import cli
from pipeline.store import tracking
from tests.embedded_store import embedded_store


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def overwritten(file: Path) -> None:
    file.write_text("this is no database, but somebody's notes\n" * 1000)


def of_another_program(file: Path) -> None:
    file.unlink()
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE songs (title TEXT)")
    other.close()


def of_another_mlflow(file: Path) -> None:
    with sqlite3.connect(file) as store:
        store.execute("UPDATE alembic_version SET version_num = '0123456789ab'")
    store.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("whole")
    with embedded_store(folder):
        tracking.configure()
    return (folder / "mlflow.db").read_bytes()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (truncated, "found it damaged (cut or altered)"),
        (emptied, "found an empty file"),
        (overwritten, "found it damaged (no SQLite file)"),
        (of_another_program, "found an SQLite file with songs"),
        (of_another_mlflow, "mlflow db upgrade"),
    ],
)
def test_a_damaged_store_is_refused_by_name(
    damage: Callable[[Path], None],
    says: str,
    whole: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "mlflow.db"
    file.write_bytes(whole)
    damage(file)
    before = file.read_bytes()
    monkeypatch.setenv("DSNET_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert cli.run(["models"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(file) in line and says in line
    assert "SELECT" not in line
    assert file.read_bytes() == before, "nothing is written into it"


@pytest.mark.parametrize("name", ["what?", "50%20"])
@pytest.mark.parametrize("variable", ["DSNET_HOME", "MLFLOW_TRACKING_URI"])
def test_a_path_that_a_store_cannot_have_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, variable: str
) -> None:
    """MLflow would write beside the first, and try for minutes to open a file in another."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    path = tmp_path / name / "home"
    uri = variable == "MLFLOW_TRACKING_URI"
    monkeypatch.setenv(variable, f"sqlite:///{path}/mlflow.db" if uri else str(path))
    with pytest.raises(InputError, match=rf"^{variable}: expected a path without \? and %"):
        tracking.configure()
    assert list(tmp_path.iterdir()) == []
