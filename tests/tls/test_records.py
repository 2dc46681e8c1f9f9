"""A read makes room for a record, on both sides, whatever the loop asks for."""

from __future__ import annotations

import ssl
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest

from prox.tls.client import ClientFiles, client_context
from prox.tls.pairs import make_pair
from prox.tls.policy import Policy
from prox.tls.records import RECORD
from support.certificates import authority

ASKED = 256 << 10
"""By uvloop."""


def connected(tmp_path: Path) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A server's and a client's end, shaken hands in memory."""
    server, client, _ = wired(tmp_path)
    return server, client


def wired(tmp_path: Path) -> tuple[ssl.SSLObject, ssl.SSLObject, ssl.MemoryBIO]:
    """The same, and what leads to the server."""
    made = authority().issue("a.example.com")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority().pem)
    serving = Policy().context(make_pair("a", [made.certificate, *made.issuers], made.key_pem))
    asking = client_context(ClientFiles(str(ca), None, None))
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = serving.wrap_bio(up, down, server_side=True)
    client = asking.wrap_bio(down, up, server_hostname="a.example.com")
    for _ in range(3):
        for end in (client, server):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    assert client.version() == "TLSv1.3"
    return server, client, up


@pytest.mark.parametrize("direction", ["up", "down"])
def test_all_comes_and_no_room_is_made_for_more(tmp_path: Path, direction: str) -> None:
    server, client = connected(tmp_path)
    source, sink = (client, server) if direction == "up" else (server, client)
    sent = bytes(range(256)) * 400
    assert source.write(sent) == len(sent)
    received = []
    tracemalloc.start()
    try:
        with suppress(ssl.SSLWantReadError):
            while True:
                tracemalloc.reset_peak()
                before, _ = tracemalloc.get_traced_memory()
                received.append(sink.read(ASKED))
                assert tracemalloc.get_traced_memory()[1] - before < 2 * RECORD
    finally:
        tracemalloc.stop()
    assert b"".join(received) == sent
    assert max(map(len, received)) == RECORD


def test_less_may_be_asked_for(tmp_path: Path) -> None:
    server, client = connected(tmp_path)
    client.write(b"0123456789")
    assert server.read(4) == b"0123"
    room = bytearray(6)
    assert server.read(6, room) == 6  # type: ignore[comparison-overlap] # with a buffer it is a number
    assert room == b"456789"


def test_a_record_that_has_come_in_part_is_no_end(tmp_path: Path) -> None:
    server, client, wire = wired(tmp_path)
    for _ in range(2):
        with pytest.raises(ssl.SSLWantReadError):
            server.read(ASKED)
    client.write(b"whole")
    record = wire.read()
    for index in range(len(record)):
        with pytest.raises(ssl.SSLWantReadError):
            server.read(ASKED)
        wire.write(record[index : index + 1])
    assert server.read(ASKED) == b"whole"


def test_the_end_is_told_where_it_was_said_and_where_it_was_not(tmp_path: Path) -> None:
    server, client = connected(tmp_path)
    client.write(b"last")
    with suppress(ssl.SSLWantReadError):
        client.unwrap()
    assert [server.read(ASKED) for _ in range(3)] == [b"last", b"", b""]

    server, _, wire = wired(tmp_path)
    wire.write_eof()
    with pytest.raises(ssl.SSLEOFError):
        server.read(ASKED)
