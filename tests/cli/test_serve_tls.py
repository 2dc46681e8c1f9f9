"""`prox serve` with TLS: changed files are noticed, what can't be served changes nothing, idle connections are small."""

from __future__ import annotations

import asyncio
import signal
import ssl
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from support.certificates import Certificate, authority
from support.client import Client, get
from support.prox_process import ProxProcess

ROUTES = '[{ action: { type: "static", body_ref: { text: "ok" } } }]'

CROWD = 150


def configure(folder: Path, keys: str) -> Path:
    path = folder / "config.json5"
    path.write_text(
        f'{{ services: {{ web: {{ listen: "127.0.0.1:0", h2: false, {keys}, routes: {ROUTES} }} }} }}'
    )
    return path


async def connect(address: Any, name: str = "localhost", context: ssl.SSLContext | None = None) -> Client:
    context = context or authority().client_context()
    reader, writer = await asyncio.open_connection(*address, ssl=context, server_hostname=name)
    return Client(reader, writer)


async def shown(address: Any, name: str) -> str:
    context = authority().client_context()
    context.check_hostname = False
    async with await connect(address, name, context) as client:
        der = client._writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return sha256(der).hexdigest()


def issue(*names: str) -> Certificate:
    return authority().issue(*names)


async def test_changed_certificates_are_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    one, two, three = issue("a.example.com"), issue("a.example.com"), issue("b.example.com")
    one.write(folder, "a")
    async with ProxProcess(configure(tmp_path, 'tls_cert: "certificates"')) as prox:
        address = await prox.address()
        async with await connect(address, "a.example.com") as client:
            assert (await client.request(get())).status == 200
            # The certificate comes first, and its key does not fit yet.
            (folder / "a.crt").write_bytes(two.chain)
            await prox.said("does not fit")
            await prox.said("the one before stays in force")
            assert await shown(address, "a.example.com") == one.fingerprint
            (folder / "a.key").write_bytes(two.key_pem)
            await prox.said("the new configuration is in force")
            assert await shown(address, "a.example.com") == two.fingerprint
            # Another pair beside it.
            (folder / "b.key").write_bytes(three.key_pem)
            (folder / "b.crt").write_bytes(three.chain)
            await prox.said("the new configuration is in force", 2)
            assert await shown(address, "b.example.com") == three.fingerprint
            assert (await client.request(get())).status == 200
        prox.signal(signal.SIGTERM)
        assert await prox.exited() == 0


async def test_a_certificate_of_its_own_is_said(tmp_path: Path) -> None:
    async with ProxProcess(configure(tmp_path, "tls: true")) as prox:
        await prox.said("there is no certificate: prox makes one for localhost, 127.0.0.1, ::1")
        await prox.address()
        prox.signal(signal.SIGTERM)
        assert await prox.exited() == 0


async def test_without_tls_nothing_of_it_is_loaded() -> None:
    code = """
import asyncio, sys, prox
config = {"services": {"web": {"listen": "127.0.0.1:0", "routes": [{"action": {"type": "drop"}}]}}}
async def main():
    async with prox.Server(config):
        print(sorted({"cryptography", "prox.tls.store", "prox.app.securing"} & sys.modules.keys()))
asyncio.run(main())
"""
    program = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert (await program.communicate())[0] == b"[]\n"


async def test_an_idle_connection_takes_less_than_40_kib(tmp_path: Path) -> None:
    issue("localhost").write(tmp_path)
    async with ProxProcess(configure(tmp_path, 'tls_cert: "server.crt", tls_key: "server.key"')) as prox:
        address = await prox.address()
        clients = []

        async def crowd(number: int) -> None:
            for _ in range(number):
                client = await connect(address)
                clients.append(client)
                assert (await client.request(get())).status == 200

        await crowd(50)
        before = anonymous(prox.pid)
        await crowd(CROWD)
        assert (anonymous(prox.pid) - before) / CROWD < 40
        for client in clients:
            client.close()
        prox.signal(signal.SIGTERM)
        assert await prox.exited() == 0


def anonymous(pid: int) -> int:
    """KiB of memory that a process has to itself."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))
