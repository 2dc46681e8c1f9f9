"""The JSON Schema of configurations, for editors: made from the models, described by their docstrings."""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel

from . import model
from .assemble import NAMED
from .model import Config, Model

Part = Literal["config", "service", "routes"]


def json_schema(part: Part = "config") -> dict[str, Any]:
    """The schema of a whole configuration, of a service file, or of a file of routes."""
    schema = Config.model_json_schema(by_alias=True)
    definitions: dict[str, Any] = schema["$defs"]
    for name, definition in definitions.items():
        _describe(getattr(model, name), definition)
    _describe(Config, schema)
    schema["properties"]["$schema"] = {"type": "string"}
    path = {"type": "string", "description": "Path of a file, relative to this one."}
    definitions["Service"]["properties"]["routes"]["items"] = {"anyOf": [path, {"$ref": "#/$defs/Route"}]}
    schema["properties"]["services"]["additionalProperties"] = {
        "anyOf": [
            {"type": "string", "description": "Path of a service file, or of a folder of them."},
            {"$ref": "#/$defs/Service"},
        ]
    }
    if part == "config":
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "prox",
            **_without_title(schema),
        }
    routes = definitions["Service"]["properties"]["routes"]
    if part == "routes":
        body: dict[str, Any] = {
            "anyOf": [
                {"type": "array", "items": routes["items"]},
                {"type": "object", "properties": {"routes": routes, "$schema": {"type": "string"}}},
            ]
        }
    else:
        service = definitions["Service"]
        properties = dict(service["properties"])
        properties["service_plugins"] = properties.pop("plugins")
        properties |= {kind: schema["properties"][kind] for kind in NAMED}
        body = {**service, "properties": {**properties, "$schema": {"type": "string"}}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **body,
        "title": f"prox {part}",
        "$defs": definitions,
    }


def _without_title(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "title"}


def _describe(of: type[Model], definition: dict[str, Any]) -> None:
    definition.pop("title", None)
    definition["description"] = inspect.cleandoc(of.__doc__ or "")
    texts: dict[str, str] = {}
    for ancestor in reversed(of.__mro__):
        if issubclass(ancestor, BaseModel) and ancestor.__module__.startswith(model.__name__):
            texts |= _docstrings(ancestor.__module__).get(ancestor.__name__, {})
    for name, field in of.model_fields.items():
        key = str(field.validation_alias or name)
        if key in definition.get("properties", {}):
            definition["properties"][key].pop("title", None)
            definition["properties"][key]["description"] = texts.get(name, "")


@cache
def _docstrings(module: str) -> dict[str, dict[str, str]]:
    """The docstrings below the fields of a module's classes."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(sys.modules[module])).body:
        if not isinstance(node, ast.ClassDef):
            continue
        texts = found[node.name] = {}
        for field, text in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            ):
                texts[field.target.id] = inspect.cleandoc(text.value.value)
    return found
