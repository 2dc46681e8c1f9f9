"""Upstreams of others over TLS and HTTP/2: what they are sent arrives, and in the protocol that was to be."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from support.certificates import authority, localhost
from support.client import get, post, post_chunked
from support.judges import serving_port, tool
from support.servers import serving, until

NODE = """
import { createServer, createSecureServer } from "node:http2";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
const [certificate, key] = process.argv.slice(2);
const handler = (request, response) => {
  const hash = createHash("sha256");
  let size = 0;
  request.on("data", (data) => { size += data.length; hash.update(data); });
  request.on("end", () => {
    if (request.url === "/empty") { response.writeHead(204); response.end(); return; }
    if (request.url === "/big") { response.end(Buffer.alloc(5000000, "x")); return; }
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({
      version: request.httpVersion, method: request.method, url: request.url, size, sum: hash.digest("hex"),
    }));
  });
};
const server = certificate
  ? createSecureServer({ cert: readFileSync(certificate), key: readFileSync(key), allowHTTP1: true }, handler)
  : createServer(handler);
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
"""

NGINX = """
daemon off; {user} worker_processes 1; pid {folder}/pid; error_log stderr crit;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder}; client_max_body_size 0;
  server {{
    listen 127.0.0.1:{port} ssl http2; ssl_certificate {certificate}; ssl_certificate_key {key};
    location /empty {{ return 204; }}
    location /big {{ root {folder}; }}
    location / {{ return 200 "$server_protocol $request_method $request_uri $http_content_length"; }}
  }}
}}
"""


@asynccontextmanager
async def node(folder: Path, *, tls: bool) -> AsyncIterator[str]:
    script = folder / "server.mjs"
    script.write_text(NODE)
    pair = localhost().write(folder) if tls else ()
    async with serving_port([tool("node"), str(script), *map(str, pair)]) as address:
        yield address


@asynccontextmanager
async def nginx(folder: Path) -> AsyncIterator[str]:
    certificate, key = localhost().write(folder)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    (folder / "big").write_bytes(b"x" * 5_000_000)
    config = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""  # who may read the folder
    made = NGINX.format(folder=folder, port=port, certificate=certificate, key=key, user=user)
    config.write_text(made)
    process = await asyncio.create_subprocess_exec(tool("nginx"), "-c", str(config), "-p", str(folder))
    try:
        await until((folder / "pid").exists, "nginx does not start")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


def route(address: str, folder: Path, proto: str | None, *, tls: bool) -> dict[str, Any]:
    action: dict[str, Any] = {"type": "proxy", "upstream": f"{'https' if tls else 'http'}://{address}"}
    if tls:
        action["tls"] = {"ca": str(authority().write_ca(folder))}
    if proto is not None:
        action["proto"] = proto
    return {"action": action}


@pytest.mark.parametrize(
    ("tls", "proto", "version"),
    [(True, None, "2.0"), (True, "h2", "2.0"), (True, "http/1.1", "1.1"), (False, "h2", "2.0")],
)
async def test_node(tmp_path: Path, tls: bool, proto: str | None, version: str) -> None:
    async with (
        node(tmp_path, tls=tls) as address,
        serving(route(address, tmp_path, proto, tls=tls)) as prox,
        await prox.connect() as client,
    ):
        for sent, method, body in [
            (get("/a?b=c"), "GET", b""),
            (post(b"", path="/a?b=c"), "POST", b""),
            (post(b"x" * 100, path="/a?b=c"), "POST", b"x" * 100),
            (post(b"y" * 3_000_000, path="/a?b=c"), "POST", b"y" * 3_000_000),
            (post_chunked(b"z" * 1000, b"z" * 100_000, path="/a?b=c"), "POST", b"z" * 101_000),
        ]:
            response = await client.request(sent)
            assert response.status == 200
            assert json.loads(response.body) == {
                "version": version,
                "method": method,
                "url": "/a?b=c",
                "size": len(body),
                "sum": hashlib.sha256(body).hexdigest(),
            }
        assert (await client.request(get("/empty"))).status == 204
        assert (await client.request(get(method="HEAD"), "HEAD")).status == 200
        await client.send(get("/big"))
        await client.head()
        await client.take(5_000_000)
        clients = [await prox.connect() for _ in range(20)]
        responses = await asyncio.gather(*(each.request(get()) for each in clients))
        assert {response.status for response in responses} == {200}
        for each in clients:
            each.close()


@pytest.mark.parametrize(("proto", "version"), [(None, b"HTTP/2.0"), ("http/1.1", b"HTTP/1.1")])
async def test_nginx(tmp_path: Path, proto: str | None, version: bytes) -> None:
    async with (
        nginx(tmp_path) as address,
        serving(route(address, tmp_path, proto, tls=True)) as prox,
        await prox.connect() as client,
    ):
        assert (await client.request(get("/a?b"))).body == version + b" GET /a?b "
        assert (await client.request(post(b"x" * 1000))).body == version + b" POST / 1000"
        assert (await client.request(get("/empty"))).status == 204
        await client.send(get("/big"))
        await client.head()
        await client.take(5_000_000)
        clients = [await prox.connect() for _ in range(20)]
        responses = await asyncio.gather(*(each.request(get()) for each in clients))
        assert {response.status for response in responses} == {200}
        for each in clients:
            each.close()
