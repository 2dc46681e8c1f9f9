"""What the package itself promises: lazy names, nothing heavier than needed, purity of the model."""

from __future__ import annotations

import subprocess
import sys

import pytest

import prox.config


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.parametrize("name", prox.config.__all__)
def test_public_names_are_there_in_any_order_of_imports(name: str) -> None:
    code = f"import prox.config.loading, prox.config.schema, prox.config; print(prox.config.{name}.__name__)"
    assert run(code) == name


def test_grammars_do_not_load_the_model() -> None:
    code = "import sys, prox.config.patterns, prox.config.upstreams; print('pydantic' in sys.modules)"
    assert run(code) == "False"


def test_loading_needs_no_event_loop() -> None:
    code = (
        "import sys, prox.config; prox.config.load; print('asyncio' in sys.modules or 'rich' in sys.modules)"
    )
    assert run(code) == "False"


def test_other_names_are_no_attributes() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = prox.config.nothing  # type: ignore[attr-defined] # what must not work
