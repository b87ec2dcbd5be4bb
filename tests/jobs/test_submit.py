"""A Ray job on a real cluster with token authentication: submitted, followed to its end.

The cluster is started once, as `ray start --head` starts it.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from ray.job_submission import JobSubmissionClient

from dsnet.errors import InputError, OutageError
from jobs import cli, ray_jobs, submit
from pipeline.cluster import run_state
from pipeline.config import Config

RAY = Path(sys.executable).with_name("ray")


class Cluster(NamedTuple):
    """A running cluster."""

    url: str
    token: str
    head: str
    """HOST:PORT, for those who join it."""


class Line:
    """A TCP line to a server that can be cut, as networks are."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._ends: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                self._ends += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Break every connection that is open now."""
        while self._ends:
            with contextlib.suppress(OSError):
                self._ends.pop().shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # who waits in accept does not see a close
        self._listening.close()
        self.cut()


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [server.getsockname()[1] for server in servers]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster as `ray start --head` makes it, with a token of its own."""
    token = secrets.token_hex(32)
    ports = free_ports(5)
    names = ("port", "dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port")
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets need a short path
    # The session's own cluster has left its address in the environment.
    others = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE")
    environment = {k: v for k, v in os.environ.items() if k not in others}
    process = subprocess.Popen(
        [RAY, "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1"]
        + ["--dashboard-host=127.0.0.1", "--disable-usage-stats", f"--temp-dir={folder}"]
        + [f"--{name}={port}" for name, port in zip(names, ports, strict=False)],
        env={**environment, "RAY_AUTH_TOKEN": token},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{ports[1]}"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with pytest.MonkeyPatch.context() as patch:
                    for name in others:
                        patch.delenv(name, raising=False)
                    # The dashboard answers before its jobs module does.
                    headers = {"Authorization": f"Bearer {token}"}
                    JobSubmissionClient(url, headers=headers).list_jobs()
                break
            except (ConnectionError, RuntimeError, OSError):
                assert process.poll() is None
                assert time.monotonic() < deadline, "the cluster did not start"
                time.sleep(0.5)
        yield Cluster(url, token, f"127.0.0.1:{ports[0]}")
    finally:
        # Asked to end, it would let its node drain for half a minute first.
        with contextlib.suppress(ProcessLookupError):
            for _ in range(50):  # or until none of its processes is left
                os.killpg(process.pid, signal.SIGKILL)
                process.poll()
                time.sleep(0.1)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def no_cluster_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither tokens nor addresses but those that a test sets."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (
        "RAY_ADDRESS",
        "RAY_API_SERVER_ADDRESS",
        "RAY_AUTH_TOKEN",
        "RAY_AUTH_TOKEN_PATH",
        "DSNET_HOME",
        "MLFLOW_TRACKING_URI",
        "MLFLOW_EXPERIMENT_NAME",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def client(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> JobSubmissionClient:
    monkeypatch.setenv("RAY_AUTH_TOKEN", cluster.token)
    return submit.connect(cluster.url)


# ------------------------------------------------------------------------------ finding a cluster


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1:8265", "ray://127.0.0.1:10001", "http://", "auto"]
)
def test_an_address_that_is_no_url_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="--address: expected the URL of Ray's dashboard"):
        submit.connect(address)


def test_an_address_where_nothing_or_something_else_answers_is_refused() -> None:
    (port,) = free_ports(1)
    with pytest.raises(InputError, match="refused"):
        submit.connect(f"http://127.0.0.1:{port}")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello")

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(InputError, match="expected Ray's dashboard to answer"):
            submit.connect(f"http://127.0.0.1:{server.getsockname()[1]}")


def test_a_silent_address_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "ANSWER_SECONDS", 0.2)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(InputError, match="timed out"),
    ):
        submit.connect(f"http://127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.slow
def test_the_token_is_found_where_ray_looks_for_it(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="none was found") as missing:
        submit.connect(cluster.url)
    assert "RAY_AUTH_TOKEN" in str(missing.value)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong" * 8)
    with pytest.raises(InputError, match="not its own") as wrong:
        submit.connect(cluster.url)
    assert "wrongwrong" not in str(wrong.value)
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "missing"))
    with pytest.raises(InputError, match="RAY_AUTH_TOKEN_PATH"):
        submit.connect(cluster.url)
    (tmp_path / "token").write_text(f"{cluster.token}\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert submit.connect(cluster.url).list_jobs() == []
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    (tmp_path / ".ray").mkdir()
    (tmp_path / "token").rename(tmp_path / ".ray" / "auth_token")
    assert submit.connect(cluster.url).list_jobs() == []


@pytest.mark.slow
def test_the_address_given_wins_over_rays_variables(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", cluster.token)
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    assert submit.connect(cluster.url).get_address() == cluster.url


# ------------------------------------------------------------------------------------- following


@pytest.mark.slow
def test_a_jobs_end_is_the_exit_status(client: JobSubmissionClient) -> None:
    ends = {
        "echo done": ("SUCCEEDED", 0),
        "exit 3": ("FAILED", 1),
        "echo done; exit 2": ("FAILED", 2),
    }
    jobs = {command: submit.start(client, entrypoint=command) for command in ends}
    for command, expected in ends.items():
        written: list[str] = []
        details = submit.follow(client, jobs[command], written.append)
        assert (details.status, submit.exit_status(details)) == expected
        assert ("done\n" in "".join(written)) == ("done" in command)


@pytest.mark.slow
def test_a_stopped_job_has_failed(client: JobSubmissionClient) -> None:
    job = submit.start(client, entrypoint="echo started; sleep 600")

    def stop(text: str) -> None:
        if "started" in text.splitlines():
            client.stop_job(job)

    details = submit.follow(client, job, stop)
    assert details.status == "STOPPED"
    assert submit.exit_status(details) == 1


@pytest.mark.slow
def test_logs_come_live_and_once_although_the_line_is_cut(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", cluster.token)
    line = Line(int(cluster.url.rpartition(":")[2]))
    client = submit.connect(line.url)
    job = submit.start(
        client, entrypoint="for i in $(seq 12); do echo number $i; sleep 0.7; done", runtime_env={}
    )
    written, states = [], []

    def write(text: str) -> None:
        written.append(text)
        if "number" in text and len(states) < 3:
            states.append(submit.connect(cluster.url).get_job_status(job))
            line.cut()

    details = submit.follow(client, job, write)
    line.close()
    assert details.status == "SUCCEEDED"
    assert states == ["RUNNING"] * 3  # they came while the job ran, and the line was cut thrice
    numbers = [each for each in "".join(written).splitlines() if each.startswith("number")]
    assert numbers == [f"number {i}" for i in range(1, 13)]


@pytest.mark.slow
def test_a_cluster_that_stays_away_ends_the_following(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patience begins where it is found away, and not at the last word of a silent job."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", cluster.token)
    monkeypatch.setattr(submit, "PATIENCE_SECONDS", 2.0)
    line = Line(int(cluster.url.rpartition(":")[2]))
    client = submit.connect(line.url)
    job = submit.start(client, entrypoint="echo started; sleep 600")
    gone: list[float] = []

    def vanish(text: str) -> None:
        if "started" in text.splitlines():
            time.sleep(3)
            gone.append(time.monotonic())
            line.close()

    with pytest.raises(OutageError, match=r"no word from Ray's dashboard at .* for 2 s"):
        submit.follow(client, job, vanish)
    assert time.monotonic() - gone[0] > 2
    submit.connect(cluster.url).stop_job(job)


@pytest.mark.slow
def test_the_latest_is_of_ones_own_and_no_job_of_others(
    client: JobSubmissionClient,
) -> None:
    mine = {"name": "mine", "command": "run", "code": "c", "user": ray_jobs.user()}
    jobs = [
        submit.start(client, entrypoint="echo done", metadata=metadata)
        for metadata in (
            mine,
            {**mine, "name": "theirs", "user": "somebody else"},
            {**mine, "name": "doctor", "command": "doctor --nodes"},
            {"name": "other"},
        )
    ]
    assert ray_jobs.find(client, ray_jobs.LATEST).job == jobs[0]
    assert ray_jobs.find(client, jobs[1]).name == "theirs"


@pytest.mark.slow
def test_a_dashboard_that_goes_away_ends_every_command_in_a_line(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", cluster.token)
    line = Line(int(cluster.url.rpartition(":")[2]))
    client = submit.connect(line.url)
    job = submit.start(
        client,
        entrypoint="echo done",
        metadata={"name": "a", "command": "run", "code": "c", "user": "u"},
    )
    listed = ray_jobs.find(client, job)
    line.close()
    for ask in (
        lambda: ray_jobs.jobs_of(client),
        lambda: ray_jobs.status(client, listed),
        lambda: ray_jobs.stop(client, listed),
    ):
        with pytest.raises(OutageError, match=f"at {line.url} does not answer any more"):
            ask()


# ----------------------------------------------------------------------------------- the command


@pytest.fixture
def address(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[str, str]:
    """What names the cluster to a command, which finds its token and has a home of its own."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", cluster.token)
    monkeypatch.setenv("DSNET_HOME", str(tmp_path / "home"))
    return "--address", cluster.url


@pytest.mark.slow
def test_the_submitted_command_runs_the_code_sent_with_it(
    cluster: Cluster,
    address: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """With a source that is not there, so that it ends early: as it would end here."""
    config = tmp_path / "outside.yaml"
    data = "data: {source: /no/such/folder, recipe: cifar}"
    config.write_text(f"name: mine\n{data}\nmodel: {{arch: ds_mbnet_cifar}}\n")
    command = ["submit", "run", "--config", str(config), *address, "--follow"]
    assert cli.run([*command, "--force", "gate,table"]) == 2
    out, err = capsys.readouterr()
    jobs = {job.submission_id: job for job in submit.connect(cluster.url).list_jobs()}
    job = next(jobs[word] for word in err.split() if word in jobs)
    assert job.metadata is not None
    assert job.metadata["command"] == "run --force table --force gate"
    assert out.splitlines()[-1].startswith("dsnet: source /no/such/folder: expected a folder")
    assert "Traceback" not in out + err
    assert "exit code 2" in err.splitlines()[-1]


@pytest.mark.slow
def test_the_doctor_looks_at_a_cluster_from_outside(
    cluster: Cluster, address: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["doctor", *address, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (node,) = [part for part in found["parts"] if part["name"].startswith("node ")]
    assert node["version"] == metadata.version("torch")
    assert node["detail"].startswith("2 CPUs, 0 GPUs, ")


@pytest.mark.slow
def test_who_joins_a_cluster_offers_the_token_that_is_found(cluster: Cluster) -> None:
    join = "import ray, sys; from pipeline.cluster import ray_cluster as cluster; "
    join += "cluster.join(sys.argv[1]); print(ray.cluster_resources()['CPU'])"
    joining = [
        subprocess.Popen(
            [sys.executable, "-c", join, cluster.head],
            env=os.environ | {"RAY_AUTH_TOKEN": token},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for token in (cluster.token, secrets.token_hex(32))
    ]
    (found, said), (_, refused) = (each.communicate() for each in joining)
    assert [each.returncode for each in joining] == [0, 1], said + refused
    assert found == "2.0\n"
    line = refused.splitlines()[-1]
    assert f"RAY_ADDRESS {cluster.head}: this cluster asks for its token" in line
    assert "the one found here is not its own" in line


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_the_job_running_and_says_so(
    number: int,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", cluster.token)
    monkeypatch.setattr(submit, "entrypoint", lambda words, pip: "echo started; sleep 600")
    config = tmp_path / "config.yaml"
    config.write_text(Config().yaml())

    def interrupt(client: JobSubmissionClient, job: str, write: object) -> None:
        signal.raise_signal(number)

    monkeypatch.setattr(submit, "follow", interrupt)
    # Other tests of this process may have left a handler of Ray Train's.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    command = ["submit", "run", "--config", str(config), "--address", cluster.url, "--follow"]
    assert cli.run(command) == 128 + number
    last = capsys.readouterr().err.splitlines()[-1]
    client = submit.connect(cluster.url)
    (job,) = [j for j in client.list_jobs() if j.submission_id and j.submission_id in last]
    assert "jobs stop" in last
    assert not job.status.is_terminal()
    assert job.metadata is not None
    assert job.metadata["name"] == "dsnet"
    client.stop_job(job.submission_id)


# ------------------------------------------------------------------------------- seen and stopped


def run_jobs(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What `dsnet jobs WORDS` prints."""
    capsys.readouterr()
    assert cli.run(["jobs", *words]) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_a_job_is_seen_from_elsewhere_stopped_within_a_stage_and_goes_on(
    cluster: Cluster,
    address: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    config = tmp_path / "config.yaml"
    # So many epochs that the training has not ended by itself when it is stopped.
    config.write_text(
        "name: seen\nsupernet: {epochs: 5000, warmup_epochs: 0, batch_size: 64, "
        "checkpoint_steps: 5}\ncluster: {workers: 1}\n"
    )

    def submitted() -> str:
        assert cli.run(["submit", "run", "--config", str(config), *address]) == 0
        return capsys.readouterr().out.strip()

    def at_work(job: str, beyond: float) -> dict[str, Any]:
        """Its status, as soon as the supernet has done more than so many steps."""
        deadline = time.monotonic() + 120
        while True:
            state = json.loads(run_jobs(capsys, "status", job, *address, "--json"))
            stages = {stage["stage"]: stage for stage in state["stages"]}
            if (stages.get("supernet", {}).get("done") or 0) > beyond:
                return {**state, "stages": stages}
            assert state["ray"] in ("PENDING", "RUNNING"), run_jobs(capsys, "logs", job, *address)
            assert time.monotonic() < deadline, state
            time.sleep(0.5)

    first = submitted()
    state = at_work(first, beyond=10)
    assert (state["job"], state["name"], state["command"]) == (first, "seen", "run")
    assert state["state"] == "running"
    assert state["stages"]["gate"]["state"] == "waiting"
    supernet = state["stages"]["supernet"]
    assert supernet["state"] == "running"
    assert 0 < supernet["done"] < supernet["total"]
    assert supernet["run_id"]
    assert supernet["run_id"] != state["mlflow"]["run_id"]

    # The same run, in another process, by the file that its driver keeps on this machine.
    here = subprocess.run(
        [sys.executable, "-m", "jobs.cli", "jobs", "status", "--json"],
        env={**os.environ, "DSNET_HOME": str(tmp_path / "home")},
        capture_output=True,
        check=True,
    )
    assert json.loads(here.stdout)["mlflow"] == state["mlflow"]

    assert len(workers_of(cluster, 0.0)) >= 2
    assert "resumes from its newest checkpoint" in run_jobs(capsys, "stop", "latest", *address)
    stopped = json.loads(run_jobs(capsys, "status", first, *address, "--json"))
    assert (stopped["ray"], stopped["state"]) == ("STOPPED", "stopped")
    assert stopped["stages"][0]["state"] == "stopped"
    assert workers_of(cluster) == []

    second = submitted()
    again = at_work(second, beyond=supernet["done"])
    assert again["stages"]["supernet"]["run_id"] == supernet["run_id"]
    listed = json.loads(run_jobs(capsys, "list", *address, "--json"))
    assert [row["job"] for row in listed[:2]] == [second, first]
    assert [row["state"] for row in listed[:2]] == ["RUNNING", "STOPPED"]
    events = run_jobs(capsys, "logs", second, *address, "--events").splitlines()
    assert {json.loads(line)["event"] for line in events} >= {"run", "plan", "stage", "progress"}
    assert any("goes on from" in line for line in events)
    log = run_jobs(capsys, "logs", second, *address)
    assert run_state.PREFIX not in log and "\x1b" not in log
    run_jobs(capsys, "stop", second, *address)

    assert cli.run(["jobs", "status", f"{first}x", *address]) == 2
    assert f"the nearest is {first} (seen, STOPPED)" in capsys.readouterr().err
    # What another tool has submitted is none of ours.
    assert all(row["name"] for row in listed)


def workers_of(cluster: Cluster, seconds: float = 20.0) -> list[str]:
    """The processes of this cluster that train, or drive one, once they have had time to end."""
    deadline = time.monotonic() + seconds
    while True:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                name = " ".join(process.cmdline())
                ours = process.environ().get("RAY_AUTH_TOKEN") == cluster.token
                if ours and ("RayTrainWorker" in name or "jobs.cli" in name):
                    found.append(name)
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.2)
