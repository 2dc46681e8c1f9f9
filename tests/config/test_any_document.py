"""Whatever a document holds, loading ends with a configuration or with problems that can be shown."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pyjson5
from hypothesis import given
from hypothesis import strategies as st

from prox.config import ConfigError, model, parse, unbuilt
from prox.config.explain import keys_of

GOLDEN = Path(__file__).parent / "golden"
MODELS = [getattr(model, name) for name in model.__all__ if isinstance(getattr(model, name), type)]
KEYS = sorted(
    {key for one in MODELS if issubclass(one, model.Model) for key in keys_of(one)} | {"service_plugins"}
)
SCALARS = st.sampled_from(
    [
        *(
            None,
            True,
            False,
            0,
            1,
            -1,
            2**70,
            0.5,
            float("nan"),
            float("inf"),
            "",
            "\0",
            "a",
            "a:1",
            "http://{target}",
        ),
        *(
            "{x}",
            ":8080",
            "unix:///a",
            "5s",
            "*.example.com",
            "/api/*",
            "proxy",
            "static",
            "serve",
            "pass",
            "drop",
        ),
        *("deny", "off", "GET", "10.0.0.0/8", "\ud800", "é", "x" * 300),
    ]
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | SCALARS.map(str), inner, max_size=4)
    ),
    max_leaves=8,
)
DOCUMENTS = [
    pyjson5.decode((GOLDEN / f"{name}.json5").read_text())
    for name in ("balancers", "keys_mistyped", "plugins", "acme", "templates", "pass", "fallback_circle")
]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every member of every object and list, as container and key."""
    found: list[tuple[Any, Any]] = []
    members = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, member in members:
        found += [(value, key), *places(member)]
    return found


def load_anything(document: Any) -> None:
    with contextlib.suppress(ConfigError):
        loaded = parse(document, GOLDEN)
        assert {problem.path for problem in unbuilt(loaded.config)} == {
            problem.path for problem in loaded.unbuilt()
        }


@given(st.data())
def test_documents_with_a_member_replaced(data: st.DataObject) -> None:
    document = pyjson5.decode(pyjson5.encode(data.draw(st.sampled_from(DOCUMENTS))))
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(places(document)))
        with contextlib.suppress(KeyError, IndexError):  # an earlier replacement took it out
            container[key] = data.draw(ANYTHING)
    load_anything(document)


@given(
    st.dictionaries(
        st.sampled_from(["services", "plugins", "actions", "resources", "admin", "runtime"]), ANYTHING
    )
)
def test_documents_of_known_keys(document: dict[str, Any]) -> None:
    load_anything(document)
