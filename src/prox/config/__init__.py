"""The configuration: its model, loading, checking, and the JSON Schema.

`load` reads a file or a folder, `parse` a Python mapping; both give the whole model with every name resolved,
or raise one `ConfigError` that holds all problems. The names below are imported when first used, so that a
package that needs only a grammar (`prox.config.patterns`) does not load the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .load import Loaded, load, parse
    from .problem import ConfigError, Problem
    from .schema import json_schema
    from .unbuilt import unbuilt

__all__ = ["ConfigError", "Loaded", "Problem", "json_schema", "load", "parse", "unbuilt"]

_HOMES = {
    "ConfigError": "problem",
    "Loaded": "load",
    "Problem": "problem",
    "json_schema": "schema",
    "load": "load",
    "parse": "load",
    "unbuilt": "unbuilt",
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
