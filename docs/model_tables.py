"""A hook of MkDocs: fills the configuration page from the models, so that the page can't drift from them.

A line `<!-- keys: Route -->` becomes the table of the keys of `prox.config.model.Route`: type, default, meaning, and what of
it does not act in this version.
"""

# ruff: noqa: INP001 - a script beside the pages, loaded by MkDocs

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from prox.config import json_schema, model
from prox.config.unsupported import UNBUILT

MARKER = re.compile(r"^<!-- keys: (\w+) -->$", re.MULTILINE)

Schema = dict[str, Any]

_BOUNDS = (("minimum", "at least"), ("exclusiveMinimum", "above"), ("maximum", "at most"))

_MODELS_IN_WORDS = {
    "PluginRef": "a reference",
    "Plugin": "a plugin",
    "Resource": "a resource",
    "Route": "a route",
    "Service": "a service",
}


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by MkDocs with the text of each page."""
    if "<!-- keys:" not in markdown:
        return markdown
    return MARKER.sub(lambda found: table(found[1]), markdown)


def table(name: str) -> str:
    """The keys of one model as a table in Markdown."""
    schema = _schema()
    of = schema if name == "Config" else schema["$defs"][name]
    required = set(of.get("required", ()))
    properties = {key: value for key, value in of["properties"].items() if key != "$schema"}
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key, value in properties.items():
        default = "required" if key in required else _default(value)
        meaning = " ".join(part for part in (_sentence(value), _standing(name, key)) if part)
        lines.append(f"| `{key}` | {_type(value)} | {default} | {_cell(meaning)} |")
    return "\n".join(lines)


@cache
def _schema() -> Schema:
    return json_schema()


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|")


def _sentence(value: Schema) -> str:
    text: str = value.get("description", "")
    if not text and "const" in value:
        return "What the action does."
    return re.sub(r"\bNone\b", "not given", text)


def _standing(name: str, key: str) -> str:
    """What this version does not do with a key."""
    row = UNBUILT.get(getattr(model, name), {}).get(key)
    if row is None or not row.ever:
        return ""
    if row.severity == "error":
        return "**Not built yet: `prox serve` refuses it.**"
    return "**Not built yet: accepted, without effect.**"


def _default(value: Schema) -> str:
    if "default" not in value:
        return "none"
    default = value["default"]
    if default is None or default in ([], ""):
        return "none"
    if isinstance(default, dict):
        return "see below"
    if _is_duration(value):
        return f"`{_duration(default)}`"
    return f"`{json.dumps(default)}`"


def _duration(seconds: float) -> str:
    return f'"{seconds:g}s"' if seconds else "0"


def _is_duration(value: Schema) -> bool:
    return any("pattern" in option for option in value.get("anyOf", ()))


def _type(value: Schema) -> str:
    if "enum" in value:
        return " or ".join(f"`{json.dumps(option)}`" for option in value["enum"])
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    if "$ref" in value:
        return _link(value["$ref"])
    if _is_duration(value):
        return "[duration](#durations)"
    options = value.get("anyOf") or value.get("oneOf")
    if options:
        return _either([option for option in options if option.get("type") != "null"])
    kind = value.get("type")
    if kind == "array":
        return f"list of: {_type(value['items'])}"
    if kind == "object":
        members = value.get("additionalProperties")
        return f"object; each value: {_type(members)}" if isinstance(members, dict) else "object"
    if kind in {"integer", "number"}:
        bounds = [f"{word} {value[bound]}" for bound, word in _BOUNDS if bound in value and value[bound] != 0]
        return ", ".join(["number" if kind == "number" else "whole number", *bounds])
    return {"string": "text", "boolean": "true or false", None: "anything"}[kind]


def _either(options: list[Schema]) -> str:
    if any(option.get("description") == "Name of an action." for option in options) or any(
        "DropAction" in option.get("$ref", "") for option in options
    ):
        return "[action](#actions) or its name" if len(options) == 2 else "[action](#actions)"
    if any(option.get("description") == "Name of a resource." for option in options):
        return "[resource](#resources) or its name"
    return " or ".join(dict.fromkeys(_type(option) for option in options))


def _link(reference: str) -> str:
    name = reference.rpartition("/")[2]
    return f"[{_MODELS_IN_WORDS.get(name, 'object')}](#{_ANCHORS[name]})"


_ANCHORS = {
    "Acme": "acme",
    "AcmeDns": "acme",
    "AcmeS3": "acme",
    "Admin": "admin",
    "Balancer": "balancer",
    "Health": "proxy",
    "Logging": "logging",
    "Match": "match",
    "OnError": "on_error",
    "Plugin": "plugins",
    "PluginLimits": "limits-of-a-plugin",
    "PluginRef": "plugin-references",
    "Resource": "resources",
    "Route": "routes",
    "Runtime": "runtime",
    "Service": "services",
    "Speed": "speed",
    "Tuning": "config-of-a-service",
    "UpstreamTls": "proxy",
}
