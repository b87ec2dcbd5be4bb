"""The `dsnet` program: the command line of the checkout around it, or one line on what is missing.

A wheel holds `dsnet` alone: what trains, registers and reports stays in the checkout.
"""

import importlib
import sys
from pathlib import Path

_CLI = "jobs.cli"


def main() -> None:
    """Run the command line; where it or a package that it needs is missing, say so: status 1."""
    if not Path(__file__).parents[1].joinpath(*_CLI.split(".")).with_suffix(".py").is_file():
        _refuse(
            "this installation holds the Python package alone (import dsnet); for the command, "
            "clone the repository and run make setup in it"
        )
    try:
        # By name: imports only go down, and this is where the program begins.
        importlib.import_module(_CLI).main()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "dsnet", "pipeline", "jobs"):
            raise  # ours: a bug
        _refuse(
            f"{missing} is not installed, and the command needs it: make setup in the checkout, or "
            "pip install -e '.[pipeline,export]' there; `import dsnet` works without"
        )


def _refuse(problem: str) -> None:
    print(f"dsnet: {problem}", file=sys.stderr)
    sys.exit(1)
