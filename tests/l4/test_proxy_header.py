"""PROXY protocol headers: whole, byte by byte, with the next bytes behind; and what is refused."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prox.l4.proxy_header import (
    Endpoint,
    IncompleteHeader,
    ProxyHeader,
    ProxyHeaderError,
    crc32c,
    read_proxy_header,
    write_proxy_header,
)

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4 = bytes([192, 0, 2, 7, 198, 51, 100, 9]) + (5000).to_bytes(2, "big") + (443).to_bytes(2, "big")
V6 = (
    ipaddress.IPv6Address("2001:db8::7").packed
    + ipaddress.IPv6Address("2001:db8::9").packed
    + b"\x13\x88\x01\xbb"
)
UNIX = b"/run/client".ljust(108, b"\0") + b"\0abstract".ljust(108, b"\0")


def v2(command: int, family: int, payload: bytes) -> bytes:
    return SIGNATURE + bytes([0x20 | command, family]) + len(payload).to_bytes(2, "big") + payload


def value(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + len(content).to_bytes(2, "big") + content


def with_checksum(payload: bytes, behind: bytes = b"") -> bytes:
    header = v2(1, 0x11, payload + value(3, bytes(4)) + behind)
    at = 16 + len(payload) + 3
    return header[:at] + crc32c(header).to_bytes(4, "big") + header[at + 4 :]


GOOD: dict[str, tuple[bytes, Endpoint | None, Endpoint | None]] = {
    "v1 IPv4": (
        b"PROXY TCP4 192.0.2.7 198.51.100.9 5000 443\r\n",
        ("192.0.2.7", 5000),
        ("198.51.100.9", 443),
    ),
    "v1 port 0": (
        b"PROXY TCP4 192.0.2.7 198.51.100.9 0 65535\r\n",
        ("192.0.2.7", 0),
        ("198.51.100.9", 65535),
    ),
    "v1 IPv6": (
        b"PROXY TCP6 2001:db8::7 2001:DB8::9 5000 443\r\n",
        ("2001:db8::7", 5000),
        ("2001:db8::9", 443),
    ),
    "v1 mapped": (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", ("192.0.2.7", 1), ("::1", 2)),
    "v1 longest": (
        b"PROXY TCP6 ffff:f...f:ffff ".replace(b"f...f", b"ffff:" * 5 + b"ffff")
        + b"ffff:" * 7
        + b"ffff 65535 65535\r\n",
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535),
    ),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", None, None),
    "v1 unknown with more": (b"PROXY UNKNOWN ffff::1 whatever 1 2\r\n", None, None),
    "v2 IPv4": (v2(1, 0x11, V4), ("192.0.2.7", 5000), ("198.51.100.9", 443)),
    "v2 IPv4 datagrams": (v2(1, 0x12, V4), ("192.0.2.7", 5000), ("198.51.100.9", 443)),
    "v2 IPv6": (v2(1, 0x21, V6), ("2001:db8::7", 5000), ("2001:db8::9", 443)),
    "v2 mapped": (
        v2(1, 0x21, bytes(10) + b"\xff\xff\xc0\x00\x02\x07" + bytes(16) + bytes(4)),
        ("192.0.2.7", 0),
        ("::", 0),
    ),
    "v2 Unix": (v2(1, 0x31, UNIX), "/run/client", "\0abstract"),
    "v2 local": (v2(0, 0, b""), None, None),
    "v2 local with addresses": (v2(0, 0x11, V4), None, None),
    "v2 local with rubbish": (v2(0, 0x11, b"x"), None, None),
    "v2 unspecified": (v2(1, 0, b"anything"), None, None),
    "v2 with values": (
        v2(1, 0x11, V4 + value(2, b"example.com") + value(4, b"") + value(0x20, b"tls" * 300)),
        ("192.0.2.7", 5000),
        ("198.51.100.9", 443),
    ),
    "v2 with a checksum": (with_checksum(V4), ("192.0.2.7", 5000), ("198.51.100.9", 443)),
    "v2 with a checksum in the middle": (
        with_checksum(V4 + value(1, b"h2"), value(4, b"pad")),
        ("192.0.2.7", 5000),
        ("198.51.100.9", 443),
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_whole(name: str) -> None:
    data, source, destination = GOOD[name]
    assert read_proxy_header(data) == ProxyHeader(len(data), source, destination)


@pytest.mark.parametrize("behind", [b"\x16\x03\x01", b"GET / HTTP/1.1\r\n", b"\r\n", SIGNATURE, b"PROXY "])
@pytest.mark.parametrize("name", GOOD)
def test_with_the_next_bytes_behind(name: str, behind: bytes) -> None:
    data, source, destination = GOOD[name]
    assert read_proxy_header(data + behind) == ProxyHeader(len(data), source, destination)


@pytest.mark.parametrize("name", GOOD)
def test_byte_by_byte(name: str) -> None:
    data, source, destination = GOOD[name]
    for size in range(len(data)):
        found = read_proxy_header(data[:size])
        assert isinstance(found, IncompleteHeader)
        assert 0 < found.missing <= len(data) - size
    assert read_proxy_header(data) == ProxyHeader(len(data), source, destination)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"\r\n\r\n\0\r\nQUIX",
        b"\r\nGET",
        b"proxy TCP4 192.0.2.7 198.51.100.9 5000 443\r\n",
        b"PROXY\r\n",
        b"PROXY \r\n",
        b"PROXY TCP5 192.0.2.7 198.51.100.9 5000 443\r\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.9 5000\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.9 5000 443 \r\n",
        b"PROXY TCP4  192.0.2.7 198.51.100.9 5000 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.9 5000 443\n" + b" " * 80,
        b"PROXY TCP4 192.0.2.7 198.51.100.9 05000 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.9 +5000 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.9 65536 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.9 \uff15000 443\r\n".encode(),
        b"PROXY TCP4 192.0.2.7 198.51.100.9  443\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.9 5000 443\r\n",
        b"PROXY TCP4 192.0.02.7 198.51.100.9 5000 443\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::9 5000 443\r\n",
        b"PROXY TCP6 192.0.2.7 198.51.100.9 5000 443\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 5000 443\r\n",
        b"PROXY UNKNOWN" + b" " * 100 + b"\r\n",
        SIGNATURE + b"\x11\x11\0\x0c" + V4,
        SIGNATURE + b"\x31\x11\0\x0c" + V4,
        SIGNATURE + b"\x22\x11\0\x0c" + V4,
        v2(1, 0x41, V4),
        v2(1, 0x13, V4),
        v2(1, 0x11, V4[:-1]),
        v2(1, 0x21, V4),
        v2(1, 0x31, V6),
        v2(1, 0x11, V4 + b"\x02"),
        v2(1, 0x11, V4 + b"\x02\x00"),
        v2(1, 0x11, V4 + b"\x02\x00\x02x"),
        v2(1, 0x11, V4 + value(3, b"\0\0\0\0")),
        v2(1, 0x11, V4 + value(3, b"\0\0\0")),
        with_checksum(V4)[:-1] + b"\xff",
        with_checksum(V4 + value(3, bytes(4))),
    ],
)
def test_refused(data: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        read_proxy_header(data)


@pytest.mark.parametrize("data", [b"GET", b"P0", b"\r\n\r\nX", SIGNATURE + b"\x23"])
def test_refused_as_soon_as_it_can_be_none(data: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        read_proxy_header(data)


def test_checksum_of_the_standard() -> None:
    # RFC 3720 appendix B.4.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("source", "destination"),
    [(("192.0.2.7", 1), ("198.51.100.9", 443)), (("2001:db8::7", 65535), ("2001:db8::9", 443))],
)
def test_what_is_written_is_read(version: int, source: tuple[str, int], destination: tuple[str, int]) -> None:
    data = write_proxy_header(version, source, destination)
    assert read_proxy_header(data) == ProxyHeader(len(data), source, destination)


def test_written_as_the_specification_shows_it() -> None:
    assert (
        write_proxy_header(1, ("255.255.255.255", 65535), ("255.255.255.255", 65535))
        == b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"
    )
    assert write_proxy_header(2, ("192.0.2.7", 5000), ("198.51.100.9", 443)) == v2(1, 0x11, V4)
    assert write_proxy_header(2, ("2001:db8::7", 5000), ("2001:db8::9", 443)) == v2(1, 0x21, V6)
    assert write_proxy_header(2, "/run/client", "\0abstract") == v2(1, 0x31, UNIX)


def test_two_families_become_one() -> None:
    data = write_proxy_header(1, ("192.0.2.7", 5), ("2001:db8::9", 443))
    assert data == b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::9 5 443\r\n"
    for version in (1, 2):
        data = write_proxy_header(version, ("192.0.2.7", 5), ("2001:db8::9", 443))
        assert read_proxy_header(data) == ProxyHeader(len(data), ("192.0.2.7", 5), ("2001:db8::9", 443))


@pytest.mark.parametrize("version", [1, 2])
def test_a_client_without_an_address_is_nobody(version: int) -> None:
    for source, destination in ((None, None), ("/run/x", None), (None, ("192.0.2.7", 1))):
        data = write_proxy_header(version, source, destination)
        assert read_proxy_header(data) == ProxyHeader(len(data))


def test_a_unix_client_has_no_word_in_version_1() -> None:
    assert write_proxy_header(1, "/run/a", "/run/b") == b"PROXY UNKNOWN\r\n"


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(
    lambda ip: str(getattr(ip, "ipv4_mapped", None) or ip)
)
ENDPOINTS = st.tuples(ADDRESSES, st.integers(0, 65535))


@given(
    version=st.sampled_from([1, 2]), source=ENDPOINTS, destination=ENDPOINTS, behind=st.binary(max_size=20)
)
def test_any_addresses(
    version: int, source: tuple[str, int], destination: tuple[str, int], behind: bytes
) -> None:
    data = write_proxy_header(version, source, destination)
    assert read_proxy_header(data + behind) == ProxyHeader(len(data), source, destination)


@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=300).map(lambda rest: SIGNATURE + rest),
        st.binary(max_size=120).map(lambda rest: b"PROXY " + rest),
        st.tuples(st.sampled_from([0x11, 0x21, 0x31]), st.binary(max_size=300)).map(lambda p: v2(1, *p)),
    )
)
def test_anything_is_read_refused_or_wanted_more_of(data: bytes) -> None:
    try:
        found = read_proxy_header(data)
    except ProxyHeaderError:
        return
    if isinstance(found, ProxyHeader):
        assert found.size <= len(data)
        assert read_proxy_header(data[: found.size]) == found
    else:
        assert found.missing > 0
