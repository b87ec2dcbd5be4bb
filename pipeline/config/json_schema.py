"""The configuration's JSON schema, for editors: from the same declarations as flags and help."""

from typing import Any

from pipeline.config.schema import Config

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Every field with its text, type, bounds and default, as a JSON schema (draft 2020-12).

    What it accepts `load_config` accepts too, but for what fields ask of each other, and names
    that only a plugin knows.
    """
    schema = Config.model_json_schema(by_alias=True)
    sections = schema.pop("$defs")
    for part in (schema, *sections.values()):
        _describe(part)
    for name, field in schema["properties"].items():
        if "$ref" in field:  # a section, which may be empty: null in YAML
            section = sections[field["$ref"].removeprefix("#/$defs/")]
            schema["properties"][name] = {
                "description": section["description"],
                "anyOf": [{"$ref": field["$ref"]}, {"type": "null"}],
            }
    return {"$schema": DIALECT, "title": "A configuration of dsnet", **schema, "$defs": sections}


def _describe(part: dict[str, Any]) -> None:
    """Texts on one line each, and no titles, which say a field's name again."""
    part.pop("title", None)
    part["description"] = " ".join(part["description"].split())
    for field in part["properties"].values():
        field.pop("title", None)
        if "description" in field:
            field["description"] = " ".join(field["description"].split())
