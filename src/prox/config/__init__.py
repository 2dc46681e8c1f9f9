"""The configuration: its model, loading, checking, and the JSON Schema.

`load` reads a file or a folder, `parse` a Python mapping; both give the whole model with every name resolved,
or raise one `ConfigError` that holds all problems. The names below are imported when first used, so that a
package that needs only a grammar (`prox.config.patterns`) does not load the model. No module here may be called
like one of these names: it would take the name's place in this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .loading import Loaded, load, parse
    from .problem import ConfigError, Problem
    from .schema import json_schema
    from .unsupported import Finding, unbuilt

__all__ = ["ConfigError", "Finding", "Loaded", "Problem", "json_schema", "load", "parse", "unbuilt"]

_HOMES = {
    "ConfigError": "problem",
    "Finding": "unsupported",
    "Loaded": "loading",
    "Problem": "problem",
    "json_schema": "schema",
    "load": "loading",
    "parse": "loading",
    "unbuilt": "unsupported",
}

if not TYPE_CHECKING:  # so that a mistyped name stays an error to type checkers

    def __getattr__(name: str) -> object:
        from importlib import import_module

        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{home}"), name)
        globals()[name] = value
        return value
