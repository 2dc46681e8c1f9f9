from __future__ import annotations

import pytest

from prox.config.invalid import InvalidError
from prox.config.upstreams import (
    check_l4_upstream,
    check_name,
    check_upstream,
    is_plain,
    parse_upstream,
    render,
    template_names,
)


@pytest.mark.parametrize(
    ("text", "upstream"),
    [
        ("localhost:3000", (False, "localhost", 3000, "")),
        ("[::1]:3000", (False, "::1", 3000, "")),
        ("http://web", (False, "web", 80, "")),
        ("https://web", (True, "web", 443, "")),
        ("ws://web/", (False, "web", 80, "")),
        ("wss://web:8443/a/b/", (True, "web", 8443, "/a/b")),
        ("http://web/a%20b", (False, "web", 80, "/a%20b")),
    ],
)
def test_upstreams(text: str, upstream: tuple[bool, str, int, str]) -> None:
    assert parse_upstream(text) == upstream


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "is empty", ""),
        ("web", "port is missing", 'did you mean "http://web"?'),
        ("web:80/a", "path but no scheme", 'did you mean "http://web:80/a"?'),
        ("ftp://web", 'unknown scheme "ftp"', "schemes: http"),
        ("http://", "has no host", ""),
        ("http:///a", "has no host", ""),
        ("http://u:p@web", "no user name", "Authorization"),
        ("http://web/a?b", "query", ""),
        ("http://web/a b", "characters", "percent-encode"),
        ("http://web/ä", "characters", "percent-encode"),
        ("http://web:0", "no port number", ""),
        ("http://{target/a", "brace", ""),
        ("http://{}/a", "no name", ""),
        ("http://{a b}/a", "no name", ""),
        ("http://{target} /a", "blanks", ""),
    ],
)
def test_bad_upstreams_say_why(text: str, message: str, hint: str) -> None:
    with pytest.raises(InvalidError) as caught:
        check_upstream(text)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_templates() -> None:
    assert check_upstream("http://{target}/{zone}/x") == "http://{target}/{zone}/x"
    assert template_names("http://{target}/{zone}/x") == ("target", "zone")
    assert render("http://{target}/{zone}/{x}", {"target": "a:1", "zone": "eu"}) == "http://a:1/eu/{x}"


def test_a_passed_connection_has_no_url() -> None:
    assert check_l4_upstream("{target}") == "{target}"
    for text in ("https://web:443", "web:443/a"):
        with pytest.raises(InvalidError, match="goes to"):
            check_l4_upstream(text)


@pytest.mark.parametrize("name", ["", "1a", "a b", "a}", "target"])
def test_bad_names_of_variables(name: str) -> None:
    with pytest.raises(InvalidError):
        check_name(name)


@pytest.mark.parametrize(
    ("template", "plain"),
    [
        ("web:80", True),
        ("http://{target}", True),
        ("ws://web", True),
        ("{target}", False),
        ("https://web", False),
        ("{scheme}://web", False),
    ],
)
def test_is_plain(template: str, plain: bool) -> None:
    assert is_plain(template) is plain
