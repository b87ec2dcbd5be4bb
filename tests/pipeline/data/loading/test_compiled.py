"""Compiled functions are kept on disk, and made anew when what they call has changed."""

import subprocess
import sys
from pathlib import Path

CALLED = (
    "from pipeline.data.loading.compiled import jit\n\n@jit\ndef inner(x):\n    return x + {}\n"
)
CALLING = (
    "from called import inner\nfrom pipeline.data.loading.compiled import jit\n\n"
    "@jit\ndef outer(x):\n    return 10 * inner(x)\n\n"
    "print(outer(1), sum(outer.stats.cache_hits.values()))\n"
)


def answer(folder: Path, added: int) -> str:
    (folder / "called.py").write_text(CALLED.format(added))
    done = subprocess.run(
        [sys.executable, "-B", "calling.py"],
        cwd=folder,
        env={"PYTHONPATH": str(Path(__file__).parents[4])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_change_of_what_is_called_in_another_file_is_seen(tmp_path: Path) -> None:
    (tmp_path / "calling.py").write_text(CALLING)
    assert answer(tmp_path, 1) == "20 0"
    assert answer(tmp_path, 1) == "20 1"
    assert answer(tmp_path, 2) == "30 0"
