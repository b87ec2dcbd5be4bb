"""Progress goes to stderr: a bar where someone watches, few lines where a log is kept."""

import contextlib
import os
import pty
import re
import subprocess
import sys

import pytest

from pipeline.cluster import progress
from pipeline.cluster.progress import Progress, clock


def test_a_log_has_a_first_and_a_last_line_and_stdout_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Progress("ingest train", total=1437, unit="images") as shown:
        for done in range(1438):
            shown.update(done, loss=0.123456, lr="low")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "ingest train: 0/1437 images",
        "ingest train: 1437/1437 images (100%), 0:00 elapsed, loss 0.1235 lr low",
    ]


def test_lines_between_estimate_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with Progress("train", total=100) as shown:
        for done in range(1, 31):
            now += 1
            shown.update(done)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:3] == [
        "train: 5/100 (5%), 0:05 elapsed, ETA 1:35",
        "train: 10/100 (10%), 0:10 elapsed, ETA 1:30",
    ]
    assert len(lines) == 2 + 6  # the first, the last, and one every five seconds


def test_work_that_fails_says_where_it_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(KeyboardInterrupt), Progress("train", total=10) as shown:
        shown.update(3)
        raise KeyboardInterrupt
    assert capsys.readouterr().err.splitlines()[-1] == "train: 3/10 (30%), 0:00 elapsed, stopped"


WORK = """
from pipeline.cluster.progress import Progress
with Progress("ingest [train]", total=10, unit="images") as shown:
    shown.update(4, loss=0.5)
    shown.update(10, loss=0.25)
"""


def test_a_terminal_has_a_bar() -> None:
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", WORK], stderr=theirs, check=True, timeout=60)
    os.close(theirs)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", os.read(ours, 100_000).decode())
    os.close(ours)
    assert "ingest [train]" in shown
    assert "10/10 images" in shown
    assert "100%" in shown
    assert "ETA" in shown
    assert "loss 0.25" in shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.6, "1:00"), (754, "12:34"), (45296, "12:34:56"), (-1, "0:00")],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
