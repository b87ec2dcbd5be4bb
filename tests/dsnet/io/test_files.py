"""Files and folders come out whole, and as readable as the umask of the process allows."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, sys
from pathlib import Path

from safetensors.torch import save_file
import torch

import dsnet
from dsnet.io import files
from dsnet.routing.tuned import TunedGate

root = Path(sys.argv[1])
os.umask(int(sys.argv[2], 8))
model = dsnet.create_model("ds_mbnet_digits")
heads = tuple(gate.slimming for gate in model.gates)
dsnet.save(model, root / "model", [TunedGate(heads, 1e5, 0.0, ())])
with files.atomic_file(root / "file") as path:
    path.write_text("text")
with files.atomic_directory(root / "folder") as path:
    (path / "inner").mkdir(mode=0o700)
    save_file({"x": torch.zeros(1)}, path / "inner" / "x.safetensors")
"""


@pytest.mark.parametrize("umask", ["022", "027"])
def test_whatever_is_written_has_the_modes_that_the_umask_leaves(
    tmp_path: Path, umask: str
) -> None:
    subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path), umask], check=True)
    written = sorted(tmp_path.rglob("*"))
    names = {path.name for path in written if path.is_file()}
    assert names == {
        "SHA256SUMS",
        "file",
        "gates.safetensors",
        "model.json",
        "weights.safetensors",
        "x.safetensors",
    }
    for path in written:
        full = 0o777 if path.is_dir() else 0o666
        assert path.stat().st_mode & 0o777 == full & ~int(umask, 8), path


RACE = """
import os, sys, threading
from pathlib import Path

from dsnet.io import files

sys.setswitchinterval(1e-6)  # threads take turns as often as they can
os.umask(0o077)
root, stop = Path(sys.argv[1]), threading.Event()

def ask():
    while not stop.is_set():
        atomic._umask()

thread = threading.Thread(target=ask)
thread.start()
modes = set()
for number in range(300):
    descriptor = os.open(root / f"{number}", os.O_CREAT | os.O_WRONLY, 0o666)
    modes.add(os.fstat(descriptor).st_mode & 0o777)
    os.close(descriptor)
stop.set()
thread.join()
assert modes == {0o600}, modes
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="the system tells a umask by changing it alone"
)
def test_a_file_that_another_thread_makes_meanwhile_keeps_the_umask(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", RACE, str(tmp_path)], check=True)
