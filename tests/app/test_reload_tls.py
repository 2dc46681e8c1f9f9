"""Reloads of TLS: on and off, other settings, other certificates; what is open goes on."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

import prox
from support.certificates import authority, localhost
from support.client import Client, get
from support.servers import Running
from support.tls import OK, connect


def document(listen: str, **service: Any) -> dict[str, Any]:
    return {"services": {"web": {"listen": listen, "routes": [OK], "h2": False, **service}}}


async def served(client: Client) -> bool:
    return (await client.request(get())).status == 200


async def test_tls_on_and_off_at_one_address(tmp_path: Path) -> None:
    chain, key = localhost().write(tmp_path)
    tls = {"tls_cert": str(chain), "tls_key": str(key)}
    listen = "127.0.0.1:0"
    async with prox.Server(document(listen)) as server:
        running = Running(server)
        async with await running.connect() as plain:
            assert await served(plain)
            await server.reload(document(listen, **tls))
            async with await connect(running) as secured:
                assert await served(secured)
                await server.reload(document(listen, **tls, tls=False))
                async with await running.connect() as again:
                    assert await served(again)
                assert await served(secured)
                assert await served(plain)
        await running.quiet()


async def test_other_settings_hold_for_new_handshakes(tmp_path: Path) -> None:
    chain, key = localhost().write(tmp_path)
    tls: dict[str, Any] = {"tls_cert": str(chain), "tls_key": str(key)}
    ca = str(authority().write_ca(tmp_path))
    old = authority().client_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    listen = "127.0.0.1:0"
    async with prox.Server(document(listen, **tls)) as server:
        running = Running(server)
        async with await connect(running, old) as client:
            assert await served(client)
            await server.reload(document(listen, **tls, config={"tls_min_version": "1.3"}))
            with pytest.raises(ssl.SSLError):
                await connect(running, old)
            required = {"tls_client_ca": ca, "tls_client_auth": "require"}
            await server.reload(document(listen, **tls, config=required))
            own = authority().issue(subject="alice", client=True)
            async with await connect(running, authority().client_context(own, tmp_path)) as shown:
                assert await served(shown)
            assert await served(client)
            await server.reload(document(listen, **tls, config={"tls_handshake_timeout": "50ms"}))
            async with await running.connect() as silent:
                await silent.closed()
        await running.quiet()


async def test_a_certificate_of_our_own_stays_over_reloads() -> None:
    listen = "127.0.0.1:0"
    async with prox.Server(document(listen, tls=True)) as server:
        address = server.addresses["web"]
        assert isinstance(address, tuple)
        loop = asyncio.get_running_loop()

        async def shown() -> str:
            return await loop.run_in_executor(None, ssl.get_server_certificate, address)

        first = await shown()
        await server.reload(document(listen, tls=True, config={"idle_timeout": "5s"}))
        assert await shown() == first
        named = {**OK, "match": {"domain": "app.example.com"}}
        await server.reload(document(listen, tls=True, routes=[named]))
        assert await shown() != first


async def test_over_a_unix_socket(tmp_path: Path) -> None:
    chain, key = localhost().write(tmp_path)
    path = str(tmp_path / "prox.sock")
    async with prox.Server(document(f"unix://{path}", tls_cert=str(chain), tls_key=str(key))):
        reader, writer = await asyncio.open_unix_connection(
            path, ssl=authority().client_context(), server_hostname="localhost"
        )
        async with Client(reader, writer) as client:
            assert await served(client)
            assert await served(client)
