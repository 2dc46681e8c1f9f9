"""ClientHellos: of real clients, in any pieces and records, hostile ones."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prox.l4.hello import MOST_HELLO, Broken, Hello, HelloReader, Incomplete, NoTls, read_hello
from support.fuzzed_l4 import NO_HELLO, client_hello, hello_seeds, name_for_openssl
from support.go import COLD, needs_go
from support.hellos import GREASE, alpn, body, hello, message, records, server_names, sized

NAME = "api.example.com"


def recorded(command: list[str], env: dict[str, str] | None = None) -> bytes:
    """What a client says first to a server that says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(15)
        port = server.getsockname()[1]
        client = subprocess.Popen(
            [part.replace("PORT", str(port)) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=env,
        )
        try:
            accepted, _ = server.accept()
            with accepted:
                accepted.settimeout(10)
                data = b""
                while not isinstance(read_hello(data), Hello):
                    more = accepted.recv(65536)
                    assert more, data
                    data += more
        finally:
            client.kill()
            client.communicate()
    return data


def check(data: bytes, expected: Hello) -> None:
    """Read it whole, byte by byte, cut anew into small records, and with bytes behind."""
    assert read_hello(data) == expected
    assert read_hello(data + b"\x14\x03\x03\x00\x01\x01") == expected
    reader = HelloReader()
    for size in range(len(data)):
        found = reader.read(data[:size])
        assert isinstance(found, Incomplete)
        assert 0 < found.missing <= len(data) - size
    assert reader.read(data) == expected
    size = int.from_bytes(data[3:5], "big")
    if len(data) == size + 5:
        for most in (1, 2, 3, 4, 5, 100):
            assert read_hello(records(data[5:], most)) == expected


def test_openssl() -> None:
    command = [
        "openssl",
        "s_client",
        "-connect",
        "127.0.0.1:PORT",
        "-servername",
        NAME,
        "-alpn",
        "h2,http/1.1",
    ]
    check(recorded(command), Hello(NAME, (b"h2", b"http/1.1")))


def test_openssl_without_a_name() -> None:
    check(recorded(["openssl", "s_client", "-connect", "127.0.0.1:PORT", "-noservername"]), Hello("", ()))


def test_openssl_with_tls_1_2_alone() -> None:
    command = ["openssl", "s_client", "-connect", "127.0.0.1:PORT", "-servername", NAME, "-tls1_2"]
    check(recorded(command), Hello(NAME, ()))


def test_curl() -> None:
    command = ["curl", "-sk", "--resolve", f"{NAME}:PORT:127.0.0.1", f"https://{NAME}:PORT/"]
    check(recorded(command), Hello(NAME, (b"h2", b"http/1.1")))


def test_curl_to_an_address_names_nobody() -> None:
    assert read_hello(recorded(["curl", "-sk", "https://127.0.0.1:PORT/"])) == Hello("", (b"h2", b"http/1.1"))


@needs_go
@COLD
def test_go(tmp_path: Path) -> None:
    """Go offers post-quantum key shares by itself: its hello is larger than a segment."""
    source = tmp_path / "main.go"
    source.write_text(
        'package main\nimport ("crypto/tls"; "os")\nfunc main() {\n'
        f'tls.Dial("tcp", os.Args[1], &tls.Config{{ServerName: "{NAME}", NextProtos: []string{{"h2"}}}})\n}}\n'
    )
    program = tmp_path / "client"
    subprocess.run(["go", "build", "-o", program, source], check=True, capture_output=True)
    check(recorded([str(program), "127.0.0.1:PORT"]), Hello(NAME, (b"h2",)))


def test_python() -> None:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2"])
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="API.Example.Com")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    check(outgoing.read(), Hello(NAME, (b"h2",)))


@pytest.mark.parametrize("filler", [0, 1200, 20000, 40000, 60000])
@pytest.mark.parametrize("record", [600, 16384])
def test_any_size_in_any_records(filler: int, record: int) -> None:
    data = hello(NAME, b"h2", filler=filler, record=record)
    expected = Hello(NAME, (b"h2",))
    assert read_hello(data) == expected
    # As a socket is read: no sooner than what is missing can have come.
    reader, size, looks = HelloReader(), 0, 0
    while not isinstance(found := reader.read(data[:size]), Hello):
        assert isinstance(found, Incomplete)
        size += found.missing
        looks += 1
        assert size <= len(data)
    assert found == expected
    assert size == len(data)
    assert looks <= 30


def test_fragments_of_one_byte() -> None:
    data = hello(NAME, filler=4000, record=1)
    reader, size, looks = HelloReader(), 0, 0
    while not isinstance(found := reader.read(data[:size]), Hello):
        assert isinstance(found, Incomplete)
        size += found.missing
        looks += 1
    assert size == len(data)
    assert looks < 60


def test_what_comes_behind_the_hello_in_its_record_is_not_looked_at() -> None:
    data = message(body([server_names(b"a.example.com")]))
    assert read_hello(records(data + b"\x01\0\0\0")) == Hello("a.example.com", ())


def test_no_extensions() -> None:
    assert read_hello(records(message(body(None)))) == Hello("", ())
    assert read_hello(records(message(body([])))) == Hello("", ())


def test_grease_and_ech_are_passed_over() -> None:
    extensions = [GREASE, (0xFE0D, b"\0" * 300), server_names(b"outer.example.com"), (0xBABA, b"\0")]
    assert read_hello(records(message(body(extensions)))) == Hello("outer.example.com", ())


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        (b"Example.COM", "example.com"),
        (b"localhost", "localhost"),
        (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
        (b"_dmarc.a-b.example", "_dmarc.a-b.example"),
        (b"1.example.com", "1.example.com"),
        (b"a" * 63 + b".example", "a" * 63 + ".example"),
        (b"192.0.2.1", ""),
        (b"0x7f000001", ""),
        (b"example.0x1", ""),
        (b"2001:db8::1", ""),
        (b"[2001:db8::1]", ""),
        (b"example.com.", ""),
        (b".example.com", ""),
        (b"a..example.com", ""),
        (b"*.example.com", ""),
        (b"-a.example.com", ""),
        (b"a-.example.com", ""),
        (b"example.com:443", ""),
        (b"exa mple.com", ""),
        (b"example.com\n", ""),
        ("bücher.example".encode(), ""),
        (b"\xff\xfe", ""),
        (b"a" * 64 + b".example", ""),
        (b"a." * 127 + b"aa", ""),
        (b"a." * 126 + b"a", "a." * 126 + "a"),
    ],
)
def test_names(name: bytes, seen: str) -> None:
    assert read_hello(records(message(body([server_names(name)])))) == Hello(seen, ())


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x15\x03\x01\0\x02\x02\x28",
        b"\x80\x2e\x01\x03\x01",
        b"\x16\x02\0\0\x10",
        b"\x16\x03\x01\0\0",
        b"\x16\x03\x01\x40\x01",
        b"PRI * HTTP/2.0",
        b"\0",
    ],
)
def test_no_tls(data: bytes) -> None:
    assert read_hello(data) == NoTls()


BROKEN = {
    "no hello": records(b"\x02" + sized(body(None), 3)),
    "too large": records(b"\x01" + (MOST_HELLO + 1).to_bytes(3, "big") + bytes(10)),
    "the largest length": records(b"\x01\xff\xff\xff"),
    "an alert within": records(message(body(None))[:10]) + b"\x15\x03\x01\0\x02\x02\x28",
    "an empty record within": records(message(body(None))[:10]) + b"\x16\x03\x01\0\0",
    "a large record within": records(message(body(None))[:10]) + b"\x16\x03\x01\x40\x01",
    "another version within": records(message(body(None))[:10]) + b"\x16\x04",
    "a version of another kind": records(message(body(None, version=b"\x04\x00"))),
    "a long session": records(message(body(None, session=bytes(33)))),
    "no suites": records(message(body(None, suites=b""))),
    "odd suites": records(message(body(None, suites=b"\x13\x01\x13"))),
    "no compression": records(message(body(None, compression=b""))),
    "an empty body": records(message(b"")),
    "cut": records(message(body([server_names(b"a.example.com")])[:-1])),
    "bytes behind": records(message(body([], behind=b"\0"))),
    "one byte behind the head": records(message(body(None, behind=b"\0"))),
    "a name twice": records(message(body([server_names(b"a.example"), server_names(b"a.example")]))),
    "any extension twice": records(message(body([GREASE, GREASE]))),
    "two names": records(message(body([server_names(b"a.example", b"b.example")]))),
    "another type of name": records(message(body([server_names(b"a.example", kind=1)]))),
    "an empty name": records(message(body([server_names(b"")]))),
    "NUL in a name": records(message(body([server_names(b"a.example\0.b.example")]))),
    "no names": records(message(body([server_names()]))),
    "an empty extension of names": records(message(body([(0, b"")]))),
    "names shorter than their extension": records(
        message(body([(0, server_names(b"a.example")[1] + b"\0")]))
    ),
    "a name longer than its list": records(message(body([(0, b"\0\x05\0\0\x09a.example")]))),
    "protocols shorter than their extension": records(message(body([(16, alpn(b"h2")[1] + b"\0")]))),
    "an empty protocol": records(message(body([alpn(b"h2", b"")]))),
    "no protocols": records(message(body([alpn()]))),
    "too many records": hello(NAME, filler=20000, record=1),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken(case: str) -> None:
    assert isinstance(read_hello(BROKEN[case]), Broken)


def test_the_largest() -> None:
    fixed = len(hello(NAME, filler=1)) - 5 - 1
    data = hello(NAME, filler=MOST_HELLO - fixed)
    assert read_hello(data) == Hello(NAME, ())
    assert isinstance(read_hello(hello(NAME, filler=MOST_HELLO - fixed + 1)), Broken)


def test_hostile_pieces_cost_little() -> None:
    data = hello(NAME, filler=9000, record=1)
    reader = HelloReader()
    began = time.thread_time()
    for size in range(0, len(data), 16):
        assert isinstance(reader.read(data[:size]), Incomplete)
    assert time.thread_time() - began < 1


NAMES = st.from_regex(r"[a-z0-9]{1,20}(\.[a-z]{1,20}){1,3}", fullmatch=True)


@given(
    name=NAMES,
    protocols=st.lists(st.binary(min_size=1, max_size=255), max_size=4),
    others=st.dictionaries(st.integers(17, 65535), st.binary(max_size=200), max_size=8),
    record=st.integers(1, 400),
    cuts=st.lists(st.integers(0, 3000), max_size=10),
    behind=st.binary(max_size=30),
)
def test_any_hello(
    name: str,
    protocols: list[bytes],
    others: dict[int, bytes],
    record: int,
    cuts: list[int],
    behind: bytes,
) -> None:
    extensions = [*others.items(), server_names(name.encode())]
    if protocols:
        extensions.append(alpn(*protocols))
    data = records(message(body(extensions)), record)
    reader = HelloReader()
    for cut in sorted(cut for cut in cuts if cut < len(data)):
        found = reader.read(data[:cut])
        assert isinstance(found, Incomplete)
        assert found.missing <= len(data) - cut
    assert reader.read(data + behind) == Hello(name, tuple(protocols))


@given(
    data=st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=200).map(lambda rest: b"\x16\x03\x01" + rest),
        st.binary(max_size=200).map(lambda rest: records(message(rest))),
        st.lists(st.tuples(st.integers(0, 20), st.binary(max_size=30)), max_size=6).map(
            lambda extensions: records(message(body(extensions)))
        ),
    ),
    at=st.integers(0, 200),
)
def test_anything_in_pieces_is_read_as_whole(data: bytes, at: int) -> None:
    whole = read_hello(data)
    reader = HelloReader()
    found = reader.read(data[:at])
    if isinstance(found, Incomplete):
        assert reader.read(data) == whole
    else:
        assert found == whole


@given(data=st.binary(min_size=1, max_size=3), at=st.integers(0, 600))
def test_a_changed_byte_never_raises(data: bytes, at: int) -> None:
    good = hello(NAME, b"h2", filler=100)
    at %= len(good)
    read_hello(good[:at] + data + good[at + len(data) :])


@pytest.mark.parametrize("seed", hello_seeds())
def test_openssl_reads_the_same_name(seed: bytes) -> None:
    found = read_hello(seed)
    assert isinstance(found, Hello)
    name = name_for_openssl(seed)
    if name is not NO_HELLO:  # it wants more of a hello than a name
        assert (name or "") == found.server_name
    client_hello(seed)


EDITS = st.lists(
    st.tuples(st.integers(0, 600), st.integers(0, 4), st.binary(max_size=4)), min_size=1, max_size=3
)


@given(seed=st.sampled_from(hello_seeds()), edits=EDITS, lengths=st.booleans(), record=st.integers(0, 200))
def test_no_hello_names_one_host_here_and_another_for_openssl(
    seed: bytes, edits: list[tuple[int, int, bytes]], lengths: bool, record: int
) -> None:
    data = bytearray(seed)
    for at, gone, new in edits:
        place = at % len(data)
        data[place : place + gone] = new
    if lengths and len(data) > 9:  # as a client would have it
        data[3:5] = (len(data) - 5).to_bytes(2, "big")
        data[6:9] = (len(data) - 9).to_bytes(3, "big")
        if record:
            data = bytearray(records(bytes(data[5:]), record))
    client_hello(bytes(data))
