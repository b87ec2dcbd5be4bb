"""What a command prints: results on stdout and nothing else there, everything else on stderr."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

import click

WIDE = 200  # columns where stdout is no terminal: a table that something reads should not wrap


def claim_stdout() -> None:
    """Keep stdout for this process's own results.

    What libraries in C++ and child processes write to file descriptor 1 goes to stderr from now on.
    """
    sys.stdout.flush()
    results = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
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


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """A table on stdout; columns whose every cell is a number are aligned to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left")
    for index, column in enumerate(columns):
        numbers = all(isinstance(row[index], int | float) for row in rows)
        table.add_column(column, justify="right" if rows and numbers else "left")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    terminal = sys.stdout.isatty()
    Console(file=sys.stdout, width=None if terminal else WIDE, markup=False).print(table)


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
