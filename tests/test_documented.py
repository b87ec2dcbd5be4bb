"""What the documentation and help texts tell one to type is what the command takes, and works."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.documented import ROOT, Shown, in_blocks, in_help, in_sentences, misused
from tests.jobs.registry import digits_registry

CONFIG = ROOT / "jobs" / "configs" / "digits.yaml"
# What takes minutes, or what another of these must have made first.
LONG = (
    "run",
    "sweep",
    "report",
    "register",
    "bench",
    "plan --config jobs/configs/digits.yaml",
    "predict models:/denoise",
)


def test_every_command_shown_takes_the_words_shown() -> None:
    shown = [(command, True) for command in (*in_blocks(), *in_help())]
    shown += [(command, False) for command in in_sentences()]
    assert len(shown) > 150
    assert not [wrong for command, whole in shown if (wrong := misused(command, whole=whole))]


def test_commands_that_are_not_there_are_seen() -> None:
    for words, whole, missing in (
        ("nope", False, "nope"),
        ("jobs lst", False, "lst"),
        ("models --bogus", False, "--bogus"),
        ("run --config x --gate.targets 3", True, "--gate.targets"),
        ("pull models:/digits", True, "DIR"),
        ("schema digits", True, "digits"),
    ):
        wrong = misused(Shown("page", f"dsnet {words}", None), whole=whole)
        assert wrong is not None and missing in wrong


def to_run(*, long: bool) -> list[Shown]:
    """Those that the tests run, without those that take minutes unless they are asked for."""
    return [
        command
        for command in in_blocks()
        if command.not_run is None and (long or not " ".join(command.words).startswith(LONG))
    ]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the pages name, in which `dsnet` is run."""
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    shutil.copy(CONFIG, tmp_path / "FILE")
    digits = load_digits()
    pictures = (digits.images * 15).astype(np.uint8)
    for index, (picture, label) in enumerate(zip(pictures, digits.target, strict=True)):
        path = tmp_path / "photos" / str(label) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    Image.fromarray(pictures[0]).save(tmp_path / "scan.png")
    random = np.random.default_rng(0)
    large = Image.fromarray(pictures[0]).convert("RGB").resize((96, 96))
    noise = random.normal(0, 25, (96, 96, 3))
    noisy = Image.fromarray((np.asarray(large) + noise).clip(0, 255).astype(np.uint8))
    for folder, picture in (("originals", large), ("noisy", noisy)):
        (tmp_path / folder).mkdir()
        picture.save(tmp_path / folder / "a.png")
    noisy.save(tmp_path / "noisy.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSNET_HOME", str(tmp_path / "home"))
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def typed(line: str) -> None:
    """Run a line as a shell does, with this environment's commands on the path."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        line, shell=True, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


@pytest.mark.slow
def test_the_commands_that_are_shown_work(desk: Path) -> None:
    """On a registry that is there, those that take seconds."""
    digits_registry(desk / "home")
    commands = to_run(long=False)
    assert len(commands) > 12
    for command in commands:
        typed(command.line)


def test_all_commands_that_are_shown_work(desk: Path, request: pytest.FixtureRequest) -> None:
    """From nothing, in the order of the pages."""
    if not request.config.getoption("long"):
        pytest.skip("takes half an hour: --long runs it")
    typed("dsnet run --config jobs/configs/digits.yaml")
    # Stands for a model directory that was made elsewhere.
    typed("dsnet pull models:/digits-supernet/1 official")
    for command in to_run(long=True):
        typed(command.line)
