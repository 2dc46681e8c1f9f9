from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prox.config.invalid import InvalidError
from prox.config.patterns import METHODS, check_method, split_domain, split_paths


@pytest.mark.parametrize(
    ("pattern", "labels"),
    [
        ("example.com", ("example", "com")),
        ("Example.COM", ("example", "com")),
        ("*.example.com", ("*", "example", "com")),
        ("pre-*.example.com", ("pre-*", "example", "com")),
        ("*-suf.example.com", ("*-suf", "example", "com")),
        ("a-*-b.example.com", ("a-*-b", "example", "com")),
        ("api.**", ("api", "**")),
        ("*.**", ("*", "**")),
        ("127.0.0.1", ("127", "0", "0", "1")),
        ("_dmarc.xn--bcher-kva.de", ("_dmarc", "xn--bcher-kva", "de")),
    ],
)
def test_domain_patterns_are_split_into_labels(pattern: str, labels: tuple[str, ...]) -> None:
    assert split_domain(pattern) == labels


@pytest.mark.parametrize(
    ("pattern", "message", "hint"),
    [
        ("", "a domain is empty", "leave it out"),
        ("localhost", "at least two labels", ""),
        ("*", "at least two labels", ""),
        ("**", "at least two labels", ""),
        ("**.example.com", "only be the last label", ""),
        ("a.**.com", "only be the last label", ""),
        ("*a*.example.com", 'may hold one "*"', ""),
        ("a**.example.com", 'may hold one "*"', "must stand alone"),
        ("***.example.com", 'may hold one "*"', ""),
        ("a..com", "empty label", ""),
        (".example.com", "empty label", ""),
        ("example.com.", "empty label", ""),
        ("http://example.com", "is no domain pattern", "without a scheme"),
        ("example.com:80", "is no domain pattern", "port"),
        ("example.com/a", "is no domain pattern", "match.path"),
        ("a.com, b.com", "is no domain pattern", "a route for each"),
        ("bücher.de", "is no domain pattern", "xn--bcher-kva.de"),
        ("exam ple.com", "is no domain pattern", ""),
        ("x" * 64 + ".com", "at most 63", ""),
    ],
)
def test_bad_domain_patterns_say_why(pattern: str, message: str, hint: str) -> None:
    with pytest.raises(InvalidError) as caught:
        split_domain(pattern)
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("/", ("/",)),
        ("/*", ("/*",)),
        ("/api/*", ("/api/*",)),
        ("/a, /b/* ,/c d", ("/a", "/b/*", "/c d")),
        ("/höhe", ("/höhe",)),
    ],
)
def test_path_patterns_are_split_at_commas(pattern: str, paths: tuple[str, ...]) -> None:
    assert split_paths(pattern) == paths


@pytest.mark.parametrize(
    ("pattern", "message", "hint"),
    [
        ("", "is empty", "leave it out"),
        ("/a,,/b", "has an empty path", ""),
        ("/a,", "has an empty path", ""),
        ("api", 'begins with "/"', 'did you mean "/api"?'),
        ("*", 'begins with "/"', ""),
        ("/api*", "may only stand at the end", '"/api/*" matches'),
        ("/*/b", "may only stand at the end", ""),
        ("/a/**", "may only stand at the end", '"/a/*" matches'),
        ("/a?x=1", "is no path", "query"),
        ("/a#b", "is no path", ""),
        ("/a\nb", "control character", ""),
    ],
)
def test_bad_path_patterns_say_why(pattern: str, message: str, hint: str) -> None:
    with pytest.raises(InvalidError) as caught:
        split_paths(pattern)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_methods_are_known_in_any_case() -> None:
    assert check_method("get") == "GET"
    assert check_method("Version-Control") == "VERSION-CONTROL"
    assert "PRI" not in METHODS
    with pytest.raises(InvalidError) as caught:
        check_method("GTE")
    assert caught.value.hint == 'did you mean "GET"?'


@given(st.text(max_size=20))
def test_any_text_is_a_pattern_or_invalid(text: str) -> None:
    for check in (split_domain, split_paths):
        with contextlib.suppress(InvalidError):
            assert all(check(text))
