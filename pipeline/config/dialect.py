"""YAML as configuration files mean it, version 1.2: `sgs: off` is a text, 1e-4 a number."""

import io
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter

__all__ = ["YAMLError", "dump", "dump_line", "parse"]


class _Constructor(SafeConstructor):
    """Plain values only; a date is a text, as no field is one."""


class _Representer(SafeRepresenter):
    """Texts come back as they were."""

    def text(self, text: str) -> ScalarNode:
        """U+0085 and its like are line breaks to YAML and come back as blanks: they are escaped."""
        style = None if text.isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)
_Representer.add_representer(str, _Representer.text)


def _yaml(flow: bool) -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor, yaml.Representer = _Constructor, _Representer
    yaml.default_flow_style, yaml.allow_unicode = flow, True
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    if flow:
        yaml.width = 10**6
    return yaml


def parse(text: str) -> Any:
    """The value that `text` means. Raises YAMLError, also for a key that is given twice."""
    return _yaml(flow=False).load(text)


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
