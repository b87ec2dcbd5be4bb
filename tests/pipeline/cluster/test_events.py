"""What a run tells of itself: in its file and in its log, the same."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsnet.errors import InputError
from jobs import cli, local_runs, ray_jobs
from pipeline.cluster import events, run_state

LINES = st.lists(
    st.sampled_from(
        ["epoch 3", "", "dsnet-", 'dsnet-event {"event":"said"}', "said dsnet-event {}"]
    )
)


@given(LINES, st.lists(st.integers(1, 9)))
def test_a_log_is_parted_into_events_and_text_however_it_arrives(
    lines: list[str], cuts: list[int]
) -> None:
    log = "".join(f"{line}\n" for line in lines)
    text: list[str] = []
    told: list[str] = []
    takers = ray_jobs.for_people(text.append), ray_jobs.events_alone(told.append)
    rest = log
    for cut in [*cuts, len(log) + 1]:
        for take in takers:
            take(rest[:cut])
        rest = rest[cut:]
    ours = [line for line in lines if line.startswith(run_state.PREFIX)]
    assert "".join(told) == "".join(f"{line.removeprefix(run_state.PREFIX)}\n" for line in ours)
    assert "".join(text) == "".join(f"{line}\n" for line in lines if line not in ours)


def test_the_file_and_the_log_come_to_the_same_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DSNET_HOME", str(tmp_path))
    monkeypatch.setenv(events.VARIABLE, "1")
    during: list[ray_jobs.JobState] = []

    def fail() -> None:
        with events.told("run", "mine"):
            stages = [{"stage": "supernet", "version": "models:/mine-supernet/1", "why": ""}]
            stages += [{"stage": "table", "version": "", "why": "new"}]
            events.tell("plan", stages=stages)
            with events.stage("table", "run1"):
                events.progress("table", 40, 100, {"loss": 0.5})
                during.extend(local_runs.runs())
                raise InputError("no such thing")

    with pytest.raises(InputError):
        fail()
    at_work = during[0].run.stages[1]
    assert (at_work.state, at_work.done, at_work.total) == ("running", 40, 100)
    (found,) = local_runs.runs()
    job, state = found.job, found.run
    assert state == run_state.state_of(capsys.readouterr().err.splitlines())
    assert job.startswith("mine-")
    assert (state.state, state.message) == ("failed", "no such thing")
    assert [stage.state for stage in state.stages] == ["there", "failed"]
    # For people; without a JOB it is the latest. A table counts its rows.
    assert cli.run(["jobs", "status"]) == 0
    shown = capsys.readouterr().out
    assert f"{job}: run mine, failed" in shown and "40/100 rows (40%)" in shown


def test_a_run_whose_driver_was_killed_is_told_as_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSNET_HOME", str(tmp_path))
    script = (
        "import os, signal\n"
        "from pipeline.cluster import events\n"
        "with events.told('run', 'mine'), events.stage('supernet', None):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode < 0
    found = local_runs.find("latest")
    assert (found.run.state, found.run.stages[0].state) == ("stopped", "stopped")
    assert "killed" in found.run.message
    with pytest.raises(InputError, match=f"the nearest is {found.job}"):
        local_runs.find(f"{found.job}0")


@pytest.mark.parametrize("line", ["{", "[]", '{"event": "progress", "stage": 3, "done": "many"}'])
def test_a_log_line_that_is_no_event_of_ours_changes_nothing(line: str) -> None:
    assert run_state.state_of([f"{run_state.PREFIX}{line}"]) == run_state.RunState()


def test_a_file_that_is_no_state_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSNET_HOME", str(tmp_path))
    folder = events.runs_folder()
    folder.mkdir()
    (folder / "half.json").write_text("{")
    (folder / "other.json").write_text(json.dumps({"state": "running"}))
    assert local_runs.runs() == []
