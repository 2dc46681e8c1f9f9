from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prox.http.codec.errors import BadMessageError
from prox.http.codec.target import decode_path, encode_path, parse_target, split_host


@pytest.mark.parametrize(
    ("method", "target", "raw", "path", "query", "authority"),
    [
        ("GET", b"/", b"/", "/", None, None),
        ("GET", b"/a?b=c?d", b"/a?b=c?d", "/a", b"b=c?d", None),
        ("GET", b"/a?", b"/a?", "/a", b"", None),
        ("GET", b"/a%2Fb;c=d", b"/a%2Fb;c=d", "/a/b;c=d", None, None),
        ("GET", b"/%C3%A9", b"/%C3%A9", "/é", None, None),
        ("GET", b"/%E9", b"/%E9", "/é", None, None),
        ("GET", b"/%zz%4", b"/%zz%4", "/%zz%4", None, None),
        ("GET", b"/%252e", b"/%252e", "/%2e", None, None),
        ("GET", b"//a", b"//a", "//a", None, None),
        ("OPTIONS", b"*", b"*", "*", None, None),
        ("OPTIONS", b"http://h", b"*", "*", None, b"h"),
        ("OPTIONS", b"http://h?q", b"/?q", "/", b"q", b"h"),
        ("OPTIONS", b"http://h/", b"/", "/", None, b"h"),
        ("GET", b"http://h", b"/", "/", None, b"h"),
        ("GET", b"http://h?q", b"/?q", "/", b"q", b"h"),
        ("GET", b"HTTP://H:80/a?b", b"/a?b", "/a", b"b", b"H:80"),
        ("GET", b"https://[::1]:8/x", b"/x", "/x", None, b"[::1]:8"),
        ("CONNECT", b"h:443", b"h:443", "", None, b"h:443"),
        ("CONNECT", b"[::1]:1", b"[::1]:1", "", None, b"[::1]:1"),
    ],
)
def test_targets(
    method: str, target: bytes, raw: bytes, path: str, query: bytes | None, authority: bytes | None
) -> None:
    parsed = parse_target(method, target)
    assert (parsed.raw, parsed.path, parsed.query, parsed.authority) == (raw, path, query, authority)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", b"*"),
        ("GET", b"a"),
        ("GET", b"a/b"),
        ("GET", b"?a"),
        ("GET", b"h:443"),
        ("GET", b"http://"),
        ("GET", b"http:///a"),
        ("GET", b"http://:80/"),
        ("GET", b"http:/a"),
        ("GET", b"http://u@h/"),
        ("GET", b"http://u:p@h/"),
        ("GET", b"http://h:x/"),
        ("GET", b"http://h:123456/"),
        ("GET", b"http://[::1/"),
        ("GET", b"http://a%2eb/"),
        ("GET", b"http://a\\b/"),
        ("GET", b"ftp://h/"),
        ("GET", b"file:///etc/passwd"),
        ("GET", b"javascript://h/"),
        ("CONNECT", b"h"),
        ("CONNECT", b"h:"),
        ("CONNECT", b":443"),
        ("CONNECT", b"h:0"),
        ("CONNECT", b"h:65536"),
        ("CONNECT", b"h:+1"),
        ("CONNECT", b"h:4 4"),
        ("CONNECT", b"/"),
        ("CONNECT", b"http://h/"),
        ("CONNECT", b"u@h:1"),
        ("CONNECT", b"::1:1"),
    ],
)
def test_targets_that_are_refused(method: str, target: bytes) -> None:
    with pytest.raises(BadMessageError) as caught:
        parse_target(method, target)
    assert caught.value.status == 400


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_a_path_survives_encoding(path: str) -> None:
    encoded = encode_path(path)
    assert all(0x21 <= byte <= 0x7E for byte in encoded)
    assert b"?" not in encoded
    assert b"#" not in encoded
    assert decode_path(encoded) == path


@given(st.binary(max_size=30))
def test_any_path_decodes(path: bytes) -> None:
    assert isinstance(decode_path(path), str)


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        (b"Example.COM", "example.com"),
        (b"example.com:80", "example.com"),
        (b"example.com.", "example.com"),
        (b"example.com.:80", "example.com"),
        (b"[2001:DB8::1]:80", "2001:db8::1"),
        (b"[::1]", "::1"),
        (b"", ""),
        (b":80", ""),
    ],
)
def test_hosts(authority: bytes, host: str) -> None:
    assert split_host(authority) == host
