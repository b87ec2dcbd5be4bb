"""What travels with a job: code, configuration and lock; no data, no environment, no secret."""

import json
from hashlib import sha256
from pathlib import Path

import pytest
from ray.runtime_env import RuntimeEnv

from dsnet.errors import InputError
from jobs import runtime_env
from pipeline.config import config_from_dict, load_config

ENVIRONMENT_VARIABLE = 128 * 2**10  # bytes: what Linux allows one to hold


def test_the_upload_is_the_code_and_the_resolved_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_from_dict({"name": "mine", "gate": {"target": "200M"}})
    runtime_env.package(tmp_path, config)
    assert {path.name for path in tmp_path.iterdir()} == {*runtime_env.PACKAGES, runtime_env.CONFIG}
    assert load_config(tmp_path / runtime_env.CONFIG) == config
    root = Path(runtime_env.__file__).parents[1]
    for name in runtime_env.PACKAGES:
        sources = {path.relative_to(root) for path in (root / name).rglob("*.py")}
        copied = {path.relative_to(tmp_path) for path in (tmp_path / name).rglob("*.py")}
        assert copied == sources
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2_000_000
    # Code, configurations, pages and what starts clusters: no data, no environment, no secret.
    kinds = {".py", ".yaml", ".html", ".css", ".js", ".json", ".sbatch", ".typed", ""}
    assert {path.suffix for path in files} == kinds
    assert [path.name for path in files if not path.suffix] == ["Containerfile"]
    assert [path.name for path in files if path.suffix == ".json"] == ["grafana.json"]
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith((".", "__pycache"))]


def test_large_files_stay_here(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(runtime_env.LARGEST_FILE + 1)
    (tmp_path / "small.py").write_text("")
    (tmp_path / ".secret").write_text("")
    names = ["large.bin", "small.py", ".secret", "__pycache__"]
    assert runtime_env._left_out(str(tmp_path), names) == {"large.bin", ".secret", "__pycache__"}
    assert "large.bin" in caplog.text


def test_a_job_gets_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in runtime_env.PASSED_ON:  # other tests' fixtures set them for the process
        monkeypatch.delenv(name, raising=False)
    assert runtime_env.environment() == {}
    for name in ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("DSNET_HOME", "/data/dsnet")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert runtime_env.environment() == {
        "DSNET_HOME": "/data/dsnet",
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
    }
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@mlflow:5000")
    with pytest.raises(InputError, match="MLFLOW_TRACKING_PASSWORD") as error:
        runtime_env.environment()
    assert "secret" not in str(error.value)


def test_packages_are_installed_from_the_lock_that_travels_along(tmp_path: Path) -> None:
    described = runtime_env.runtime_env(tmp_path, pip=True)
    assert len(json.dumps(described)) < ENVIRONMENT_VARIABLE
    (requirement,) = RuntimeEnv(**described)["pip"]["packages"]
    option, _, path = requirement.partition(" ")
    folder, _, name = path.rpartition("/")
    assert (option, folder) == ("-r", "${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}")
    content = (Path(runtime_env.__file__).parents[1] / "requirements.lock").read_bytes()
    assert (tmp_path / name).read_bytes() == content
    # Another lock must be another environment to Ray, which compares the text alone.
    assert sha256(content).hexdigest()[:16] in name
    assert "--require-hashes" in described["pip"]["pip_install_options"]
    assert "PATH" not in runtime_env.entrypoint(["run"], pip=True)


def test_packages_need_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_env, "ROOT", tmp_path)
    with pytest.raises(InputError, match=r"^--pip: expected .*requirements.lock.* a checkout"):
        runtime_env._add_lock(tmp_path)
