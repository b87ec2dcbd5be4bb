"""Text that others wrote, in a terminal: no control codes, however it got there."""

import re
import reprlib

CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # what terminals obey
    "\u2028\u2029"  # line and paragraph separators
    "\u202a-\u202e\u2066-\u2069"  # what turns the direction of the text around
    "\ud800-\udfff]"  # halves of characters: UTF-8 cannot say them, paths that are no UTF-8 can
)

LONGEST_LINE = 300  # characters
LONGEST_VALUE = 100
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 60, 60


def escaped(text: str) -> str:
    r"""`text` on one line that moves nothing in a terminal: control codes as `\x1b`."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def shown(value: object) -> str:
    """A value of any kind and size, for a message: short and without control codes."""
    try:
        text = _SHORT.repr(value)
    except ValueError:  # Python writes no whole number of over 4,300 digits
        text = "a number of thousands of digits"
    return escaped(text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…")


def line(error: BaseException) -> str:
    """What an error says, on one short line without control codes."""
    text = escaped(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= LONGEST_LINE else text[: LONGEST_LINE - 1] + "…"
