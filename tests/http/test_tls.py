"""HTTP over TLS: real clients, handshakes that go wrong, and how connections end."""

from __future__ import annotations

import asyncio
import ssl
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

import prox
from support.certificates import authority
from support.client import Client, get
from support.servers import Running, serving, until
from support.tls import OK, connect, ends, port, serving_tls
from support.upstream import Upstream


async def run(*command: object, stdin: bytes = b"") -> str:
    """What a program prints."""
    program = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    return (await program.communicate(stdin))[0].decode()


# Clients.


async def test_curl_and_httpx(tmp_path: Path) -> None:
    ca = authority().write_ca(tmp_path)
    async with serving_tls(tmp_path) as running:
        url = f"https://localhost:{port(running)}/"
        assert await run("curl", "-s", "--cacert", ca, url, url) == "okok"
        async with httpx.AsyncClient(verify=authority().client_context()) as client:
            for _ in range(3):
                assert (await client.get(url)).text == "ok"
        await running.quiet()
        assert running.entry.counters.connections == 2


async def test_the_upstream_and_the_client_learn_that_it_was_tls(tmp_path: Path) -> None:
    async with Upstream() as upstream, serving_tls(tmp_path, upstream.address) as running:
        async with await connect(running) as client:
            assert (await client.request(get())).status == 200
        (request,) = upstream.requests
        assert request["x-forwarded-proto"] == b"https"
        assert request["x-forwarded-for"] == b"127.0.0.1"


async def test_sessions_are_resumed(tmp_path: Path) -> None:
    async with serving_tls(tmp_path) as running:
        target = ("-connect", f"localhost:{port(running)}")
        said = await run("openssl", "s_client", *target, "-reconnect", "-tls1_2")
        assert said.count("\nReused, TLSv1.2") == 5
        session = tmp_path / "session"
        request = get("/", "Connection: close")
        first = await run("openssl", "s_client", *target, "-sess_out", session, "-ign_eof", stdin=request)
        assert "\nNew, TLSv1.3" in first
        again = await run("openssl", "s_client", *target, "-sess_in", session, "-ign_eof", stdin=request)
        assert "\nReused, TLSv1.3" in again
        assert "HTTP/1.1 200 OK" in again


async def test_neither_compression_nor_renegotiation(tmp_path: Path) -> None:
    async with serving_tls(tmp_path) as running:
        said = await run("openssl", "s_client", "-connect", f"localhost:{port(running)}", "-tls1_2")
        assert "Compression: NONE" in said
        asked = await run(
            "openssl", "s_client", "-connect", f"localhost:{port(running)}", "-tls1_2", stdin=b"R\n"
        )
        assert "no renegotiation" in asked


# The handshake.


async def raw(running: Running) -> Client:
    return await Client.connect(running.address)


def hello() -> bytes:
    """A ClientHello."""
    out = ssl.MemoryBIO()
    client = authority().client_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


async def test_a_handshake_in_pieces(tmp_path: Path) -> None:
    async with serving_tls(tmp_path) as running:
        context = authority().client_context()
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        end = context.wrap_bio(into, out, server_hostname="localhost")
        async with await raw(running) as client:
            while True:
                try:
                    end.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await client.send(*(bytes([byte]) for byte in out.read()))
                    into.write(await client.take(1))
            end.write(get())
            await client.send(out.read())
            answer = b""
            while b"\r\n\r\nok" not in answer:
                try:
                    answer += end.read()
                except ssl.SSLWantReadError:
                    into.write(await client.take(1))
            assert answer.startswith(b"HTTP/1.1 200 OK")


async def test_a_handshake_that_takes_too_long(tmp_path: Path) -> None:
    async with serving_tls(tmp_path, config={"tls_handshake_timeout": "100ms"}) as running:
        for sent in (b"", hello()[:100]):
            async with await raw(running) as client:
                await client.send(sent)
                await client.closed()
        assert ends(running) == {"deadline_handshake": 2}
        await running.quiet()


async def test_handshakes_under_way_count_as_connections(tmp_path: Path) -> None:
    async with serving_tls(tmp_path, config={"max_connections": 2}) as running:
        waiting = [await raw(running) for _ in range(2)]
        for client in waiting:
            await client.send(hello()[:50])
        await until(lambda: running.entry.counters.active == 2)
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await connect(running)
        for client in waiting:
            client.close()
        await until(lambda: running.entry.caps.open == 0)
        async with await connect(running) as client:
            assert (await client.request(get())).status == 200
        assert ends(running) == {"max_connections": 1, "client_aborted": 2}


@pytest.mark.parametrize("garbage", [b"\x00" * 100, b"garbage\n" * 20, b"\x16\x03\x01\xff\xff" + b"a" * 200])
async def test_garbage(tmp_path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with serving_tls(tmp_path) as running:
        async with await raw(running) as client:
            await client.send(garbage)
            await client.take(1 << 20)  # an alert, and the end
        await running.quiet()
        assert ends(running) == {"tls_handshake": 1}
        async with await connect(running) as client:
            assert (await client.request(get())).status == 200
    assert not caplog.records


async def test_plain_http_where_tls_is_spoken(tmp_path: Path) -> None:
    async with serving_tls(tmp_path) as running:
        for request in (get(), b"CONNECT a.b:443 HTTP/1.1\r\nHost: a.b:443\r\n\r\n"):
            async with await raw(running) as client:
                answer = await client.request(request)
                assert (answer.status, answer["connection"]) == (400, b"close")
                assert answer.body == b"this port speaks HTTPS, and the request was plain HTTP\n"
        await running.quiet()
        assert ends(running) == {"tls_plain_http": 2}


async def test_a_client_is_told_why_its_handshake_failed(tmp_path: Path) -> None:
    async with serving_tls(tmp_path, config={"tls_min_version": "1.3"}) as running:
        context = authority().client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
            await connect(running, context)
        await running.quiet()
        assert ends(running) == {"tls_handshake": 1}


async def test_tls_where_plain_http_is_spoken() -> None:
    async with serving(OK) as running:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await connect(running)
        assert ends(running) == {"malformed": 1}


async def test_a_crowd_shakes_hands(tmp_path: Path) -> None:
    async with serving_tls(tmp_path) as running:
        clients = await asyncio.gather(*(connect(running) for _ in range(40)))
        answers = await asyncio.gather(*(client.request(get()) for client in clients))
        assert {answer.status for answer in answers} == {200}
        for client in clients:
            client.close()
        await running.quiet()


# Certificates.


async def test_certificates_of_a_folder(tmp_path: Path) -> None:
    root = authority()
    folder = tmp_path / "certificates"
    made = {
        name: root.issue(*names)
        for name, names in {
            "a": ("*.example.com",),
            "b": ("app.example.com",),
            "default": ("fallback.example.org",),
        }.items()
    }
    for name, certificate in made.items():
        certificate.write(folder, name)
    (folder / "b.crt").rename(folder / "b.pem")
    (folder / "notes.txt").write_text("no certificate")
    async with serving(OK, tls_cert=str(folder), h2=False) as running:
        for name, expected in (
            ("app.example.com", "b"),
            ("www.example.com", "a"),
            ("fallback.example.org", "default"),
            ("elsewhere.org", "default"),
        ):
            assert await shown(running, name) == made[expected].fingerprint, name
        assert running.application.files >= {folder, folder / "a.crt", folder / "b.pem", folder / "b.key"}


async def shown(running: Running, name: str) -> str:
    """The fingerprint of what a client is shown under a name."""
    context = authority().client_context()
    context.check_hostname = False
    async with await connect(running, context, name) as client:
        der = client._writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return sha256(der).hexdigest()


async def test_tls_without_a_certificate_makes_one(tmp_path: Path) -> None:
    routes = {"match": {"domain": "app.localtest.me"}, **OK}
    async with serving(routes, tls=True, h2=False) as running:
        pem = ssl.get_server_certificate
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(None, lambda: pem(("127.0.0.1", port(running))))
        context = ssl.create_default_context(cadata=made)
        for name in ("localhost", "127.0.0.1", "app.localtest.me"):
            async with await connect(running, context, name) as client:
                assert (
                    await client.request(b"GET / HTTP/1.1\r\nHost: app.localtest.me\r\n\r\n")
                ).status == 200
        assert running.server.loaded is not None


async def test_changed_certificates_take_effect_on_reload(tmp_path: Path) -> None:
    one, two = (authority().issue("localhost") for _ in range(2))
    chain, key = one.write(tmp_path)
    document = {
        "services": {
            "web": {
                "listen": "127.0.0.1:0",
                "tls_cert": str(chain),
                "tls_key": str(key),
                "h2": False,
                "routes": [OK],
            }
        }
    }
    async with prox.Server(document) as server:
        running = Running(server)
        async with await connect(running) as client:
            assert (await client.request(get())).status == 200
            assert await shown(running, "localhost") == one.fingerprint
            chain.write_bytes(two.chain)
            with pytest.raises((prox.ConfigError, prox.StartError), match="does not fit"):
                await server.reload()
            assert await shown(running, "localhost") == one.fingerprint
            key.write_bytes(two.key_pem)
            await server.reload()
            assert await shown(running, "localhost") == two.fingerprint
            assert (await client.request(get())).status == 200


# Clients' certificates.


async def test_clients_are_asked_for_certificates(tmp_path: Path) -> None:
    own = authority().issue(subject="alice", client=True)
    stranger = type(authority()).root("Stranger").issue(subject="mallory", client=True)
    ca = str(authority().write_ca(tmp_path))
    for auth in ("request", "require"):
        config = {"tls_client_ca": ca, "tls_client_auth": auth}
        async with serving_tls(tmp_path, config=config) as running:
            context = authority().client_context(own, tmp_path)
            async with await connect(running, context) as client:
                assert (await client.request(get())).status == 200
                (connection,) = running.connections
                certificate = connection.client.certificate
                assert certificate is not None
                assert (certificate.subject, certificate.fingerprint) == ("CN=alice", own.fingerprint)
            await refused(running, authority().client_context(stranger, tmp_path))
            if auth == "require":
                await refused(running, authority().client_context())
            else:
                async with await connect(running) as client:
                    assert (await client.request(get())).status == 200
                    assert [each.client.certificate for each in running.connections] == [None]
            assert ends(running)["tls_client_certificate"] == (2 if auth == "require" else 1)


async def refused(running: Running, context: ssl.SSLContext) -> None:
    """In TLS 1.3 the client learns of it after its own handshake, with the first read."""
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await answered(running, context)


async def answered(running: Running, context: ssl.SSLContext) -> None:
    async with await connect(running, context) as client:
        await client.send(get())
        while await client._reader.read(100):
            pass
        raise ConnectionResetError
