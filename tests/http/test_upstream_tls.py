"""TLS to upstreams: who is trusted, what is said of those who are not, sessions, and ends that nobody has said."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from support.certificates import Authority, Certificate, authority, localhost
from support.client import CutError, get, post
from support.servers import Running, make_config, serving, until
from support.upstream import OK, Script, Upstream, UpstreamPeer, answer, answering, sending


def server_context(folder: Path, certificate: Certificate | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*(certificate or localhost()).write(folder))
    return context


def proxy(upstream: str, folder: Path, **tls: object) -> dict[str, object]:
    ca = authority().write_ca(folder)
    return {"action": {"type": "proxy", "upstream": upstream, "tls": {"ca": str(ca), **tls}}}


@asynccontextmanager
async def secure(
    folder: Path,
    script: Script | None = None,
    *,
    certificate: Certificate | None = None,
    context: ssl.SSLContext | None = None,
    host: str = "localhost",
    config: dict[str, object] | None = None,
    tls: Mapping[str, object] | None = None,
) -> AsyncIterator[tuple[Upstream, Running]]:
    """An upstream with TLS, and a prox before it that trusts the tests' authority."""
    async with Upstream(script, tls=context or server_context(folder, certificate)) as upstream:
        port = upstream.address.rpartition(":")[2]
        route = proxy(f"https://{host}:{port}", folder, **(tls or {}))
        async with serving(route, config=config) as prox:
            yield upstream, prox


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_requests_go_over_verified_tls(tmp_path: Path, host: str) -> None:
    async with secure(tmp_path, host=host) as (upstream, prox), await prox.connect() as client:
        for _ in range(3):
            response = await client.request(post(b"x" * 100_000))
            assert (response.status, response.body) == (200, b"ok")
        assert len(upstream.peers) == 1
        port = upstream.address.rpartition(":")[2]
        assert upstream.requests[0]["host"] == f"{host}:{port}".encode()
        assert upstream.peers[0].tls.version() == "TLSv1.3"
        await prox.quiet(idle=1, connections=1)


UNTRUSTED = {
    "another name": (authority().issue("other.example"), "Hostname mismatch"),
    "a name in the subject alone": (
        authority().issue("localhost", common_name_only=True),
        "certificate is not valid for",
    ),
    "expired": (authority().issue("localhost", expired=True), "certificate has expired"),
    "not yet valid": (authority().issue("localhost", future=True), "certificate is not yet valid"),
    "an unknown authority": (Authority.root("Other").issue("localhost"), "unable to get local issuer"),
    "for clients": (authority().issue("localhost", client=True), "unsuitable certificate purpose"),
}


@pytest.mark.parametrize("name", UNTRUSTED)
async def test_who_is_not_trusted_gets_no_request(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, reason = UNTRUSTED[name]
    async with secure(tmp_path, certificate=certificate) as (upstream, prox), await prox.connect() as client:
        response = await client.request(get())
        assert response.status == 502
        assert b"certificate" not in response.body
        assert prox.pipeline.counters.upstream_faults == {"tls_untrusted": 1}
        assert not upstream.requests
        await prox.quiet(idle=0, connections=1)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "prox.proxy"]
    assert "tls_untrusted" in line
    assert reason in line


async def test_by_default_the_system_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Upstream(tls=server_context(tmp_path)) as upstream:
        url = f"https://{upstream.address}"
        async with serving(url) as prox, await prox.connect() as client:
            assert (await client.request(get())).status == 502
        monkeypatch.setenv("SSL_CERT_FILE", str(authority().write_ca(tmp_path)))
        async with serving(url) as prox, await prox.connect() as client:
            assert (await client.request(get())).status == 200


async def test_the_servers_own_certificate_may_be_what_is_trusted(tmp_path: Path) -> None:
    own = Authority.root("Unknown").issue("localhost")
    (tmp_path / "own.pem").write_bytes(own.pem)
    tls = {"ca": str(tmp_path / "own.pem")}
    async with secure(tmp_path, certificate=own, tls=tls) as (_, prox), await prox.connect() as client:
        assert (await client.request(get())).status == 200


async def test_server_name_is_what_is_asked_for_and_verified(tmp_path: Path) -> None:
    asked: list[str | None] = []
    context = server_context(tmp_path, authority().issue("inside.example"))
    context.sni_callback = lambda _connection, name, _context: asked.append(name)
    tls = {"server_name": "inside.example"}
    async with (
        secure(tmp_path, context=context, host="127.0.0.1", tls=tls) as (upstream, prox),
        await prox.connect() as client,
    ):
        assert (await client.request(get())).status == 200
        assert asked == ["inside.example"]
        assert upstream.requests[0]["host"] == upstream.address.encode()


async def test_an_address_is_no_server_name(tmp_path: Path) -> None:
    """RFC 6066 section 3."""
    asked: list[str | None] = []
    context = server_context(tmp_path)
    context.sni_callback = lambda _connection, name, _context: asked.append(name)
    async with (
        secure(tmp_path, context=context, host="127.0.0.1") as (_, prox),
        await prox.connect() as client,
    ):
        assert (await client.request(get())).status == 200
        assert asked == [None]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_client_certificate(
    tmp_path: Path, version: ssl.TLSVersion, caplog: pytest.LogCaptureFixture
) -> None:
    context = server_context(tmp_path)
    context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cafile=str(authority().write_ca(tmp_path)))
    certificate, key = authority().issue(subject="prox", client=True).write(tmp_path, "client")
    tls = {"cert": str(certificate), "key": str(key)}
    async with secure(tmp_path, context=context, tls=tls) as (upstream, prox), await prox.connect() as client:
        assert (await client.request(get())).status == 200
        peer = upstream.peers[0].tls.getpeercert()
        assert peer is not None
        assert peer["subject"] == ((("commonName", "prox"),),)
    async with secure(tmp_path, context=context) as (upstream, prox), await prox.connect() as client:
        assert (await client.request(get())).status == 502
        assert not upstream.requests


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session_is_resumed(tmp_path: Path, version: ssl.TLSVersion) -> None:
    context = server_context(tmp_path)
    context.minimum_version = context.maximum_version = version
    closing = answering(answer(b"ok", b"Connection: close"))
    async with secure(tmp_path, closing, context=context) as (upstream, prox), await prox.connect() as client:
        for _ in range(4):
            assert (await client.request(get())).status == 200
        assert [peer.tls.session_reused for peer in upstream.peers] == [False, True, True, True]


async def test_a_session_that_a_server_has_forgotten(tmp_path: Path) -> None:
    closing = answering(answer(b"ok", b"Connection: close"))
    async with secure(tmp_path, closing) as (upstream, prox), await prox.connect() as client:
        assert (await client.request(get())).status == 200
        port = int(upstream.address.rpartition(":")[2])
        upstream.stop_listening()
        await prox.quiet(idle=0, connections=1)
        async with Upstream(closing, tls=server_context(tmp_path), port=port) as other:
            assert (await client.request(get())).status == 200
            assert not other.peers[0].tls.session_reused


async def test_an_upstream_without_tls(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Upstream(sending(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as upstream:
        upstream.script = sending_at_once
        async with (
            serving(proxy(f"https://{upstream.address}", tmp_path)) as prox,
            await prox.connect() as client,
        ):
            assert (await client.request(get())).status == 502
            assert prox.pipeline.counters.upstream_faults == {"tls_failed": 1}
    assert "does not speak TLS" in caplog.text


async def sending_at_once(peer: UpstreamPeer) -> None:
    await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await peer.closed()


async def test_a_connection_that_ends_in_the_handshake(tmp_path: Path) -> None:
    async def hanging_up(peer: UpstreamPeer) -> None:
        await peer.more()

    async with (
        Upstream(hanging_up) as upstream,
        serving(proxy(f"https://{upstream.address}", tmp_path)) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(get())).status == 502
        assert prox.pipeline.counters.upstream_faults == {"tls_failed": 1}
        await prox.quiet(idle=0, connections=1)


async def test_a_handshake_that_never_ends(tmp_path: Path) -> None:
    async def silent(peer: UpstreamPeer) -> None:
        await peer.closed()

    config = {"tls_handshake_timeout": 0.1, "dial_timeout": "1m"}
    async with (
        Upstream(silent) as upstream,
        serving(proxy(f"https://{upstream.address}", tmp_path), config=config) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(get())).status == 504
        assert prox.pipeline.counters.upstream_faults == {"tls_timeout": 1}
        await prox.quiet(idle=0, connections=1)


async def test_a_handshake_outlasts_the_dial_timeout(tmp_path: Path) -> None:
    """It has a limit of its own."""

    async def silent(peer: UpstreamPeer) -> None:
        await peer.closed()

    config = {"tls_handshake_timeout": 0.3, "dial_timeout": 0.1}
    async with (
        Upstream(silent) as upstream,
        serving(proxy(f"https://{upstream.address}", tmp_path), config=config) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(get())).status == 504
        assert prox.pipeline.counters.upstream_faults == {"tls_timeout": 1}


async def test_a_client_that_leaves_during_the_handshake(tmp_path: Path) -> None:
    async def silent(peer: UpstreamPeer) -> None:
        await peer.closed()

    async with (
        Upstream(silent) as upstream,
        serving(proxy(f"https://{upstream.address}", tmp_path)) as prox,
    ):
        for _ in range(2):  # the next one begins anew
            client = await prox.connect()
            await client.send(get())
            peer = await upstream.peer()
            client.close()
            async with asyncio.timeout(8):  # tls_handshake_timeout are 10 seconds
                await until(lambda peer=peer: peer.eof)  # type: ignore[misc] # a lambda with a default
            await prox.quiet(idle=0)


async def test_a_target_that_is_not_trusted_is_left_out(tmp_path: Path) -> None:
    good = server_context(tmp_path / "good")
    bad = server_context(tmp_path / "bad", Authority.root("Other").issue("localhost", "127.0.0.1"))
    async with Upstream(tls=good) as first, Upstream(tls=bad) as second:
        route = proxy("https://{target}", tmp_path)
        route["balancer"] = {"type": "roundrobin", "targets": [first.address, second.address]}
        async with serving(route) as prox, await prox.connect() as client:
            statuses = [(await client.request(get())).status for _ in range(10)]
        assert statuses.count(502) == 1


async def test_targets_may_be_urls_of_either_kind(tmp_path: Path) -> None:
    async with Upstream(tls=server_context(tmp_path)) as first, Upstream() as second:
        route = proxy("{target}", tmp_path)
        route["balancer"] = {
            "type": "roundrobin",
            "targets": [f"https://{first.address}", f"http://{second.address}"],
        }
        async with serving(route) as prox, await prox.connect() as client:
            for _ in range(4):
                assert (await client.request(get("/x"))).status == 200
        assert len(first.requests) == len(second.requests) == 2


# Ends.

UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nabc"


async def test_an_answer_that_ends_with_close_notify_is_whole(tmp_path: Path) -> None:
    async with secure(tmp_path, sending(UNTIL_CLOSE)) as (_, prox), await prox.connect() as client:
        response = await client.request(get())
        assert (response.status, response.body) == (200, b"abc")


async def test_an_answer_that_ends_without_close_notify_is_cut(tmp_path: Path) -> None:
    """RFC 9112 section 9.8: whoever can end a TCP connection must not end a message."""

    async def cutting(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(UNTIL_CLOSE)
        peer.cut()
        await peer.closed()

    async with secure(tmp_path, cutting) as (_, prox), await prox.connect() as client:
        await client.send(get())
        with pytest.raises(CutError):
            await client.response()
        assert prox.pipeline.counters.upstream_faults == {"upstream_truncated": 1}


async def test_no_answer_and_no_close_notify(tmp_path: Path) -> None:
    async def cutting(peer: UpstreamPeer) -> None:
        await peer.request()
        peer.cut()
        await peer.closed()

    async with secure(tmp_path, cutting) as (_, prox), await prox.connect() as client:
        assert (await client.request(get())).status == 502
        assert prox.pipeline.counters.upstream_faults == {"upstream_closed": 1}


@pytest.mark.parametrize("cut", [False, True])
async def test_a_stale_connection_is_replaced(tmp_path: Path, cut: bool) -> None:
    async def once(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(OK)
        if len(upstream.peers) == 1:
            await peer.request()
            if cut:
                peer.cut()
            else:
                peer.close()
        await peer.closed()

    async with secure(tmp_path, once) as (upstream, prox), await prox.connect() as client:
        assert (await client.request(get())).status == 200
        assert (await client.request(get())).status == 200
        assert len(upstream.peers) == 2


async def test_the_last_bytes_for_a_slow_client_are_not_lost(tmp_path: Path) -> None:
    """The upstream has said everything and closed before the client reads on."""
    body = bytes(1 << 22)

    async def whole(peer: UpstreamPeer) -> None:
        await peer.request()
        await peer.send(answer(body, b"Connection: close"))
        peer.close()

    async with secure(tmp_path, whole) as (_, prox):
        client = await prox.connect(receive_buffer=8192)
        await client.send(get())
        head = answer(body).partition(b"\r\n\r\n")[0]
        got = await client.take(len(body) + len(head))
        assert len(got) >= len(body)
        client.close()


class Saying(asyncio.Protocol):
    """Answers once, and tells whether the end was said: a FIN alone is no `eof_received` over TLS."""

    def __init__(self) -> None:
        self.end = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(OK)

    def eof_received(self) -> None:
        self.end = "said"

    def connection_lost(self, exc: Exception | None) -> None:
        self.end = self.end or "lost"


async def test_an_idle_connection_ends_with_close_notify(tmp_path: Path) -> None:
    peer = Saying()
    context = server_context(tmp_path)
    server = await asyncio.get_running_loop().create_server(lambda: peer, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    route = proxy(f"https://127.0.0.1:{port}", tmp_path)
    async with (
        server,
        serving(route, config={"idle_timeout": 0.1}) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(get())).status == 200
        await until(lambda: peer.end)
        assert peer.end == "said"


# Reloads.


async def test_a_reload_with_other_files_takes_new_connections(tmp_path: Path) -> None:
    async with Upstream(tls=server_context(tmp_path)) as upstream:
        route = proxy(f"https://{upstream.address}", tmp_path)
        document = make_config(route)
        async with serving(route) as prox, await prox.connect() as client:
            ca = tmp_path / "ca.pem"
            assert ca in prox.application.files
            assert (await client.request(get())).status == 200
            await prox.reload(document)
            assert (await client.request(get())).status == 200
            assert len(upstream.peers) == 1
            ca.write_bytes(Authority.root("Other").pem + authority().pem)
            await prox.reload(document)
            assert (await client.request(get())).status == 200
            assert len(upstream.peers) == 2
            ca.write_bytes(Authority.root("Other").pem)
            await prox.reload(document)
            assert (await client.request(get())).status == 502
            assert prox.pipeline.counters.upstream_faults == {"tls_untrusted": 1}
