from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prox.proxy.route import Route, Routed
from prox.proxy.templates import Template, compile_body, is_textual
from prox.routing import Match


def routed(path: str = "/", *, method: str = "GET", authority: bytes = b"a.test", **match: str) -> Routed:
    exchange = SimpleNamespace(method=method, authority=authority, target=SimpleNamespace(path=path))
    # A template looks at these facts alone, so no connection is needed.
    request = SimpleNamespace(exchange=exchange, match=Match(0, cast("Route", None), **match))
    return cast("Routed", request)


def render(body: str, request: Routed, content_type: str = "text/plain") -> str:
    compiled = compile_body(body.encode(), content_type)
    assert isinstance(compiled, Template)
    return compiled.render(request).decode()


@pytest.mark.parametrize(
    ("placeholder", "value"),
    [
        ("domain", "Api.Example.COM"),
        ("domain.pattern", "*.example.com"),
        ("match.domain", "api"),
        ("match.glob", "x.y"),
        ("match.path", "/v1/*"),
        ("path", "/v1/ü"),
        ("method", "PATCH"),
        ("host", "Api.Example.COM:8080"),
    ],
)
def test_each_placeholder(placeholder: str, value: str) -> None:
    request = routed(
        "/v1/ü",
        method="PATCH",
        authority=b"Api.Example.COM:8080",
        domain_pattern="*.example.com",
        match_domain="api",
        match_glob="x.y",
        match_path="/v1/*",
    )
    assert render(f"<{{{placeholder}}}>", request) == f"<{value}>"


@pytest.mark.parametrize(
    ("authority", "domain"),
    [
        (b"[::1]:80", "::1"),
        (b"[::1]", "::1"),
        (b"A.test.:80", "A.test"),
        (b"10.0.0.1:1", "10.0.0.1"),
        (b"", ""),
    ],
)
def test_domain_is_the_host_without_port(authority: bytes, domain: str) -> None:
    assert render("{domain}", routed(authority=authority)) == domain


def test_several_and_adjacent_placeholders() -> None:
    assert render("{method}{path} {method}", routed("/x")) == "GET/x GET"


@pytest.mark.parametrize(
    "body", ["", "plain", "{", "{}", "{ path }", "{paths}", "{Path}", "{match}", "{domain.x}", "a{b}c"]
)
def test_without_a_known_placeholder_the_body_stays_as_it_is(body: str) -> None:
    raw = body.encode()
    assert compile_body(raw, "text/html") is raw


def test_unknown_braces_stay_beside_known_ones() -> None:
    assert render('{"a": {x}, "p": "{path}"}', routed("/p"), "application/json") == '{"a": {x}, "p": "/p"}'


def test_values_are_not_templates_themselves() -> None:
    assert render("{path} {host}", routed("/{host}{path}")) == "/{host}{path} a.test"


def test_bytes_that_are_no_text_are_kept() -> None:
    compiled = compile_body(b"\xff\x00{path}\xfe", "text/plain")
    assert isinstance(compiled, Template)
    assert compiled.render(routed("/p")) == b"\xff\x00/p\xfe"


@pytest.mark.parametrize(
    "kind", ["text/html", "TEXT/HTML; charset=utf-8", "image/svg+xml", "application/xml", "", "nonsense"]
)
def test_markup_is_escaped(kind: str) -> None:
    shown = render('<a title="{path}">', routed("/<script>'\"&\\`"), kind)
    assert shown == '<a title="/&lt;script&gt;&#x27;&quot;&amp;&#92;&#96;">'


@pytest.mark.parametrize("kind", ["application/json", "application/problem+json; charset=utf-8"])
def test_json_is_escaped(kind: str) -> None:
    path = '/"\\\n<é>'
    assert json.loads(render('{"p": "{path}"}', routed(path), kind)) == {"p": path}


def test_scripts_are_escaped_for_every_quote() -> None:
    shown = render("f('{path}')", routed("/'\"`${x}</script>\u2028"), "text/javascript")
    assert shown == "f('/\\u0027\\\"\\u0060\\u0024{x}\\u003c/script\\u003e\\u2028')"


@pytest.mark.parametrize("kind", ["text/plain", "text/plain; charset=utf-8", "text/csv", "application/yaml"])
def test_plain_text_is_not_escaped(kind: str) -> None:
    assert render("{path}", routed("/<&'\""), kind) == "/<&'\""


@given(st.text())
def test_any_value_survives_json(value: str) -> None:
    body = render('["{path}"]', routed(value.encode(errors="replace").decode()), "application/json")
    assert json.loads(body) == [value.encode(errors="replace").decode()]


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_no_value_leaves_markup(value: str) -> None:
    shown = render("{path}", routed(value), "text/html")
    assert not set("<>\"'`\\") & set(shown)


@given(st.lists(st.sampled_from(["{path}", "{", "}", "{x}", "text", "{method}", "{match.path}"])))
def test_rendering_is_replacing(pieces: list[str]) -> None:
    body = "".join(pieces)
    compiled: Any = compile_body(body.encode(), "text/plain")
    shown = (
        compiled if isinstance(compiled, bytes) else compiled.render(routed("P", method="M", match_path="X"))
    )
    expected = body.replace("{path}", "P").replace("{method}", "M").replace("{match.path}", "X")
    assert shown.decode() == expected


@pytest.mark.parametrize(
    ("kind", "textual"),
    [
        ("text/plain", True),
        ("text/css; charset=utf-8", True),
        ("application/json", True),
        ("application/ld+json", True),
        ("image/svg+xml", True),
        ("application/yaml", True),
        ("image/png", False),
        ("application/octet-stream", False),
        ("application/zip", False),
        ("", False),
    ],
)
def test_which_files_are_templates(kind: str, textual: bool) -> None:
    assert is_textual(kind) is textual
