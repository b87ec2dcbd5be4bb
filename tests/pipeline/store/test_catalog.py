"""What is registered, listed without MLflow; entries that make no sense are refused by name."""

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dsnet import InputError
from jobs import cli
from pipeline.config import config_from_dict
from pipeline.store import catalog, registry, tracking
from tests.embedded_store import embedded_store

TAGS = {
    "stage": "gate",
    "content": "c",
    "metrics": "top1 average_madds",
    "top1": "0.9",
    "average_madds": "1000.0",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store with three versions of ours, one that was deleted, and entries of all kinds."""
    folder = tmp_path_factory.mktemp("home")
    with embedded_store(folder):
        tracking.configure()
        client = tracking.client()
        links = folder / "links"
        links.mkdir()
        (folder / "secret").write_text("secret")
        (links / "weights.safetensors").symlink_to(folder / "secret")
        entries: list[tuple[str, str, dict[str, str]]] = [
            ("digits", str(folder / "gone"), {}),
            ("digits", str(folder / "gone"), {"parent": "models:/digits/1"}),
            ("digits", "ftpx://nowhere/at/all", {}),
            ("digits", str(links), {}),
            ("digits", str(folder), {"top1": "a\x1b[31mlot"}),
            ("digits", str(folder), {"average_madds": "inf"}),
            ("digits", str(folder), {"metrics": "average_madds"}),
            ("digits", str(folder), {}),
            ("others", str(folder), {}),
        ]
        for name in ("digits", "others", "empty"):
            client.create_registered_model(name)
        for name, source, tags in entries:
            ours = {**TAGS, **tags} if name == "digits" else {"who": "somebody else"}
            client.create_model_version(name, source, tags=ours)
        client.delete_model_version("digits", "8")
        client.set_registered_model_alias("digits", "champion", "2")
        client.set_registered_model_alias("digits", "best", "2")
        yield folder


def test_the_file_is_read_as_mlflow_reads_it(home: Path) -> None:
    with closing(sqlite3.connect(home / "mlflow.db")) as store:
        found = store.execute("SELECT version_num FROM alembic_version").fetchall()
    assert found == [(catalog.SCHEMA,)], "MLflow has other tables: see that they are read as before"
    assert catalog.versions() == registry.versions()
    assert [version.version for version in catalog.versions("digits")] == [1, 2, 3, 4]
    assert catalog.versions("digits")[1].aliases == ("best", "champion")
    for uri in ("models:/digits", "models:/digits@best", "models:/digits/2"):
        assert catalog.find(uri) == registry.resolve(uri)


def test_versions_whose_tags_are_no_numbers_are_named_and_passed_over(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for versions in (catalog.versions, registry.versions):
        caplog.clear()
        versions()
        assert sorted(record.getMessage() for record in caplog.records) == [
            "models:/digits/5: expected a finite number in its tag 'top1', found "
            "'a\\x1b[31mlot', passed over",
            "models:/digits/6: expected a finite number in its tag 'average_madds', found 'inf', "
            "passed over",
            "models:/digits/7: expected the metric 'top1', found none, passed over",
        ]
    with pytest.raises(InputError, match=r"models:/digits/5: expected a finite number"):
        registry.resolve("models:/digits/5")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (1, r"models:/digits/1: expected files at '.*gone', found none"),
        (3, r"models:/digits/3: expected files at 'ftpx://nowhere/at/all', found: "),
        (4, r"models:/digits/4: expected files, found links: 'weights.safetensors'"),
    ],
)
def test_a_version_whose_files_are_elsewhere_is_refused_by_name(
    home: Path, tmp_path: Path, number: int, said: str
) -> None:
    with pytest.raises(InputError, match=said) as error:
        registry.pull(f"models:/digits/{number}", tmp_path / "pulled")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there_is_refused_as_mlflow_refuses_it(home: Path) -> None:
    with pytest.raises(InputError, match="the nearest is digits"):
        catalog.versions("digit")
    with pytest.raises(InputError, match="found 9"):
        catalog.find("models:/digits/9")


def test_a_file_that_is_no_store_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSNET_HOME", str(tmp_path))
    (tmp_path / "mlflow.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(InputError, match=r"mlflow\.db: expected an MLflow store, found it damaged"):
        catalog.versions()


def test_a_home_without_a_store_stays_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DSNET_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert cli.run(["models"]) == 0
    assert "nothing is registered yet" in capsys.readouterr().out
    for args in (
        ["pull", "models:/digits", str(tmp_path / "pulled")],
        ["predict", "models:/digits", "x.png"],
        ["models", "digits"],
        ["models", "diff", "digits/1", "digits/2"],
    ):
        assert cli.run(args) == 2
        assert "expected a store with registered models, found none" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_listing_imports_neither_mlflow_nor_torch(home: Path) -> None:
    script = """
import sys
from jobs import cli
status = cli.run(["models"])
heavy = {"torch", "mlflow", "ray", "pandas"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else status)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "models:/digits/2" in done.stdout


@pytest.mark.parametrize("columns", [40, 80])
def test_a_narrow_terminal_folds_and_cuts_nothing_off(
    home: Path, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert cli.run(["models"]) == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= columns
    assert not any("…" in line for line in lines)
    cells = [line.strip("│").split("│")[0].strip() for line in lines if line.startswith("│")]
    assert all(f"models:/digits/{number}" in "".join(cells) for number in (1, 2, 3, 4))


def test_two_versions_are_compared(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["models", "diff", "digits/1", "digits@champion"]) == 0
    out = capsys.readouterr().out
    assert "the configuration of models:/digits/1 is not known" in out
    assert "0.9" in out and "+0" in out
    assert "parent" in out and "stage" not in out


def test_two_versions_are_compared_by_their_configurations_fields_then_by_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configs = (
        {"name": "compared", "supernet": {"epochs": 30}},
        {"name": "compared", "supernet": {"epochs": 20, "bootstrap": "labels"}},
    )
    with embedded_store(tmp_path):
        tracking.configure()
        tracking.client().create_registered_model("compared")
        for number, values in enumerate(configs):
            with tracking.chain_run(config_from_dict(values)) as run:
                tags = {
                    **TAGS,
                    "top1": f"0.{8 + number}",
                    "fingerprint": f"{number:x}" * 64,
                    "dataset_digest": "d" * 64,
                    "evaluation": json.dumps({"correct": [number]}),
                }
                source = str(tmp_path / "gone")
                tracking.client().create_model_version("compared", source, run.id, tags=tags)
        words = ["models", "diff", "compared/1", "compared/2"]
        assert cli.run(words) == 0
        lines = capsys.readouterr().out.splitlines()
        assert cli.run([*words, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    rows = {first: rest for first, *rest in cells if rest}
    assert rows["supernet.epochs"] == ["30", "20"]
    assert rows["supernet.bootstrap"] == ["ensemble", "labels"]
    assert rows["top1"] == ["0.8", "0.9", "+0.1"]
    assert [*rows].index("supernet.epochs") < [*rows].index("top1")
    assert not rows.keys() & {"gate.epochs", "dataset_digest", "evaluation"}
    assert rows["fingerprint"] == ["000000000000…", "111111111111…"]
    assert found.keys() == {"a", "b", "config", "metrics", "tags"}
    assert found["config"]["supernet.epochs"] == ["30", "20"]
    assert found["tags"]["fingerprint"] == ["0" * 64, "1" * 64]


@pytest.mark.parametrize(
    "address", ["http://user:s3cret@h", "https://h/?token=s3cret", "http://h#s3cret"]
)
def test_a_secret_in_the_address_is_refused_and_not_repeated(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert cli.run(["models"]) == 2
    said = "".join(capsys.readouterr())
    assert "MLFLOW_TRACKING_URI: expected" in said and "s3cret" not in said
