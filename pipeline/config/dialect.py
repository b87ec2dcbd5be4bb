"""YAML as configuration files mean it, version 1.2: `sgs: off` is a text, 1e-4 a number."""

import io
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import Node, ScalarNode
from ruamel.yaml.representer import SafeRepresenter

__all__ = ["YAMLError", "dump", "dump_line", "parse"]

# Nothing in a configuration is deeper than sweep.hidden[0], but for what a task of one's own has.
MOST_DEPTH = 16
MOST_VALUES = 10_000  # aliases written out
LONGEST_NUMBER = 100  # characters


class _Extent(NamedTuple):
    """What a node holds, written out."""

    values: int
    depth: int


class _Composer(Composer):
    """Counts what a text means, and not what it says: aliases of aliases multiply."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._extents: dict[int, _Extent] = {}  # by the nodes' ids; a node within itself has none
        self._values = self._level = self._deepest = 0

    def compose_node(self, parent: Any, index: Any) -> Node:
        mark = self.parser.peek_event().start_mark
        alias = self.parser.check_event(AliasEvent)
        values, deepest = self._values, self._deepest
        self._values, self._level = self._values + 1, self._level + 1
        self._deepest = self._level
        self._check(mark)
        node: Node = super().compose_node(parent, index)
        self._level -= 1
        if not alias:
            self._extents[id(node)] = _Extent(self._values - values, self._deepest - self._level)
        elif id(node) not in self._extents:
            raise ComposerError(None, None, "found a value that holds itself", mark)
        else:
            held = self._extents[id(node)]
            self._values, self._deepest = values + held.values, self._level + held.depth
            self._check(mark)
        self._deepest = max(self._deepest, deepest)
        return node

    def _check(self, mark: Any) -> None:
        if self._deepest > MOST_DEPTH:
            raise ComposerError(
                None, None, f"found values nested deeper than {MOST_DEPTH} levels", mark
            )
        if self._values > MOST_VALUES:
            raise ComposerError(
                None, None, f"found more than {MOST_VALUES:,} values, aliases written out", mark
            )


class _Constructor(SafeConstructor):
    """Plain values only; a date is a text, as no field is one."""

    def whole_number(self, node: ScalarNode) -> int:
        """No field takes a longer one, and Python does not print thousands of digits."""
        if len(node.value) > LONGEST_NUMBER:
            raise ConstructorError(
                None,
                None,
                f"found a number of {len(node.value):,} characters",
                node.start_mark,
            )
        return self.construct_yaml_int(node)


class _Representer(SafeRepresenter):
    """Texts come back as they were."""

    def text(self, text: str) -> ScalarNode:
        """U+0085 and its like are line breaks to YAML and come back as blanks: they are escaped."""
        style = None if text.isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)
_Constructor.add_constructor("tag:yaml.org,2002:int", _Constructor.whole_number)
for _kind in ("binary", "omap", "pairs", "set"):  # no field is one
    _Constructor.add_constructor(f"tag:yaml.org,2002:{_kind}", SafeConstructor.construct_undefined)
_Representer.add_representer(str, _Representer.text)


def _yaml(flow: bool) -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer, yaml.Constructor, yaml.Representer = _Composer, _Constructor, _Representer
    yaml.default_flow_style, yaml.allow_unicode = flow, True
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    if flow:
        yaml.width = 10**6
    return yaml


def parse(text: str) -> Any:
    """The value that `text` means, within bounds of depth and size.

    Raises YAMLError, also for a key that is given twice.
    """
    try:
        return _yaml(flow=False).load(text)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        # `!!int x`, `!!bool x` and their like, as ruamel.yaml leaves them.
        raise YAMLError(f"found a value that is not of its tag ({error})") from error


def dump(value: Any) -> str:
    """`value` as a block of YAML, keys in their own order."""
    text = io.StringIO()
    _yaml(flow=False).dump(value, text)
    return text.getvalue()


def dump_line(value: Any) -> str:
    """`value` as one line of YAML: what a flag would be given."""
    text = io.StringIO()
    _yaml(flow=True).dump(value, text)
    return text.getvalue().removesuffix("...\n").strip()
