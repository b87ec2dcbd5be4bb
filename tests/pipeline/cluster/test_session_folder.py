"""A cluster of this machine's own starts wherever a scheduler wants temporary files."""

import os
import socket
import tempfile
from pathlib import Path

import pytest

from dsnet.errors import InputError
from pipeline.cluster.ray_cluster import LONGEST_TMPDIR, SOCKET, session_folder


def test_the_longest_folder_is_the_longest_with_which_the_system_takes_a_socket() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        for length in (LONGEST_TMPDIR, LONGEST_TMPDIR + 1):
            path = Path(folder, "x" * (length - len(folder) - 1) + SOCKET)
            path.parent.mkdir(parents=True)
            with socket.socket(socket.AF_UNIX) as opened:
                if length == LONGEST_TMPDIR:
                    opened.bind(str(path))
                else:
                    with pytest.raises(OSError, match="too long"):
                        opened.bind(str(path))


def test_a_folder_that_is_too_long_is_not_used_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/" + "x" * (LONGEST_TMPDIR - 1))
    assert session_folder() is None
    monkeypatch.setenv("TMPDIR", "/" + "ä" * 50)
    assert session_folder() == "/tmp/ray"
    monkeypatch.setenv("RAY_TMPDIR", "/" + "x" * 99)
    with pytest.raises(InputError, match=r"^RAY_TMPDIR: .*found 100; set RAY_TMPDIR"):
        session_folder()
    assert os.environ["TMPDIR"] != "/tmp"
