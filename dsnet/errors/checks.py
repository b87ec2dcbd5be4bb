"""Checks of values that a file or a user gave: the right kind, and within bounds."""

import math
from collections.abc import Collection, Sequence

from dsnet.errors import InputError
from dsnet.errors.text import CONTROL, shown

LONGEST_NAME = 1000  # characters


def check_whole(where: str, value: object, most: int, least: int = 1) -> None:
    """Raise InputError unless `value` is a whole number from `least` to `most`."""
    if type(value) is not int or value < least:
        raise InputError(f"{where} must be a whole number of {least} or more, found {shown(value)}")
    if value > most:
        raise InputError(f"{where} must be a whole number up to {most:,}, found {shown(value)}")


def check_switch(where: str, value: object) -> None:
    """Raise InputError unless `value` is true or false."""
    if type(value) is not bool:
        raise InputError(f"{where} must be true or false, found {shown(value)}")


def check_choice(where: str, value: object, choices: Collection[str]) -> None:
    """Raise InputError unless `value` is one of `choices`."""
    if value not in choices:
        raise InputError(f"{where} must be one of {', '.join(choices)}, found {shown(value)}")


def check_name(where: str, value: object) -> None:
    """Raise InputError unless `value` is text without control codes, and no longer than a name."""
    if not isinstance(value, str):
        raise InputError(f"{where} must be text, found {shown(value)}")
    if len(value) > LONGEST_NAME:
        raise InputError(
            f"{where} must be text of up to {LONGEST_NAME:,} characters, found {len(value):,}"
        )
    if CONTROL.search(value):
        raise InputError(f"{where} must be text without control codes, found {shown(value)}")


def check_count(where: str, values: object, most: int) -> None:
    """Raise InputError unless `values` is a list of up to `most` entries."""
    if not isinstance(values, (list, tuple)):
        raise InputError(f"{where} must be a list, found {shown(values)}")
    if len(values) > most:
        raise InputError(f"{where} must have up to {most:,} entries, found {len(values):,}")


def check_numbers(where: str, numbers: Sequence[float], *, above_zero: bool = False) -> None:
    """Raise InputError unless `numbers` are finite, and above 0 if they have to be."""
    kind = "finite numbers above 0" if above_zero else "finite numbers"
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise InputError(f"{where}: expected {kind}, found {shown(number)}")
        if not _is_finite(number) or (above_zero and number <= 0):
            raise InputError(f"{where}: expected {kind}, found {shown(number)}")


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number beyond what a float can say
        return False
