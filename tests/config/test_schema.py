"""The JSON Schema describes what the loader takes: checked with a small validator of what the schema uses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyjson5
import pytest

from prox.config import json_schema

GOLDEN = Path(__file__).parent / "golden"
KNOWN = {
    *("$defs", "$ref", "$schema", "title", "description", "default", "examples"),
    *("type", "anyOf", "oneOf", "enum", "const", "properties", "required", "additionalProperties", "items"),
    *("minimum", "maximum", "exclusiveMaximum", "pattern", "propertyNames"),
}
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def valid(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    assert schema.keys() <= KNOWN, schema.keys() - KNOWN
    if "$ref" in schema:
        return valid(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema and not any(valid(value, one, root) for one in schema["anyOf"]):
        return False
    if "oneOf" in schema and sum(valid(value, one, root) for one in schema["oneOf"]) != 1:
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if "type" in schema:
        is_type = isinstance(value, TYPES[schema["type"]])
        if not is_type or (isinstance(value, bool) and schema["type"] in {"integer", "number"}):
            return False
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        return False
    if isinstance(value, int | float):
        return bool(
            value >= schema.get("minimum", value)
            and value <= schema.get("maximum", value)
            and value < schema.get("exclusiveMaximum", value + 1)
        )
    if isinstance(value, list) and "items" in schema:
        return all(valid(member, schema["items"], root) for member in value)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        other = schema.get("additionalProperties", True)
        return all(key in value for key in schema.get("required", ())) and all(
            valid(member, properties[key], root)
            if key in properties
            else (other if isinstance(other, bool) else valid(member, other, root))
            for key, member in value.items()
        )
    return True


def read(path: str) -> Any:
    return pyjson5.decode((GOLDEN / path).read_text())


@pytest.mark.parametrize(
    ("part", "path"),
    [
        ("config", "fine/config.json5"),
        ("service", "fine/sites/web.json5"),
        ("routes", "fine/parts/routes.json5"),
        ("routes", "cycles/more.json5"),
        ("service", "cycles/web.json5"),
        ("config", "cycles/config.json5"),
        ("config", "balancers.json5"),
    ],
)
def test_what_is_well_formed_fits(part: Any, path: str) -> None:
    schema = json_schema(part)
    document = read(path)
    if path == "balancers.json5":
        document["services"]["web"]["routes"][8]["balancer"]["targets"].remove(5)
    assert valid(document, schema, schema)


@pytest.mark.parametrize(
    "path",
    [
        "keys_mistyped",
        "wrong_kinds",
        "root_keys",
        "root_is_a_list",
        "sections_of_the_wrong_kind",
        "admin",
        "plugins",
    ],
)
def test_what_is_mistyped_does_not_fit(path: str) -> None:
    schema = json_schema()
    assert not valid(read(f"{path}.json5"), schema, schema)


@pytest.mark.parametrize(
    ("action", "fits"),
    [
        ("web", True),
        (
            {"type": "proxy", "upstream": "a:1", "fallback": {"type": "static", "body_ref": {"text": "x"}}},
            True,
        ),
        (
            {
                "type": "proxy",
                "upstream": "a:1",
                "timeout": "1m30s",
                "plugins": ["a", {"name": "b", "on_error": "deny"}],
            },
            True,
        ),
        ({"type": "proxy", "upstream": "a:1", "timeout": "soon"}, False),
        ({"type": "proxi", "upstream": "a:1"}, False),
        ({"type": "drop", "name": "x"}, False),
        ({"type": "proxy", "upstream": "a:1", "plugins": [{"on_error": "deny"}]}, False),
    ],
)
def test_actions(action: object, fits: bool) -> None:
    schema = json_schema("routes")
    assert valid([{"action": action}], schema, schema) is fits


@pytest.mark.parametrize("part", ["config", "service", "routes"])
def test_everything_is_described(part: Any) -> None:
    schema = json_schema(part)
    assert schema["$schema"].startswith("https://json-schema.org/")
    for name, definition in schema["$defs"].items():
        assert definition["description"], name
        for key, value in definition.get("properties", {}).items():
            assert value.get("description") or key in {"type", "$schema"}, f"{name}.{key}"


def test_a_service_file_has_its_own_definitions() -> None:
    properties = json_schema("service")["properties"]
    assert {"service_plugins", "plugins", "actions", "resources", "routes", "listen"} <= properties.keys()
    assert properties["plugins"]["type"] == "object"
    assert properties["service_plugins"]["type"] == "array"
