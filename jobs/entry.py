"""The `dsnet` program: the command line, or one line on what is missing for it."""

import sys


def main() -> None:
    """Run the command line. Without the packages of the `pipeline` extra, say so: status 1."""
    try:
        from jobs import cli

        cli.main()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "dsnet", "pipeline", "jobs"):
            raise  # ours: a bug
        print(
            f"dsnet: {missing} is not installed, and the command needs it: "
            "pip install 'dsnet[pipeline]'; `import dsnet` works without",
            file=sys.stderr,
        )
        sys.exit(1)
