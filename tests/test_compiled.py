"""The list of compiled modules, and that a compiled prox is compiled."""

from __future__ import annotations

import ast
import importlib
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MODULES: list[str] = SETTINGS["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["modules"]


def test_every_module_of_the_list_is_there_once_and_in_order() -> None:
    assert sorted(set(MODULES)) == MODULES
    assert [name for name in MODULES if not (ROOT / "src/prox" / name).is_file()] == []


def test_all_are_compiled_or_none() -> None:
    names = ["prox." + name.removesuffix(".py").replace("/", ".") for name in MODULES]
    compiled = [name for name in names if not str(importlib.import_module(name).__file__).endswith(".py")]
    assert compiled in ([], names)


def test_no_compiled_coroutine_waits_inside_except() -> None:
    """mypyc leaves the exception behind as the one that is being handled, for whatever runs meanwhile."""
    waits = [
        f"{name}:{inner.lineno}"
        for name in MODULES
        for node in ast.walk(ast.parse((ROOT / "src/prox" / name).read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Await)
    ]
    assert waits == []
