"""What a command prints: results on stdout and nothing else there, everything else on stderr."""

import json
import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import click

from dsnet.errors.text import escaped

json_flag = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
WIDE = 200  # columns where stdout is no terminal: a table that something reads should not wrap


def claim_stdout() -> None:
    """Keep stdout for this process's own results.

    What libraries in C++ and child processes write to file descriptor 1 goes to stderr from now on.
    """
    sys.stdout.flush()
    results = os.fdopen(os.dup(1), "w", 1, encoding="utf-8", errors="backslashreplace")
    os.dup2(2, 1)
    sys.stdout = results


@contextmanager
def working() -> Iterator[None]:
    """While a command works, whatever prints to sys.stdout prints to stderr instead."""
    with redirect_stdout(sys.stderr):
        yield


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_path(path: Path, as_json: bool) -> None:
    """What a command has written: its path, as JSON `{"path": …}`."""
    if as_json:
        print_json({"path": str(path)})
    else:
        click.echo(path)


def print_unlearned(uri: str, reason: str | None) -> None:
    """The last line of a command whose network did not learn, on stderr; nothing where it did."""
    if reason is None:
        return
    from pipeline.training.chance import WHAT_TO_CHANGE  # it brings PyTorch

    text = f"{uri} DID NOT LEARN and took no alias: {reason}. What to do: {WHAT_TO_CHANGE}"
    click.secho(text, fg="red", bold=True, err=True)


class JsonList:
    """One JSON document on stdout, a list, its items printed as they come.

    Nothing is printed before the first of them, or the end: what fails before leaves stdout empty.
    """

    def __init__(self) -> None:
        self._before = "[\n"

    def add(self, items: Iterable[Any]) -> None:
        """Print more items."""
        for item in items:
            text = json.dumps(item, indent=2, ensure_ascii=False)
            click.echo(self._before + textwrap.indent(text, "  "), nl=False)
            self._before = ",\n"

    def end(self) -> None:
        """Print what ends the document."""
        click.echo("[]" if self._before == "[\n" else "\n]")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """A table on stdout; columns after the first whose cells all begin like numbers go right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left")
    cells = [[_cell(value) for value in row] for row in rows]
    for index, column in enumerate(columns):
        numbers = index > 0 and all(row[index][:1].isdigit() for row in cells)
        # Folded where the terminal is narrow: a name that is cut off cannot be used.
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in cells:
        table.add_row(*row)
    terminal = sys.stdout.isatty()
    Console(file=sys.stdout, width=None if terminal else WIDE, markup=False).print(table)


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if isinstance(value, float) else escaped(str(value))


def program(name: str) -> str:
    """How to call a program of this environment from the current folder, for a shell: `dsnet` if it
    is on the PATH, else by its path."""
    path = Path(sys.executable).with_name(name)
    if shutil.which(name) == str(path):
        return name
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))
