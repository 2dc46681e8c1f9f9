"""Clients that others wrote, against prox without TLS."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import httpx
import pytest

from support.servers import Running, read_log, serving, write_sdk_plugin
from support.upstream import Upstream, UpstreamPeer, answer, answering

BODY = bytes(range(256)) * 4096


async def echo(peer: UpstreamPeer) -> None:
    while (message := await peer.request()) is not None:
        await peer.send(answer(message.body or b"none", b"X-Method: " + message.method))


def url(prox: Running, path: str = "/") -> str:
    return "http://{}:{}{}".format(*prox.address, path)


async def run(*command: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await process.communicate()
    assert process.returncode == 0, error
    return out


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_curl(tmp_path: Path) -> None:
    sent, got = tmp_path / "sent", tmp_path / "got"
    sent.write_bytes(BODY)
    curl = ["curl", "-sS", "-w", "%{http_version} %{http_code}", "-o", str(got)]
    h2 = [*curl, "--http2-prior-knowledge"]
    async with Upstream(echo) as upstream, serving(upstream.address, config={"h2c": True}) as prox:
        assert await run(*h2, "--data-binary", f"@{sent}", url(prox)) == b"2 200"
        assert got.read_bytes() == BODY
        # One request for each connection: without TLS some versions of curl fail to use one again, with any server.
        assert await run(*h2, "-H", "Expect: 100-continue", "-T", str(sent), url(prox)) == b"2 200"
        assert got.read_bytes() == BODY
        assert await run(*h2, url(prox, "/b")) == b"2 200"
        assert got.read_bytes() == b"none"
        assert await run(*curl, "--http2", url(prox)) == b"1.1 200", "Upgrade: h2c was honoured"


@pytest.mark.skipif(shutil.which("nghttp") is None, reason="needs nghttp, of Debian's nghttp2-client")
async def test_nghttp(tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    sent.write_bytes(BODY)
    async with Upstream(echo) as upstream, serving(upstream.address, config={"h2c": True}) as prox:
        assert await run("nghttp", "--data", str(sent), "-w", "14", "-W", "15", url(prox)) == BODY
        trailers = ["--trailer", "x-sum: 7", "-H", "te: trailers", "--no-content-length"]
        assert await run("nghttp", *trailers, "--data", str(sent), url(prox)) == BODY
        assert b"\r\n0\r\nx-sum: 7\r\n\r\n" in upstream.peers[0].received


@pytest.mark.skipif(shutil.which("h2load") is None, reason="needs h2load, of Debian's nghttp2-client")
async def test_h2load() -> None:
    async with (
        Upstream(answering(answer(BODY[:20_000]))) as upstream,
        serving(upstream.address, config={"h2c": True}) as prox,
    ):
        out = await run("h2load", "-n", "400", "-c", "4", "-m", "20", url(prox))
        assert b"400 succeeded, 0 failed, 0 errored, 0 timeout" in out
        assert prox.pipeline.counters.requests == 400
        await prox.quiet()


async def test_httpx() -> None:
    async with (
        Upstream(echo) as upstream,
        serving(upstream.address, config={"h2c": True}) as prox,
        httpx.AsyncClient(http1=False, http2=True) as client,
    ):
        answers = await asyncio.gather(
            *[client.post(url(prox), content=BODY[: 1000 * n]) for n in range(1, 9)]
        )
        for number, got in enumerate(answers, 1):
            assert (got.http_version, got.content) == ("HTTP/2", BODY[: 1000 * number])
        head = await client.head(url(prox))
        assert (head.status_code, head.headers["x-method"]) == (200, "HEAD")


async def test_what_plugins_and_logs_see(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    plugin = write_sdk_plugin(
        tmp_path,
        """
        @plugin.on_request
        async def ask(request):
            if request.path == "/no":
                return deny(403, "no")
            return allow(headers={"X-Seen": f"{request.proto} {request.headers.get('X-A')} {request.host}"})

        @plugin.on_response
        async def change(response):
            return modify(headers={"X-Changed": "Yes"})
        """,
    )
    async with Upstream(echo) as upstream:
        route = {
            "action": {"type": "proxy", "upstream": upstream.address},
            "plugins": [plugin],
            "access_log": str(log),
        }
        async with (
            serving(route, config={"h2c": True}, base=tmp_path) as prox,
            httpx.AsyncClient(http1=False, http2=True) as client,
        ):
            got = await client.post(url(prox, "/yes"), content=b"body", headers={"X-A": "b"})
            assert (got.status_code, got.content, got.headers["x-changed"]) == (200, b"body", "Yes")
            host = url(prox).removeprefix("http://").rstrip("/")
            assert f"X-Seen: HTTP/2.0 b {host}".encode() in upstream.peers[0].received
            denied = await client.get(url(prox, "/no"))
            assert (denied.status_code, denied.text) == (403, "no")
    first, second = read_log(log)
    assert (first["status"], first["bytes_in"], first["bytes_out"], first["verdict"]) == (200, 4, 4, "allow")
    assert (second["status"], second["verdict"], second["reason"]) == (403, "deny", "plugin_denied")
