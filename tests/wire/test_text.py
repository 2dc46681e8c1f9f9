"""Text for frames: every byte sequence can be shown, and none of them stops a request from being encoded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prox.wire import HookType, RequestInfo, decode_path, decode_text, marshal_envelope


@pytest.mark.parametrize(
    ("raw", "text"),
    [(b"plain", "plain"), ("Jürgen".encode(), "Jürgen"), (b"J\xfcrgen", "Jürgen"), (b"\xff", "ÿ")],
)
def test_utf8_or_latin1(raw: bytes, text: str) -> None:
    assert decode_text(raw) == text


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/w/a%20b", "/w/a b"),
        (b"/a%2Fb%25", "/a/b%"),
        (b"/%zz/%4", "/%zz/%4"),
        (b"/%C3%BC", "/ü"),
        (b"/%FC", "/ü"),
        (b"/+", "/+"),
        (b"/%e2%82%ac/%ff", "/â\x82¬/ÿ"),
    ],
)
def test_paths_lose_their_valid_escapes(raw: bytes, path: str) -> None:
    assert decode_path(raw) == path


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_of_a_client_can_be_framed(path: bytes, value: bytes) -> None:
    request = RequestInfo(
        route_id="",
        method="GET",
        path=decode_path(path),
        domain="",
        remote_addr="",
        headers={"X": decode_text(value)},
    )
    assert marshal_envelope(HookType.ON_REQUEST, request)
