"""Where only `import dsnet` was installed for, the command says what it needs."""

import subprocess
import sys

import pytest

HIDDEN = """
import importlib.abc, sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
sys.argv = ["dsnet", "promote", "digits", "1"]
from jobs.entry import main
main()
"""


@pytest.mark.parametrize("missing", ["click", "mlflow"])
def test_a_missing_extra_is_one_line_that_says_what_to_install(missing: str) -> None:
    run = [sys.executable, "-c", HIDDEN.format(missing=missing)]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"dsnet: {missing} is not installed")
    assert "pip install 'dsnet[pipeline]'" in line


def test_a_missing_module_of_our_own_is_a_bug_with_a_traceback() -> None:
    run = [sys.executable, "-c", HIDDEN.format(missing="pipeline")]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
