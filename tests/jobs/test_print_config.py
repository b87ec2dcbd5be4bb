"""--print-config and `dsnet schema`: configurations and their schema on stdout, nothing run."""

import json
from pathlib import Path

import pytest

from jobs import cli
from pipeline.config import load_config

CONFIG = """
name: birds
data: {source: photos, recipe: cifar}
model: {arch: ds_mbnet_cifar}
supernet: {epochs: 7}
"""


def test_the_printed_configuration_is_whole_runs_nothing_and_prints_the_same_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DSNET_HOME", str(tmp_path / "home"))
    (tmp_path / "mine.yaml").write_text(CONFIG)
    words = ["--print-config", "--gate.target", "200M"]
    assert cli.run(["run", "--config", str(tmp_path / "mine.yaml"), *words]) == 0
    (tmp_path / "whole.yaml").write_text(printed := capsys.readouterr().out)
    given = load_config(tmp_path / "mine.yaml", {"gate.target": "200M"})
    assert load_config(tmp_path / "whole.yaml") == given
    assert cli.run(["run", "--config", str(tmp_path / "whole.yaml"), "--print-config"]) == 0
    assert capsys.readouterr().out == printed
    sweep = ["sweep", "--config", str(tmp_path / "whole.yaml"), "--targets", "0.5"]
    assert cli.run([*sweep, "--print-config", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == given.as_dict()
    assert not (tmp_path / "home").exists()


def test_the_schema_is_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert "gate" in schema["properties"] and schema["additionalProperties"] is False
