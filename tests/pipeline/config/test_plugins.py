"""Plugins: modules of one's own that are imported before anything else."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsnet.errors import InputError
from jobs import cli
from pipeline import chain
from pipeline.config import Config, config_from_dict, import_plugins, load_config
from pipeline.sweep.run import sweep
from pipeline.training.local_worker import LocalWorker


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path; what is imported from it is forgotten again."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("plugged"):
            del sys.modules[name]


def plugged(*names: str) -> Config:
    return config_from_dict({"plugins": list(names)})


def test_they_are_named_in_a_file_or_by_a_flag() -> None:
    assert load_config(None, {"plugins": "mine.tasks,yours"}).plugins == ("mine.tasks", "yours")
    assert plugged("mine.tasks").plugins == ("mine.tasks",)
    assert Config().plugins == ()


@pytest.mark.parametrize("wrong", ["a-b", "a.", "a b", "../a", "1"])
def test_what_is_no_module_name_is_refused(wrong: str) -> None:
    with pytest.raises(InputError, match=r"plugins: expected names such as \[one, two\]"):
        plugged(wrong)


def test_they_are_imported_in_their_order(modules: Path) -> None:
    (modules / "plugged_first.py").write_text("seen = ['first']\n")
    (modules / "plugged_second.py").write_text("import plugged_first as f\nf.seen.append('2nd')\n")
    import_plugins(plugged("plugged_first", "plugged_second"))
    assert sys.modules["plugged_first"].seen == ["first", "2nd"]


def test_a_worker_imports_them(modules: Path) -> None:
    (modules / "plugged_here.py").write_text("")
    LocalWorker(plugged("plugged_here"), modules / "checkpoint").close()
    assert "plugged_here" in sys.modules


def test_one_that_is_not_there_is_named_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSNET_HOME", str(tmp_path / "home"))
    config = plugged("plugged.nowhere")
    for start in (lambda: chain.run(config), lambda: sweep(config, [], "dsnet sweep")):
        with pytest.raises(InputError, match=r"^plugins: .*found plugged\.nowhere \(ModuleNot"):
            start()
    assert not (tmp_path / "home").exists()


def test_one_that_fails_is_named_with_its_error_in_one_line(modules: Path) -> None:
    (modules / "plugged_broken.py").write_text("raise RuntimeError('no\\nluck')\n")
    with pytest.raises(InputError) as caught:
        import_plugins(plugged("plugged_broken"))
    assert "plugged_broken (RuntimeError: no luck)" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ends", ["raise SystemExit", "import sys; sys.exit(0)", "exit('so long')"])
def test_one_that_ends_the_process_is_named(modules: Path, ends: str) -> None:
    (modules / "plugged_exit.py").write_text(f"{ends}\n")
    with pytest.raises(InputError, match=r"plugged_exit \(SystemExit"):
        import_plugins(plugged("plugged_exit"))


def test_one_that_ends_the_process_later_is_no_success(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever of it is called, and by whatever command."""
    monkeypatch.setattr("jobs.commands.madds.print_json", lambda document: sys.exit(0))
    assert cli.run(["madds", "ds_mbnet", "--json"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "has ended the process (sys.exit(0))" in line
