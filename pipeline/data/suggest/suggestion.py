"""A suggested configuration: from a source to a commented YAML file that runs as it is."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dsnet.errors import InputError
from dsnet.errors.text import escaped
from pipeline.config import Config, Data, config_from_dict, dialect, is_uri
from pipeline.data.sources.train_and_test import train_and_test
from pipeline.data.suggest.choices import Choice, choices
from pipeline.data.suggest.doubts import doubts
from pipeline.data.suggest.survey import Survey, survey

WIDTH = 100  # columns of the file


@dataclass(frozen=True)
class Suggestion:
    """A configuration, why it is as it is, and what will hurt."""

    spec: str
    """The source, as `data.source` says it."""
    found: Survey
    """What the training pictures are like."""
    test: int
    """How many pictures there are to test on."""
    choices: Sequence[Choice]
    warnings: Sequence[str]
    notes: Sequence[str] = ()
    """What was measured on this machine, in sentences."""

    @property
    def about(self) -> str:
        """The pictures, in a sentence."""
        counts = self.found.counts.values()
        least, most = min(counts), max(counts)
        each = f"{least:,} each" if least == most else f"{least:,} to {most:,}"
        return (
            f"{self.spec}: {self.found.pictures:,} pictures to train on and {self.test:,} to test "
            f"on, {len(counts):,} classes of {each}."
        )

    def changed(self, *changes: Choice) -> "Suggestion":
        """The same with other values for fields that it has."""
        others = {choice.field: choice for choice in changes}
        choices = [others.get(choice.field, choice) for choice in self.choices]
        return replace(self, choices=choices)

    def noted(self, sentence: str) -> "Suggestion":
        """The same with one more sentence above the fields."""
        return replace(self, notes=[*self.notes, sentence])

    def value(self, field: str) -> Any:
        """What it has for a field, dotted."""
        return next(choice.value for choice in self.choices if choice.field == field)

    def config(self) -> Config:
        """What `dsnet run` makes of the file."""
        return config_from_dict(self.values(), self.spec)

    def values(self) -> dict[str, Any]:
        """The fields in their sections, as `config_from_dict` reads them."""
        nested: dict[str, Any] = {}
        for choice in self.choices:
            section, _, field = choice.field.rpartition(".")
            (nested.setdefault(section, {}) if section else nested)[field] = choice.value
        return nested

    def yaml(self) -> str:
        """The configuration file, each field under the reason for its value."""
        rest = "Fields that are left out have the defaults that dsnet run --help explains."
        lines = [line for text in (self.about, *self.notes, rest) for line in _comment(text)]
        section = ""
        for choice in self.choices:
            own, _, field = choice.field.rpartition(".")
            if own != section:
                lines.append(f"{own}:")
                section = own
            indent = "  " * bool(own)
            lines += _comment(choice.why, indent)
            lines.append(f"{indent}{field}: {dialect.dump_line(choice.value)}")
        return "\n".join(lines) + "\n"


def suggest(source: str) -> Suggestion:
    """A configuration for the pictures in `source`: a folder, or what else `data.source` may be.

    Raises InputError where they cannot be trained on: no such source, or fewer than two classes.
    """
    path = Path(source).expanduser()
    # By its whole path a file or folder is found from wherever the configuration is run.
    local = not is_uri(source) and (path.exists() or len(path.parts) > 1)
    spec = str(path.absolute()) if local else source
    train, test = train_and_test(Data(source=spec))
    if len(train.classes) < 2:
        raise InputError(
            f"source {spec}: expected pictures of two classes or more, to tell them apart, found "
            f"one class, {train.classes[0]}; give each class a folder of its own"
        )
    found = survey(train)
    return Suggestion(spec, found, len(test), choices(spec, found), list(doubts(found)))


def _comment(text: str, indent: str = "") -> list[str]:
    start = f"{indent}# "
    return textwrap.wrap(
        escaped(text),  # a line break in a path would end the comment
        WIDTH,
        initial_indent=start,
        subsequent_indent=start,
        break_long_words=False,
        break_on_hyphens=False,
    )
