"""What commands print of results: in words and units of the task that the networks are for."""

import shlex

import pytest

from dsnet.tasks.registry import TASKS
from jobs.commands.models import print_versions
from jobs.commands.run import print_result
from pipeline.chain import ChainResult
from pipeline.store.registry import Version
from pipeline.training.evaluation import EvaluationRow
from tests.toy import SMOOTHING


def version(number: int, metrics: dict[str, float], **tags: str) -> Version:
    metrics = {**metrics, "average_madds": 150000.0}
    return Version("m", number, (), "gate", tags, metrics, "run", "source")


CLASSIFIER = version(1, {"top1": 0.975})
SMOOTHER = version(2, {"psnr": 31.5, "mae": 0.01}, task="smoothing", headline="psnr")


@pytest.fixture(autouse=True)
def smoothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task of `tests.toy` is known."""
    monkeypatch.setitem(TASKS, SMOOTHING.name, SMOOTHING)


@pytest.mark.parametrize(
    ("versions", "title", "values"),
    [
        ([CLASSIFIER], "top-1", ["97.50%"]),
        ([SMOOTHER], "PSNR", ["31.50 dB"]),
        ([CLASSIFIER, SMOOTHER], "headline", ["97.50%", "31.50 dB"]),
    ],
)
def test_versions_are_listed_with_their_headline(
    versions: list[Version], title: str, values: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    print_versions(versions)
    printed = capsys.readouterr().out
    assert title in printed
    assert all(value in printed for value in values)


@pytest.mark.parametrize(
    ("of", "value", "stderr", "words"),
    [
        (CLASSIFIER, 0.975, 0.0082, ("top-1", "97.50%", "0.82%")),
        (SMOOTHER, 31.5, 0.21, ("PSNR", "31.50 dB", "0.21 dB")),
    ],
)
def test_a_chain_prints_what_it_reached(
    of: Version,
    value: float,
    stderr: float,
    words: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    row = EvaluationRow("width 0", value, stderr, {of.headline.name: value}, 150000.0, 0.5)
    print_result(ChainResult(of, [row], 360, [of]))
    printed = capsys.readouterr().out
    assert "models:/m" in printed and "on 360 test images" in printed
    for word in (*words, "network", "standard error", "multiply-adds", "of the widest", "150,000"):
        assert word in printed


def test_a_printed_command_is_one_that_a_shell_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = "sqlite:////home/me & you/$(touch x)/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    print_result(ChainResult(CLASSIFIER, [], 360, [CLASSIFIER]))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "mlflow" in line)
    assert shlex.split(line)[1:] == ["ui", "--backend-store-uri", store]
