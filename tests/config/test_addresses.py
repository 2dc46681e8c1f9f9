from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prox.config.addresses import ListenAddress, check_target, parse_listen
from prox.config.invalid import InvalidError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":8080", ("tcp", "", 8080, "")),
        ("127.0.0.1:0", ("tcp", "127.0.0.1", 0, "")),
        ("[::]:443", ("tcp", "::", 443, "")),
        ("[0:0::1]:443", ("tcp", "::1", 443, "")),
        ("LocalHost:80", ("tcp", "localhost", 80, "")),
        ("unix:///run/prox.sock", ("unix", "", 0, "/run/prox.sock")),
    ],
)
def test_listen_addresses(text: str, address: tuple[str, str, int, str]) -> None:
    parsed = parse_listen(text)
    assert parsed == address
    assert parse_listen(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("8080", "is no listen address", 'did you mean ":8080"?'),
        ("localhost", "port is missing", ""),
        ("localhost:", "port is missing", ""),
        ("[::1]", "port is missing", ""),
        ("::1:80", "is no host", 'brackets: "[::1]"'),
        ("[::g]:80", "no IPv6 address", ""),
        (":65536", "no port number", ""),
        (":http", "no port number", ""),
        (":-1", "no port number", ""),
        ("256.0.0.1:80", "no IPv4 address", ""),
        ("a b:80", "no host name", ""),
        ("http://localhost:80", "is no listen address", '":port"'),
        ("unix://run/x", "is no unix address", "unix:///"),
        ("unix:/run/x", "is no unix address", "unix:///"),
        ("unix:///run/", "is no unix address", ""),
        ("unix:///" + "x" * 107, "at most 107 bytes", ""),
        ("", "port is missing", ""),
    ],
)
def test_bad_listen_addresses_say_why(text: str, message: str, hint: str) -> None:
    with pytest.raises(InvalidError) as caught:
        parse_listen(text)
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (":80", ":80", True),
        (":80", ":81", False),
        (":80", "127.0.0.1:80", True),
        (":80", "[::1]:80", True),
        ("0.0.0.0:80", "127.0.0.1:80", True),
        ("0.0.0.0:80", "[::1]:80", False),
        ("0.0.0.0:80", "[::]:80", False),
        ("127.0.0.1:80", "127.0.0.2:80", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
        ("unix:///a", "unix:///a", True),
        ("unix:///a", "unix:///b", False),
        ("unix:///a", ":80", False),
    ],
)
def test_addresses_that_collide(one: str, other: str, overlap: bool) -> None:
    assert parse_listen(one).overlaps(parse_listen(other)) is overlap
    assert parse_listen(other).overlaps(parse_listen(one)) is overlap


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:///a", True),
        (":1", False),
        ("0.0.0.0:1", False),
        ("10.0.0.1:1", False),
        ("example.com:1", False),
    ],
)
def test_loopback(text: str, loopback: bool) -> None:
    assert parse_listen(text).is_loopback is loopback


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1:80",
        "web:80",
        "web",
        "[::1]:80",
        "[::1]",
        "http://a:1",
        "https://a",
        "wss://[::1]:1",
        "a_b:1",
    ],
)
def test_targets(address: str) -> None:
    assert check_target(address) == address


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("", "is empty"),
        (":80", "host is missing"),
        ("a:0", "no port number"),
        ("a:", "port is missing"),
        ("a:99999", "no port number"),
        ("::1:80", "is no address"),
        ("[::1]80", "is no address"),
        ("[::1:80", '"]" is missing'),
        ("ftp://a:1", 'unknown scheme "ftp"'),
        ("http://", "host is missing"),
        ("http://a:1/x", "has a path"),
        ("a b:1", "no host name"),
        ("user@a:1", "no host name"),
        ("1.2.3:80", "no IPv4 address"),
        ("a\r\nb:1", "no host name"),
        ("a:\uff11", "no port number"),
    ],
)
def test_bad_targets_say_why(address: str, message: str) -> None:
    with pytest.raises(InvalidError) as caught:
        check_target(address)
    assert message in caught.value.message


@given(st.text(max_size=30) | st.from_regex(r"(https?://)?[a-z0-9.\[\]:-]{0,20}"))
def test_any_text_is_an_address_or_invalid(text: str) -> None:
    for check in (parse_listen, check_target):
        with contextlib.suppress(InvalidError):
            assert isinstance(check(text), ListenAddress | str)
