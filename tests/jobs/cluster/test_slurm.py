"""What the Slurm script starts on every node, by programs that write down what they are given."""

import os
import subprocess
from pathlib import Path

import pytest

from pipeline.cluster.ray_cluster import LONGEST_TMPDIR

SCRIPT = Path(__file__).parents[3] / "jobs" / "cluster" / "slurm.sbatch"
SCONTROL = '#!/bin/sh\n[ "$*" = "show hostnames node[7-9]" ] && printf "node7\\nnode8\\nnode9\\n"\n'
SRUN = """#!/bin/sh
printf '%s\\n' "$@" >given
printf '%s\\n' "$RAY_AUTH_MODE" "$RAY_AUTH_TOKEN" "${RAY_ADDRESS-none}" "${RAY_TMPDIR-none}" >told
exit 3
"""


@pytest.fixture
def node(tmp_path: Path) -> dict[str, str]:
    """The environment of a batch script on the first of three nodes."""
    for name, program in (("scontrol", SCONTROL), ("srun", SRUN)):
        (tmp_path / name).write_text(program)
        (tmp_path / name).chmod(0o755)
    return os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "104711",
        "SLURM_JOB_NODELIST": "node[7-9]",
        "SLURM_JOB_NUM_NODES": "3",
        "SLURM_SUBMIT_DIR": str(SCRIPT.parents[2]),
    }


def submitted(node: dict[str, str], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", SCRIPT, *words], env=node, cwd=folder, capture_output=True, text=True
    )


def test_every_node_runs_the_same_line_and_the_command_s_status_is_the_job_s(
    node: dict[str, str], tmp_path: Path
) -> None:
    tokens = []
    for _ in range(2):
        done = submitted(node, tmp_path, "run", "--config", "my own.yaml")
        assert done.returncode == 3, done.stderr
        given = (tmp_path / "given").read_text().splitlines()
        command = given[given.index("ray") :]
        assert command[:6] == [
            *["ray", "symmetric-run", "--address", "node7:24711", "--min-nodes", "3"],
        ]
        assert command[6:] == [
            *["--", "env", "RAY_ADDRESS=node7:24711", "dsnet", "run", "--config", "my own.yaml"],
        ]
        mode, token, address, _ = (tmp_path / "told").read_text().splitlines()
        assert (mode, len(token), address) == ("token", 64, "none")
        assert not [word for word in given if token in word]
        tokens.append(token)
    assert tokens[0] != tokens[1]


def test_a_folder_too_long_for_ray_s_sockets_is_not_used(
    node: dict[str, str], tmp_path: Path
) -> None:
    node.pop("RAY_TMPDIR", None)
    for length, expected in ((LONGEST_TMPDIR, "none"), (LONGEST_TMPDIR + 1, "/tmp")):
        submitted(node | {"TMPDIR": "/" + "x" * (length - 1)}, tmp_path, "run")
        assert (tmp_path / "told").read_text().splitlines()[3] == expected


def test_what_cannot_run_is_refused_before_any_node_starts(
    node: dict[str, str], tmp_path: Path
) -> None:
    nothing = submitted(node, tmp_path)
    assert nothing.returncode == 2 and "usage: sbatch" in nothing.stderr
    elsewhere = submitted(node | {"SLURM_SUBMIT_DIR": "/nowhere"}, tmp_path, "run")
    assert elsewhere.returncode == 2
    assert "expected a checkout with its .venv at /nowhere" in elsewhere.stderr
    assert not (tmp_path / "given").exists()
