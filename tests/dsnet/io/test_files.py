"""Files and folders come out whole, and as readable as the umask of the process allows."""

import os
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import dsnet
from dsnet.io import files
from dsnet.routing.tuned import TunedGate
from tests import forked


def written(_: int, root: Path, umask: int) -> None:
    """A model's directory, a file, and a folder of what others have made."""
    os.umask(umask)
    model = dsnet.create_model("ds_mbnet_digits")
    heads = tuple(gate.slimming for gate in model.gates)
    dsnet.save(model, root / "model", [TunedGate(heads, 1e5, 0.0, ())])
    with files.atomic_file(root / "file") as path:
        path.write_text("text")
    with files.atomic_directory(root / "folder") as path:
        (path / "inner").mkdir(mode=0o700)
        save_file({"x": torch.zeros(1)}, path / "inner" / "x.safetensors")


@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_whatever_is_written_has_the_modes_that_the_umask_leaves(
    tmp_path: Path, umask: int
) -> None:
    forked.run(written, tmp_path, umask)
    found = sorted(tmp_path.rglob("*"))
    names = {path.name for path in found if path.is_file()}
    assert names == {
        "SHA256SUMS",
        "file",
        "gates.safetensors",
        "model.json",
        "weights.safetensors",
        "x.safetensors",
    }
    for path in found:
        full = 0o777 if path.is_dir() else 0o666
        assert path.stat().st_mode & 0o777 == full & ~umask, path


def race(_: int, root: Path) -> None:
    """Files made while another thread asks for the umask."""
    sys.setswitchinterval(1e-6)  # threads take turns as often as they can
    os.umask(0o077)
    stop, asked = threading.Event(), 0

    def ask() -> None:
        nonlocal asked
        while not stop.is_set():
            assert files._umask() == 0o077
            asked += 1

    thread = threading.Thread(target=ask)
    thread.start()
    modes = set()
    for number in range(300):
        descriptor = os.open(root / f"{number}", os.O_CREAT | os.O_WRONLY, 0o666)
        modes.add(os.fstat(descriptor).st_mode & 0o777)
        os.close(descriptor)
    stop.set()
    thread.join()
    assert asked and modes == {0o600}


@pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="the system tells a umask by changing it alone"
)
def test_a_file_that_another_thread_makes_meanwhile_keeps_the_umask(tmp_path: Path) -> None:
    forked.run(race, tmp_path)
