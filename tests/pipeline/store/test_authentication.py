"""A server that asks for a password: who has none, or a wrong one, is told so in a line."""

from pathlib import Path

import pytest

from jobs import cli

COMMANDS = {
    "models": ["models"],
    "pull": ["pull", "models:/digits@champion", "there"],
    "predict": ["predict", "models:/digits@champion", "picture.png"],
    "promote": ["promote", "digits", "1"],
    "run": ["run", "--config", str(Path(cli.__file__).parent / "configs" / "digits.yaml")],
}


@pytest.mark.slow
@pytest.mark.parametrize("password", [None, "a wrong one"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_without_the_right_password_ends_in_one_clear_line(
    command: str,
    password: str | None,
    mlflow_server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.setenv("DSNET_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    if password is None:
        monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
        monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    assert cli.run(COMMANDS[command]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith(f"dsnet: MLflow store {mlflow_server}: ")
    assert "MLFLOW_TRACKING_PASSWORD" in line and "a wrong one" not in line
