"""The PROXY protocol through a whole prox: believed from trusted proxies alone, and told to upstreams."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from prox.l4.proxy_header import IncompleteHeader, ProxyHeader, read_proxy_header, write_proxy_header
from prox.tasks import spawn
from support.certificates import authority
from support.client import get
from support.hellos import hello
from support.passing import RawUpstream, Stream
from support.servers import Json, read_log, serving, until, write_sdk_plugin
from support.upstream import OK, Upstream

TRUSTED: Json = {"trusted_proxies": ["127.0.0.0/8"], "config": {"proxy_protocol": True}}
CLIENT = ("198.51.100.7", 4711)
SERVER = ("203.0.113.1", 443)
REQUEST = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"


@pytest.fixture(autouse=True)
def close_streams() -> Iterator[None]:
    yield
    Stream.close_all()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def exchange(address: tuple[str, int] | str, data: bytes, piece: int = 100_000) -> bytes:
    """Everything that is answered to these bytes."""
    stream = await Stream.connect(address)
    for at in range(0, len(data), piece):
        await stream.send(data[at : at + piece])
        await asyncio.sleep(0)
    return await stream.receive(1_000_000)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("piece", [1, 30, 100_000])
async def test_the_address_named_is_the_clients(tmp_path: Path, version: int, piece: int) -> None:
    log = tmp_path / "log"
    async with Upstream() as upstream:
        route = {"action": {"type": "proxy", "upstream": upstream.address}, "access_log": str(log)}
        async with serving(route, **TRUSTED) as web:
            answer = await exchange(web.address, write_proxy_header(version, CLIENT, SERVER) + REQUEST, piece)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            (request,) = upstream.requests
            assert (b"X-Forwarded-For", b"198.51.100.7") in request.headers
        (line,) = read_log(log)
    assert line["client_ip"] == "198.51.100.7"


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"])
async def test_a_header_that_names_nobody_leaves_the_peer(header: bytes, tmp_path: Path) -> None:
    log = tmp_path / "log"
    route = {"action": {"type": "static"}, "access_log": str(log)}
    async with serving(route, **TRUSTED) as web:
        assert (await exchange(web.address, header + REQUEST)).startswith(b"HTTP/1.1 200")
    (line,) = read_log(log)
    assert line["client_ip"] == "127.0.0.1"


@pytest.mark.parametrize(
    "data",
    [
        REQUEST,
        b"PROXY TCP4 1.2.3.4\r\n" + REQUEST,
        b"\r\n\r\n\0\r\nQUIT\n\x11\0\0\0" + REQUEST,
        b"\x16\x03\x01\0\x05hello",
    ],
)
async def test_without_a_proper_header_the_connection_is_closed(data: bytes) -> None:
    async with serving({"action": {"type": "static"}}, **TRUSTED) as web:
        client = await Stream.connect(web.address)
        await client.send(data)
        with pytest.raises(ConnectionResetError):
            await client.receive(1)
        await until(lambda: not web.entry.connections)
        assert web.entry.counters.ends == {"proxy_protocol": 1}
        assert web.entry.counters.requests == 0


async def test_it_is_refused_from_others() -> None:
    service: Json = {"trusted_proxies": ["192.0.2.0/24"], "config": {"proxy_protocol": True}}
    async with serving({"action": {"type": "static"}}, **service) as web:
        for data in (REQUEST, write_proxy_header(1, CLIENT, SERVER) + REQUEST):
            with pytest.raises(ConnectionError):
                await exchange(web.address, data)
        await until(lambda: not web.entry.connections)
        assert web.entry.counters.ends == {"proxy_protocol": 2}


async def test_without_the_key_it_is_no_request() -> None:
    async with serving({"action": {"type": "static"}}, trusted_proxies=["127.0.0.0/8"]) as web:
        answer = await exchange(web.address, write_proxy_header(1, CLIENT, SERVER) + REQUEST)
        assert answer.startswith(b"HTTP/1.1 400")


async def test_a_header_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prox.proxy.named.TIMEOUT", 0.1)
    async with serving({"action": {"type": "static"}}, **TRUSTED) as web:
        client = await Stream.connect(web.address)
        await client.send(b"PROXY TCP4 ")
        assert await client.is_closed()
        await until(lambda: not web.entry.connections)
        assert web.entry.counters.ends == {"proxy_protocol_timeout": 1}


async def test_caps_count_the_client_that_is_named() -> None:
    tuning = {"proxy_protocol": True, "max_connections_per_client": 1}
    service: Json = {"trusted_proxies": ["127.0.0.0/8"], "config": tuning}
    async with serving({"action": {"type": "static"}}, **service) as web:
        first = await Stream.connect(web.address)
        await first.send(write_proxy_header(2, CLIENT, SERVER))
        await until(lambda: web.entry.caps.of(CLIENT[0]) == 1)
        second = await Stream.connect(web.address)
        await second.send(write_proxy_header(2, (CLIENT[0], 2), SERVER))
        assert await second.is_closed()
        other = await Stream.connect(web.address)
        await other.send(write_proxy_header(2, ("198.51.100.8", 1), SERVER) + REQUEST)
        assert (await other.receive(12)) == b"HTTP/1.1 200"
        first.close()
        other.close()
        await until(lambda: not web.entry.connections)
        assert web.entry.caps.open == 0
        assert web.entry.caps.of(CLIENT[0]) == 0
        assert web.entry.counters.ends == {"max_connections_per_client": 1}


async def test_a_trusted_proxy_that_is_named_may_name_its_client(tmp_path: Path) -> None:
    """A chain: the balancer speaks the PROXY protocol for a proxy that sends X-Forwarded-For."""
    log = tmp_path / "log"
    route = {"action": {"type": "static"}, "access_log": str(log)}
    service: Json = {"trusted_proxies": ["127.0.0.0/8", "10.0.0.0/8"], "config": {"proxy_protocol": True}}
    async with serving(route, **service) as web:
        request = REQUEST.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 192.0.2.50\r\n\r\n")
        for peer in ("10.1.2.3", "198.51.100.7"):
            await exchange(web.address, write_proxy_header(1, (peer, 5), SERVER) + request)
    assert [line["client_ip"] for line in read_log(log)] == ["192.0.2.50", "198.51.100.7"]


async def test_a_unix_socket_is_trusted_by_its_permissions(tmp_path: Path) -> None:
    log = tmp_path / "log"
    route = {"action": {"type": "static"}, "access_log": str(log)}
    async with serving(route, listen=f"unix://{tmp_path}/s", **TRUSTED) as web:
        data = write_proxy_header(2, ("2001:db8::1", 9), ("2001:db8::2", 10)) + REQUEST
        assert (await exchange(web.address, data, 7)).startswith(b"HTTP/1.1 200")
    assert read_log(log)[0]["client_ip"] == "2001:db8::1"


async def test_hooks_see_the_client(tmp_path: Path) -> None:
    body = """
@plugin.on_request
def check(request):
    return request.deny(200, request.client)
"""
    path = write_sdk_plugin(tmp_path, body)
    route = {"action": {"type": "static"}, "plugins": [path]}
    async with serving(route, **TRUSTED) as web:
        answer = await exchange(web.address, write_proxy_header(1, CLIENT, SERVER) + REQUEST)
        assert answer.endswith(b"198.51.100.7:4711")


async def test_before_a_hello_that_is_passed_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with RawUpstream() as upstream:
        route = {
            "match": {"domain": "a.example.com"},
            "action": {"type": "pass", "upstream": upstream.address, "send_proxy": 2},
            "access_log": str(log),
        }
        async with serving(route, **TRUSTED) as web:
            client = await Stream.connect(web.address)
            header, first = write_proxy_header(1, CLIENT, SERVER), hello("a.example.com")
            await client.send(header + first)
            accepted = await upstream.accept()
            told = write_proxy_header(2, CLIENT, SERVER)
            assert await accepted.receive(len(told) + len(first)) == told + first
            client.reset()
        (line,) = read_log(log)
    assert line["client_ip"] == CLIENT[0]
    assert line["bytes_in"] == len(first)


async def test_before_a_tls_handshake(tmp_path: Path) -> None:
    certificate, key = authority().issue("here.example.com").write(tmp_path, "here")
    log = tmp_path / "log"
    route = {"action": {"type": "static"}, "access_log": str(log)}
    async with serving(route, tls_cert=str(certificate), tls_key=str(key), **TRUSTED) as web:
        stream = await Stream.connect(web.address)
        await stream.send(write_proxy_header(2, CLIENT, SERVER))
        context = authority().client_context()
        reader, writer = await asyncio.open_connection(
            sock=stream.sock.dup(), ssl=context, server_hostname="here.example.com"
        )
        writer.write(REQUEST)
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
    assert read_log(log)[0]["client_ip"] == CLIENT[0]


# Towards upstreams.


async def told(accepted: Stream) -> ProxyHeader:
    """The header that a connection begins with, taken from it."""
    data = b""
    while isinstance(header := read_proxy_header(data), IncompleteHeader):
        more = await accepted.receive(1)
        assert more
        data += more
    return header


@pytest.mark.parametrize("version", [1, 2])
async def test_pass_tells_the_upstream(version: int) -> None:
    async with RawUpstream() as upstream:
        action = {"type": "pass", "upstream": upstream.address, "send_proxy": version}
        async with serving({"match": {"domain": "a.example.com"}, "action": action}) as web:
            client = await Stream.connect(web.address)
            await client.send(hello("a.example.com"))
            header = await told(await upstream.accept())
            assert header.source == client.sock.getsockname()
            assert header.destination == web.address
            client.reset()


@pytest.mark.parametrize("version", [1, 2])
async def test_requests_are_told_apart_by_connection(version: int) -> None:
    async with RawUpstream() as upstream:
        action = {"type": "proxy", "upstream": upstream.address, "send_proxy": version}
        async with serving({"action": action}) as web, await web.connect() as client:
            for _ in range(3):
                asking = asyncio.get_running_loop().create_task(client.request(get("/")))
                accepted = await upstream.accept()  # a new one for each request
                header = await told(accepted)
                assert isinstance(header.source, tuple)
                assert header.source[0] == "127.0.0.1"
                assert header.destination == web.address
                assert await accepted.receive(16) == b"GET / HTTP/1.1\r\n"
                await accepted.send(OK)
                answer = await asking
                assert (answer.status, answer.body) == (200, b"ok")
                while await accepted.receive(4096):
                    pass
            await until(lambda: not web.pools.open)


async def test_before_tls_to_the_upstream(tmp_path: Path) -> None:
    ca = authority().write_ca(tmp_path)
    certificate, key = authority().issue("localhost").write(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with RawUpstream() as upstream:
        action = {
            "type": "proxy",
            "upstream": f"https://localhost:{upstream.port}",
            "send_proxy": 1,
            "tls": {"ca": str(ca)},
        }
        async with serving({"action": action}) as web, await web.connect() as client:
            asking = asyncio.get_running_loop().create_task(client.request(get("/")))
            accepted = await upstream.accept()
            header = await told(accepted)
            assert header.destination == web.address
            loop = asyncio.get_running_loop()
            reader = asyncio.StreamReader()
            transport, _ = await loop.connect_accepted_socket(
                lambda: asyncio.StreamReaderProtocol(reader), accepted.sock.dup(), ssl=context
            )
            accepted.close()
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET / HTTP/1.1\r\n")
            transport.write(OK)
            answer = await asking
            assert answer.status == 200
            transport.abort()


async def test_upgrades_are_told_too() -> None:
    async with RawUpstream() as upstream:
        action = {"type": "proxy", "upstream": upstream.address, "send_proxy": 1}
        async with serving({"action": action}) as web:
            client = await Stream.connect(web.address)
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
            accepted = await upstream.accept()
            header = await told(accepted)
            assert header.source == client.sock.getsockname()
            assert await accepted.receive(4) == b"GET "
            accepted.reset()
            assert await client.receive(12) == b"HTTP/1.1 502"


async def test_a_client_on_a_unix_socket_is_nobody(tmp_path: Path) -> None:
    async with RawUpstream() as upstream:
        action = {"type": "pass", "upstream": upstream.address, "send_proxy": 2}
        route = {"match": {"domain": "a.example.com"}, "action": action}
        async with serving(route, listen=f"unix://{tmp_path}/s") as web:
            client = await Stream.connect(web.address)
            await client.send(hello("a.example.com"))
            assert (await told(await upstream.accept())).source is None
            client.reset()


async def test_a_chain_of_two_prox_keeps_the_client(tmp_path: Path) -> None:
    log = tmp_path / "log"
    route = {"action": {"type": "static"}, "access_log": str(log)}
    async with serving(route, **TRUSTED) as inner:
        assert isinstance(inner.address, tuple)
        host, port = inner.address
        action = {"type": "proxy", "upstream": f"{host}:{port}", "send_proxy": 2}
        async with serving({"action": action}, **TRUSTED) as outer:
            answer = await exchange(outer.address, write_proxy_header(1, CLIENT, SERVER) + REQUEST)
            assert answer.startswith(b"HTTP/1.1 200")
    assert read_log(log)[0]["client_ip"] == CLIENT[0]


@pytest.mark.parametrize("tls", [False, True])
async def test_over_http_2_each_request_has_a_connection_that_names_its_client(
    tmp_path: Path, tls: bool
) -> None:
    log = tmp_path / "log"
    route = {"action": {"type": "static", "body_ref": {"text": "inner"}}, "access_log": str(log)}
    inside: Json = {"trusted_proxies": ["127.0.0.0/8"], "config": {"proxy_protocol": True, "h2c": not tls}}
    action: Json = {"type": "proxy", "send_proxy": 2}
    if tls:
        certificate, key = authority().issue("localhost").write(tmp_path)
        inside |= {"tls_cert": str(certificate), "tls_key": str(key)}
        action["tls"] = {"ca": str(authority().write_ca(tmp_path)), "server_name": "localhost"}
    else:
        action["proto"] = "h2"
    async with serving(route, **inside) as inner:
        assert isinstance(inner.address, tuple)
        action["upstream"] = f"{'https://' if tls else ''}127.0.0.1:{inner.address[1]}"
        async with serving({"action": action}, **TRUSTED) as outer:
            for number in range(4):
                client = (f"198.51.100.{number % 2}", 1000 + number)
                answer = await exchange(outer.address, write_proxy_header(1, client, SERVER) + REQUEST)
                assert answer.startswith(b"HTTP/1.1 200"), answer
                assert answer.endswith(b"inner")
            await until(lambda: not outer.pools.open, "connections to upstreams are left")
        assert inner.entry.counters.connections == 4
    assert [line["client_ip"] for line in read_log(log)] == [
        f"198.51.100.{number % 2}" for number in range(4)
    ]


async def test_a_handshake_that_fails_behind_the_header_leaves_nothing(tmp_path: Path) -> None:
    async with RawUpstream() as upstream:
        action = {"type": "proxy", "upstream": f"https://127.0.0.1:{upstream.port}", "send_proxy": 1}
        async with serving({"action": action}) as web:
            before = None
            for _ in range(3):
                asking = spawn(exchange(web.address, REQUEST), "ask")
                accepted = await upstream.accept()
                await told(accepted)
                await accepted.send(b"no TLS here")
                assert (await asking).startswith(b"HTTP/1.1 502")
                Stream.close_all()
                await until(lambda: not web.entry.connections)
                now = descriptors()
                before = before or now
                assert now <= before
