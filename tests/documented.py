"""Every `dsnet` command that the documentation shows, and which of them the tests do not run.

A comment over a block of commands says so, with reasons; each text in quotes is how they begin:

    <!-- the tests do not run "dsnet serve" (it does not end), "dsnet jobs" (needs a cluster) -->
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from jobs.cli import COMMANDS, dsnet

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?: *<!-- the tests do not run (?P<mark>[^>]+?) -->\n\n)?"
    r"(?:```\w*\n(?P<fenced>.*?)\n```|(?P<indented>(?:^ {4}[^\n]*\n|^\n(?= {4}))+))",
    re.DOTALL | re.MULTILINE,
)


class Shown(NamedTuple):
    """A command as a page shows it."""

    page: str
    line: str
    """As it stands there, without its comment."""
    not_run: str | None
    """Why the tests do not run it; None: they do."""

    @property
    def words(self) -> list[str]:
        """After `dsnet`, up to where the shell sends its output."""
        words = shlex.split(self.line)[1:]
        return words[: min([at for at, word in enumerate(words) if word in "|>"] or [None])]


def in_blocks() -> Iterator[Shown]:
    """Commands that stand in a block of their own, in the order of the pages."""
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        for block in BLOCK.finditer(page.read_text()):
            mark = " ".join((block["mark"] or "").split())
            reasons = dict(re.findall(r'"([^"]+)" \(([^)]+)\)', mark))
            unused = set(reasons)
            for line in _lines(block["fenced"] or block["indented"]):
                if not re.match(r" *dsnet ", line):
                    continue
                command = line.partition(" # ")[0].strip()
                start = next((start for start in reasons if command.startswith(start)), "")
                unused.discard(start)
                yield Shown(name, command, reasons.get(start))
            assert not unused, f"{name}: no command begins with {', '.join(sorted(unused))}"


def in_sentences() -> Iterator[Shown]:
    """Commands within sentences, where they are whole: without … and alternatives."""
    for page in PAGES:
        for text in re.findall(r"`(dsnet [^`]+)`", BLOCK.sub("", page.read_text())):
            line = " ".join(text.split())
            if not re.search(r"…|\||<", line):
                yield Shown(str(page.relative_to(ROOT)), line, None)


def _lines(text: str) -> list[str]:
    """The lines of `text`, those that a shell takes for one joined."""
    return re.sub(r"\\\n *", "", text).splitlines()


def in_help() -> Iterator[Shown]:
    """Commands in the help texts of commands."""
    for name in COMMANDS:
        yield from _in_help_of(dsnet.get_command(click.Context(dsnet), name), name)


def _in_help_of(command: click.Command | None, name: str) -> Iterator[Shown]:
    assert command is not None
    for line in _lines(command.help or ""):
        if re.match(r" +dsnet ", line):
            yield Shown(f"dsnet {name} --help", re.split(r"\s{2,}", line.strip())[0], None)
    for part, below in getattr(command, "commands", {}).items():
        yield from _in_help_of(below, f"{name} {part}")


def misused(shown: Shown, *, whole: bool) -> str | None:
    """What is wrong with a command's words: no such command, flag or argument; None: nothing.

    If it is `whole`, what is required must be there too.
    """
    try:
        _parse(dsnet, "dsnet", shown.words, whole)
    except click.UsageError as error:
        return f"{shown.page}: {shown.line}: {error.format_message()}"
    return None


def _parse(command: click.Command, name: str, words: list[str], whole: bool) -> None:
    context = click.Context(command, info_name=name)
    values, rest, _ = command.make_parser(context).parse_args(args=list(words))
    if isinstance(command, click.Group):
        if rest:
            _, below, rest = command.resolve_command(context, rest)
            assert below is not None
            _parse(below, f"{name} {below.name}", rest, whole)
        return
    if rest:
        raise click.UsageError(f"takes no {' '.join(rest)}")
    for parameter in command.get_params(context):
        value, _ = parameter.consume_value(context, values)
        if whole and parameter.required and parameter.value_is_missing(value):
            raise click.MissingParameter(ctx=context, param=parameter)
