"""The PROXY protocol and passed connections with nginx and HAProxy on either side."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.client import get
from support.passing import Stream, answers, tls_upstream
from support.servers import Json, read_log, serving, until

needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
needs_haproxy = pytest.mark.skipif(shutil.which("haproxy") is None, reason="HAProxy is not installed")

STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
REQUEST = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"


@pytest.fixture(autouse=True)
def close_streams() -> Iterator[None]:
    yield
    Stream.close_all()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@asynccontextmanager
async def running(*command: str, sock: socket.socket, **env: str) -> AsyncIterator[None]:
    """A program that accepts from a socket that is given to it."""
    process = await asyncio.create_subprocess_exec(
        *command,
        pass_fds=[sock.fileno()],
        env={**os.environ, **env},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield
    finally:
        said = b""
        if process.returncode is None:
            process.terminate()
        assert process.stderr is not None
        said = await process.stderr.read()
        await process.wait()
        assert process.returncode is not None, said


@asynccontextmanager
async def nginx(folder: Path, sock: socket.socket, block: str) -> AsyncIterator[tuple[str, int]]:
    address: tuple[str, int] = sock.getsockname()
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n"
        f"{f'load_module {STREAM_MODULE};' if 'stream {' in block else ''}\nevents {{}}\n"
        + block.replace("LISTEN", f"{address[0]}:{address[1]}").replace("FOLDER", str(folder))
    )
    async with running(
        "nginx", "-c", str(config), "-e", f"{folder}/nginx.log", sock=sock, NGINX=f"{sock.fileno()};"
    ):
        yield address


@asynccontextmanager
async def haproxy(
    folder: Path, sock: socket.socket, listen: str, mode: str = "tcp"
) -> AsyncIterator[tuple[str, int]]:
    config = folder / "haproxy.cfg"
    config.write_text(
        f"defaults\n mode {mode}\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n"
        f"listen it\n{listen.replace('LISTEN', f'fd@{sock.fileno()}')}\n"
    )
    async with running("haproxy", "-q", "-db", "-f", str(config), sock=sock):
        yield sock.getsockname()


def trusting(**service: object) -> Json:
    return {"trusted_proxies": ["127.0.0.0/8"], "config": {"proxy_protocol": True}, **service}


async def ask(address: tuple[str, int] | str) -> tuple[bytes, tuple[str, int]]:
    """The answer, and the address that was asked from."""
    stream = await Stream.connect(address)
    await stream.send(REQUEST)
    own: tuple[str, int] = stream.sock.getsockname()
    return await stream.receive(100_000), own


@needs_nginx
async def test_nginx_stream_in_front(tmp_path: Path, listening: socket.socket) -> None:
    log = tmp_path / "log"
    route = {"action": {"type": "static", "body_ref": {"text": "here"}}, "access_log": str(log)}
    async with serving(route, **trusting()) as web:
        assert isinstance(web.address, tuple)
        block = "stream { server { listen LISTEN; proxy_pass 127.0.0.1:%d; proxy_protocol on; } }"
        async with nginx(tmp_path, listening, block % web.address[1]) as front:
            answer, _ = await ask(front)
            assert answer.startswith(b"HTTP/1.1 200")
    assert read_log(log)[0]["client_ip"] == "127.0.0.1"


@needs_nginx
@pytest.mark.parametrize("version", [1, 2])
async def test_nginx_as_upstream(tmp_path: Path, listening: socket.socket, version: int) -> None:
    block = """http { access_log off; client_body_temp_path FOLDER; proxy_temp_path FOLDER; fastcgi_temp_path FOLDER;
        uwsgi_temp_path FOLDER; scgi_temp_path FOLDER;
        server { listen LISTEN proxy_protocol; location / { return 200 "$proxy_protocol_addr:$proxy_protocol_port"; } } }"""
    async with nginx(tmp_path, listening, block) as (host, port):
        action = {"type": "proxy", "upstream": f"{host}:{port}", "send_proxy": version}
        async with serving({"action": action}) as web, await web.connect() as client:
            own = client._writer.get_extra_info("sockname")  # what nginx is to be told
            for _ in range(3):
                answer = await client.request(get("/"))
                assert answer.body == f"127.0.0.1:{own[1]}".encode()


@needs_haproxy
@pytest.mark.parametrize(
    "options", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"]
)
async def test_haproxy_in_front(tmp_path: Path, listening: socket.socket, options: str) -> None:
    log = tmp_path / "log"
    route = {"action": {"type": "static", "body_ref": {"text": "here"}}, "access_log": str(log)}
    async with serving(route, **trusting()) as web:
        assert isinstance(web.address, tuple)
        listen = f" bind LISTEN\n unique-id-format %ID\n server s 127.0.0.1:{web.address[1]} {options}"
        async with haproxy(tmp_path, listening, listen) as front:
            answer, _ = await ask(front)
            assert answer.startswith(b"HTTP/1.1 200")
        await until(lambda: not web.entry.connections)
        assert web.entry.counters.ends == {}


@needs_haproxy
async def test_haproxys_checks_are_connections_of_nobody(tmp_path: Path, listening: socket.socket) -> None:
    """They come with LOCAL."""
    async with serving({"action": {"type": "static"}}, **trusting()) as web:
        assert isinstance(web.address, tuple)
        listen = (
            " bind LISTEN\n option httpchk\n"
            f" server s 127.0.0.1:{web.address[1]} send-proxy-v2 check check-send-proxy inter 50ms"
        )
        async with haproxy(tmp_path, listening, listen, mode="http"):
            await until(lambda: web.entry.counters.requests >= 2)
            assert web.entry.counters.statuses[2] == web.entry.counters.requests
            assert web.entry.counters.ends == {}


@needs_haproxy
@pytest.mark.parametrize("version", [1, 2])
async def test_haproxy_as_upstream_of_a_passed_connection(
    tmp_path: Path, listening: socket.socket, version: int
) -> None:
    name = "a.example.com"
    async with tls_upstream(tmp_path, name) as upstream:
        listen = f" bind LISTEN accept-proxy\n server s {upstream}"
        async with haproxy(tmp_path, listening, listen) as (host, port):
            action = {"type": "pass", "upstream": f"{host}:{port}", "send_proxy": version}
            async with serving({"match": {"domain": name}, "action": action}) as web:
                assert isinstance(web.address, tuple)
                assert await answers(web.address, name) == name.encode()


@needs_haproxy
async def test_haproxy_between_two_prox(tmp_path: Path, listening: socket.socket) -> None:
    """It reads what prox writes and writes it again: the client at the far end is the one at the near end."""
    log = tmp_path / "log"
    route = {"action": {"type": "static"}, "access_log": str(log)}
    async with serving(route, **trusting()) as inner:
        assert isinstance(inner.address, tuple)
        listen = f" bind LISTEN accept-proxy\n server s 127.0.0.1:{inner.address[1]} send-proxy-v2"
        async with haproxy(tmp_path, listening, listen) as (host, port):
            action = {"type": "proxy", "upstream": f"{host}:{port}", "send_proxy": 2}
            async with serving({"action": action}, **trusting()) as outer:
                stream = await Stream.connect(outer.address)
                await stream.send(b"PROXY TCP4 198.51.100.7 203.0.113.1 4711 80\r\n" + REQUEST)
                assert (await stream.receive(100_000)).startswith(b"HTTP/1.1 200")
    assert read_log(log)[0]["client_ip"] == "198.51.100.7"
