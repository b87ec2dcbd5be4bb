"""The JSON schema says what the declarations of the fields say, no more and no less."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config, dialect, fields
from pipeline.config.json_schema import json_schema
from pipeline.data.augment.recipes import RECIPES

CONFIGS = Path(__file__).parents[3] / "jobs" / "configs"
SCHEMA = json_schema()


def field_schema(name: str) -> dict[str, Any]:
    """What the schema says of a field, by its dotted name."""
    section, _, field = name.rpartition(".")
    part = SCHEMA
    if section:
        reference, null = SCHEMA["properties"][section]["anyOf"]
        assert null == {"type": "null"}  # a section whose every field is commented out
        part = SCHEMA["$defs"][reference["$ref"].removeprefix("#/$defs/")]
    found: dict[str, Any] = part["properties"][field]
    return found


def test_every_field_is_there_with_its_text_and_its_default() -> None:
    names = {field.name for field in fields()}
    sections = {name.partition(".")[0] for name in names if "." in name}
    assert SCHEMA["properties"].keys() == sections | {name for name in names if "." not in name}
    for field in fields():
        schema = field_schema(field.name)
        assert schema["description"] == field.description
        if field.name == "data.resolution":  # the recipe's, so none of its own
            assert "default" not in schema
        else:
            assert schema["default"] == dialect.parse(field.default)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("data.test_share", {"exclusiveMinimum": 0, "exclusiveMaximum": 1, "type": "number"}),
        ("data.resolution", {"minimum": 8, "maximum": 4096, "type": "integer"}),
        ("supernet.nesterov", {"type": "boolean"}),
        ("supernet.freeze", {"type": "array"}),
    ],
)
def test_types_and_bounds_are_those_of_the_fields(name: str, expected: dict[str, Any]) -> None:
    schema = field_schema(name)
    assert {key: schema[key] for key in expected} == expected


def test_a_field_that_may_be_null_or_a_target_says_so() -> None:
    kinds = [part["type"] for part in field_schema("gate.target")["anyOf"]]
    assert kinds == ["number", "string", "null"]
    kinds = [part["type"] for part in field_schema("supernet.from")["anyOf"]]
    assert kinds == ["string", "null"]


def test_a_recipe_is_a_name_or_a_mapping() -> None:
    name, mapping = field_schema("data.recipe")["oneOf"]
    assert sorted(name["enum"]) == sorted(RECIPES)
    own = SCHEMA["$defs"][mapping["$ref"].removeprefix("#/$defs/")]
    assert own["required"] == ["base"] and own["properties"]["color_jitter"]["maximum"] == 1
    assert not any("default" in field for field in own["properties"].values())  # the base's


def test_unknown_fields_are_refused_in_every_section() -> None:
    parts = [SCHEMA, *SCHEMA["$defs"].values()]
    assert all(part["additionalProperties"] is False for part in parts)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_configurations_here_name_fields_that_it_knows(path: Path) -> None:
    for section, values in dialect.parse(path.read_text()).items():
        for name in values if isinstance(values, dict) and section != "task" else ():
            assert field_schema(f"{section}.{name}")
        assert section in SCHEMA["properties"]


def test_every_section_is_that_of_the_configuration() -> None:
    # The settings of a task, which are its own to say, are no section.
    sections = sum(isinstance(value, dict) for value in Config().as_dict().values()) - 1
    assert len(SCHEMA["$defs"].keys() - {"OwnRecipe", "RandAugment"}) == sections
