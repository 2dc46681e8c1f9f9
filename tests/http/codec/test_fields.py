from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prox.http.codec import fields
from prox.http.codec.errors import BadMessageError


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (b"", []),
        (b"a", [b"a"]),
        (b"A, b ,\tC", [b"a", b"b", b"c"]),
        (b",a,,b,", [b"a", b"b"]),
        (b" , \t", []),
    ],
)
def test_list_members(value: bytes, members: list[bytes]) -> None:
    assert fields.list_members(value) == members


@given(st.integers(min_value=0, max_value=10**18 - 1))
def test_lengths(number: int) -> None:
    assert fields.content_length(b" %d\t" % number) == number


@given(st.binary(max_size=6))
def test_whatever_is_not_digits_is_no_length(value: bytes) -> None:
    stripped = value.strip(b" \t")
    if stripped and not stripped.strip(b"0123456789"):
        assert fields.content_length(value) == int(stripped)
        return
    with pytest.raises(BadMessageError):
        fields.content_length(value)


@pytest.mark.parametrize(
    ("value", "legal"),
    [
        (b"", False),
        (b"a", True),
        (b"!#$%&'*+-.^_`|~9", True),
        (b"a b", False),
        (b"a:", False),
        (b"\xe9", False),
        (b"a\n", False),
    ],
)
def test_tokens(value: bytes, legal: bool) -> None:
    assert fields.is_token(value) is legal


def test_names_are_compared_without_case_and_with_underscores_as_dashes() -> None:
    assert fields.folded_name(b"X_User-ID") == b"x-user-id"


@pytest.mark.parametrize(
    "name",
    [
        b"Host",
        b"content-LENGTH",
        b"Transfer-Encoding",
        b"Connection",
        b"Expect",
        b"Upgrade",
        b"X-Forwarded-For",
        b"X-Forwarded-Host",
        b"X-Forwarded-Proto",
        b"Keep-Alive",
        b"Proxy-Connection",
        b"Proxy-Authenticate",
        b"Proxy-Authorization",
        b"TE",
        b"Trailer",
    ],
)
def test_special_names(name: bytes) -> None:
    for spelled in (name, name.lower(), name.upper()):
        assert fields.kind(spelled)


@pytest.mark.parametrize("name", [b"X", b"Cookie", b"Hosts", b"Forwarded", b"X-User_Id", b"Content-Type"])
def test_plain_names(name: bytes) -> None:
    assert not fields.kind(name)


def test_own_names_that_begin_with_an_underscore_are_taken_out() -> None:
    plain = b"\r\nA: b\r\n_who: me\r\n-WHO: me\r\nwho: c"
    assert fields.without(plain, frozenset({b"-who"})) == b"\r\nA: b\r\nwho: c"
