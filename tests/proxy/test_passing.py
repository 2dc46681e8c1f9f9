"""TLS connections passed on unopened, through a whole prox: names, guards, balancers, ends, logs, reloads."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prox.tasks import spawn
from support.client import get
from support.hellos import hello, records
from support.passing import RawUpstream, Stream, answers, tls_connect, tls_upstream
from support.servers import Json, Running, make_config, read_log, serving, until, write_sdk_plugin
from support.upstream import Upstream


def passing(domain: str, upstream: str, **route: Any) -> Json:
    """A route that passes a domain on."""
    action = {"type": "pass", "upstream": upstream, **route.pop("action", {})}
    return {"match": {"domain": domain}, "action": action, **route}


@pytest.fixture(autouse=True)
def close_streams() -> Iterator[None]:
    """What a test leaves open must not stay so for the next."""
    yield
    Stream.close_all()


def static(text: str) -> Json:
    return {"action": {"type": "static", "body_ref": {"text": text}}}


async def opened(
    web: Running, upstream: RawUpstream, name: str = "a.example.com"
) -> tuple[Stream, Stream, bytes]:
    """A client whose hello has come to the upstream, which has it."""
    client = await Stream.connect(web.address)
    first = hello(name)
    await client.send(first)
    accepted = await upstream.accept()
    assert await accepted.receive(len(first)) == first
    return client, accepted, first


async def test_each_name_to_its_upstream(tmp_path: Path) -> None:
    names = ("one.example.com", "two.example.com")
    async with (
        tls_upstream(tmp_path, names[0]) as one,
        tls_upstream(tmp_path, names[1]) as two,
        serving([passing(names[0], one), passing("*.example.com", two)]) as web,
    ):
        assert isinstance(web.address, tuple)
        for name in (*names, *names):
            assert await answers(web.address, name) == name.encode()
        await until(lambda: not web.entry.connections)
        assert web.entry.counters.passed == 4
        assert web.entry.counters.active == 0


async def test_openssl_on_both_sides(tmp_path: Path) -> None:
    name = "openssl.example.com"
    async with tls_upstream(tmp_path, name) as upstream, serving(passing(name, upstream)) as web:
        assert isinstance(web.address, tuple)
        client = await asyncio.create_subprocess_exec(
            *(
                "openssl",
                "s_client",
                "-connect",
                f"127.0.0.1:{web.address[1]}",
                "-servername",
                name,
                "-quiet",
                "-no_ign_eof",
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert client.stdin is not None
        assert client.stdout is not None
        assert await client.stdout.readline() == name.encode() + b"\n"
        client.stdin.write(b"hello\n")
        assert await client.stdout.readline() == b"hello\n"
        client.stdin.close()
        await client.wait()


@pytest.mark.parametrize("record", [1, 7, 16384])
@pytest.mark.parametrize("piece", [1, 60, 100_000])
async def test_a_hello_in_pieces_and_records(record: int, piece: int) -> None:
    async with RawUpstream() as upstream, serving(passing("a.example.com", upstream.address)) as web:
        client = await Stream.connect(web.address)
        first = hello("a.example.com", filler=40, record=record)
        for at in range(0, len(first), piece):
            await client.send(first[at : at + piece])
            await asyncio.sleep(0)
        accepted = await upstream.accept()
        assert await accepted.receive(len(first)) == first
        client.close()


async def test_a_large_hello_and_what_follows_it_at_once() -> None:
    async with RawUpstream() as upstream, serving(passing("a.example.com", upstream.address)) as web:
        client = await Stream.connect(web.address)
        first = hello("a.example.com", filler=60_000) + b"\x14\x03\x03\x00\x01\x01" + b"early data" * 1000
        sending = spawn(client.send(first), "send")
        accepted = await upstream.accept()
        assert await accepted.receive(len(first)) == first
        await sending
        client.close()


async def test_a_hello_that_trickles_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prox.proxy.passing.HELLO_TIMEOUT", 0.3)
    async with RawUpstream() as upstream, serving(passing("a.example.com", upstream.address)) as web:
        client = await Stream.connect(web.address)
        began = asyncio.get_running_loop().time()

        async def trickle() -> None:
            for byte in hello("a.example.com", filler=1000):
                await client.send(bytes([byte]))
                await asyncio.sleep(0.01)

        with pytest.raises(ConnectionError):
            await trickle()
        assert 0.2 < asyncio.get_running_loop().time() - began < 2
        await until(lambda: not web.entry.connections)
        assert web.entry.counters.ends == {"hello_timeout": 1}
        assert await upstream.is_left_alone()


async def test_who_says_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prox.proxy.passing.HELLO_TIMEOUT", 0.05)
    async with serving(passing("a.example.com", "127.0.0.1:1")) as web:
        client = await Stream.connect(web.address)
        assert await client.is_closed()
        client.close()


@pytest.mark.parametrize("how", ["close", "reset", "end"])
async def test_who_leaves_within_the_hello(how: str) -> None:
    async with RawUpstream() as upstream, serving(passing("a.example.com", upstream.address)) as web:
        client = await Stream.connect(web.address)
        await client.send(hello("a.example.com")[:50])
        await until(lambda: web.entry.connections)
        getattr(client, how)()
        await until(lambda: not web.entry.connections)
        assert web.entry.counters.ends == {"client_aborted": 1}
        client.close()


async def test_half_closes_and_counts(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with RawUpstream() as upstream:
        route = passing("*.example.com", upstream.address, access_log=str(log))
        async with serving(route) as web:
            client, accepted, first = await opened(web, upstream)
            await client.send(b"up")
            client.end()
            assert await accepted.receive(100) == b"up"
            await accepted.send(b"down and down")
            assert await client.receive(13) == b"down and down"
            accepted.end()
            assert await client.receive(1) == b""
            await until(lambda: not web.entry.connections)
            assert web.entry.counters.bytes_in == len(first) + 2
            assert web.entry.counters.bytes_out == 13
        (line,) = read_log(log)
    assert line["server_name"] == "a.example.com"
    assert line["target"] == upstream.address
    assert (line["bytes_in"], line["bytes_out"], line["status"]) == (len(first) + 2, 13, 0)
    assert (line["service"], line["route"], line["client_ip"]) == ("web", 0, "127.0.0.1")
    assert "reason" not in line
    assert "plugin" not in line


async def test_a_reset_goes_through(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with RawUpstream() as upstream:
        async with serving(passing("a.example.com", upstream.address, access_log=str(log))) as web:
            client, accepted, _ = await opened(web, upstream)
            client.reset()
            with pytest.raises(ConnectionResetError):
                await accepted.receive(1)
            client, accepted, _ = await opened(web, upstream)
            accepted.reset()
            with pytest.raises(ConnectionResetError):
                await client.receive(1)
            client.close()
            await until(lambda: not web.entry.connections)
            assert web.entry.counters.ends == {"client_aborted": 1, "upstream_reset": 1}
        assert [line["reason"] for line in read_log(log)] == ["client_aborted", "upstream_reset"]


async def test_megabytes_are_what_they_were() -> None:
    data = random.Random(3).randbytes(16 * 1024 * 1024)
    async with RawUpstream() as upstream, serving(passing("a.example.com", upstream.address)) as web:
        client, accepted, _ = await opened(web, upstream)
        spawn(client.send(data), "up")
        spawn(accepted.send(data), "down")
        up, down = await asyncio.gather(accepted.receive(len(data)), client.receive(len(data)))
        digest = hashlib.sha256(data).digest()
        assert hashlib.sha256(up).digest() == digest
        assert hashlib.sha256(down).digest() == digest
        client.close()


async def test_an_upstream_that_refuses_is_logged_and_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log"
    nobody = RawUpstream()
    nobody.close()
    async with RawUpstream() as upstream:
        balancer = {"targets": [nobody.address, upstream.address]}
        route = passing("a.example.com", "{target}", balancer=balancer, access_log=str(log))
        async with serving(route) as web:
            refused = await Stream.connect(web.address)
            await refused.send(hello("a.example.com"))
            assert await refused.is_closed()
            for _ in range(3):
                client, accepted, _ = await opened(web, upstream)
                accepted.close()
                client.close()
            await until(lambda: not web.entry.connections)
            assert web.entry.counters.upstream_faults == {"connect_refused": 1}
            assert web.balancer.snapshot()["left_out"] == [nobody.address]
        lines = read_log(log)
    assert lines[0]["reason"] == "connect_refused"
    assert lines[0]["target"] == nobody.address


async def test_leastconn_counts_open_connections() -> None:
    async with RawUpstream() as one, RawUpstream() as two:
        balancer = {"type": "leastconn", "targets": [one.address, two.address]}
        async with serving(passing("a.example.com", "{target}", balancer=balancer)) as web:
            first, _, _ = await opened(web, one)
            second, accepted, _ = await opened(web, two)
            third, _, _ = await opened(web, one)
            accepted.reset()
            second.close()
            await until(lambda: len(web.entry.connections) == 2)
            fourth, _, _ = await opened(web, two)
            for client in (first, third, fourth):
                client.close()


async def test_variables_and_no_target() -> None:
    async with RawUpstream() as upstream:
        route = passing("*.example.com", "127.0.0.1:{port}", set={"port": str(upstream.port)})
        async with serving(route) as web:
            client, _, _ = await opened(web, upstream)
            client.close()


async def test_no_target(tmp_path: Path) -> None:
    log = tmp_path / "log"
    nobody = [RawUpstream() for _ in range(2)]
    for upstream in nobody:
        upstream.close()
    balancer = {"targets": [upstream.address for upstream in nobody]}
    async with serving(passing("a.example.com", "{target}", balancer=balancer, access_log=str(log))) as web:
        for _ in range(3):
            client = await Stream.connect(web.address)
            await client.send(hello("a.example.com"))
            assert await client.is_closed()
        await until(lambda: not web.entry.connections)
    assert [line["reason"] for line in read_log(log)] == ["connect_refused"] * 2 + ["no_healthy_target"]


async def test_pushed_targets_are_used_and_their_captures_choose(tmp_path: Path) -> None:
    async with RawUpstream() as one, RawUpstream() as two:
        body = f"""
plugin.set_targets(action="passed", groups={{"a": ["{one.address}"], "b": ["{two.address}"]}})
"""
        path = write_sdk_plugin(tmp_path, body, "discover.py")
        root = {
            "plugins": {"discover": {"path": path, "autostart": True, "hooks": []}},
            "actions": {"passed": {"type": "pass", "upstream": "{target}"}},
        }
        route = {"match": {"domain": "*.example.com"}, "action": "passed", "balancer": {"type": "random"}}
        async with serving(route, root=root) as web:
            await until(lambda: "groups" in web.balancer.snapshot())
            for name, upstream in (("a", one), ("b", two), ("a", one)):
                client, accepted, _ = await opened(web, upstream, f"{name}.example.com")
                accepted.reset()
                client.close()
            client = await Stream.connect(web.address)
            await client.send(hello("c.example.com"))
            assert await client.is_closed()
            await until(lambda: not web.entry.connections)
            assert web.entry.counters.upstream_faults == {"no_target": 1}


async def test_a_client_that_leaves_while_a_guard_is_asked_or_a_place_is_waited_for(tmp_path: Path) -> None:
    body = """
@plugin.on_connect
async def check(conn):
    await asyncio.sleep(0.3)
    return True
"""
    async with RawUpstream() as upstream:
        route, root = guarded(tmp_path, body, upstream.address)
        async with serving(route, root=root) as web:
            client = await Stream.connect(web.address)
            await client.send(hello("a.example.com"))
            await until(lambda: web.entry.connections)
            client.reset()
            await until(lambda: not web.entry.connections)
            assert web.entry.counters.active == 0
            assert web.entry.counters.ends == {"client_aborted": 1}
            assert await upstream.is_left_alone()
        (line,) = read_log(tmp_path / "log")
        assert (line["reason"], line["verdict"], line["target"]) == ("client_aborted", "allow", "")


async def test_a_place_is_waited_for() -> None:
    async with RawUpstream() as upstream:
        action = {"max_connections": 1, "max_queue": 1, "queue_timeout": 5}
        async with serving(passing("a.example.com", upstream.address, action=action)) as web:
            first, _, _ = await opened(web, upstream)
            second = await Stream.connect(web.address)
            await second.send(hello("a.example.com"))
            await until(lambda: len(web.entry.connections) == 2)
            third = await Stream.connect(web.address)
            await third.send(hello("a.example.com"))
            assert await third.is_closed()
            assert await upstream.is_left_alone()
            first.reset()
            accepted = await upstream.accept()
            assert await accepted.receive(3) == b"\x16\x03\x01"
            second.reset()
            await until(lambda: not web.entry.connections)
            assert web.entry.counters.upstream_faults == {"queue_full": 1}


async def test_drop_closes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    routes = [
        {"match": {"domain": "bad.example.com"}, "action": {"type": "drop"}, "access_log": str(log)},
        passing("*.example.com", "127.0.0.1:1"),
    ]
    async with serving(routes) as web:
        client = await Stream.connect(web.address)
        await client.send(hello("bad.example.com"))
        assert await client.is_closed()
        await until(lambda: not web.entry.connections)
        assert web.entry.counters.ends == {"dropped": 1}
    (line,) = read_log(log)
    assert (line["reason"], line["server_name"]) == ("dropped", "bad.example.com")


async def test_without_tls_plain_requests_go_on_and_unknown_names_are_told() -> None:
    async with serving([passing("a.example.com", "127.0.0.1:1"), static("plain")]) as web:
        async with await web.connect() as client:
            for _ in range(2):
                answer = await client.request(get("/"))
                assert (answer.status, answer.body) == (200, b"plain")
        raw = await Stream.connect(web.address)
        await raw.send(hello("b.example.com"))
        assert await raw.receive(7) == b"\x15\x03\x03\x00\x02\x02\x70"
        assert await raw.is_closed()
        broken = await Stream.connect(web.address)
        await broken.send(records(b"\x02\0\0\0"))
        assert await broken.is_closed()
        await until(lambda: not web.entry.connections)
        assert web.entry.counters.ends == {"no_route": 1, "malformed": 1}


async def test_a_request_for_a_passed_host_is_misdirected() -> None:
    routes = [passing("a.example.com", "127.0.0.1:1"), static("plain")]
    async with serving(routes) as web, await web.connect() as client:
        answer = await client.request(b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n")
        assert answer.status == 421


async def test_a_drop_of_a_path_leaves_the_connection_alone() -> None:
    routes = [
        {"match": {"domain": "a.example.com", "path": "/secret"}, "action": {"type": "drop"}},
        passing("a.example.com", "127.0.0.1:1"),
    ]
    async with serving(routes) as web:
        client = await Stream.connect(web.address)
        await client.send(hello("a.example.com"))
        # The first route that matches decides, and it is for HTTP.
        assert await client.receive(7) == b"\x15\x03\x03\x00\x02\x02\x70"
        client.close()


GUARD = """
@plugin.on_connect
def check(conn):
    with open(os.environ["SEEN"], "a") as file:
        file.write(json.dumps(["connect", conn.domain, conn.match_domain, conn.match_glob, conn.client]) + "\\n")
    return conn.domain.startswith("good")

@plugin.on_disconnect
def gone(info):
    with open(os.environ["SEEN"], "a") as file:
        file.write(json.dumps(["disconnect", info.bytes_received, info.bytes_sent, info.target, info.client]) + "\\n")
"""


def guarded(folder: Path, body: str, upstream: str, **plugin: Any) -> tuple[Json, Json]:
    """A route behind a guard, and the root's further keys."""
    path = write_sdk_plugin(folder, body, "guard.py")
    plugins = {"guard": {"path": path, "env": {"SEEN": str(folder / "seen")}, **plugin}}
    log = str(folder / "log")
    return passing("*.example.com", upstream, plugins=["guard"], access_log=log), {"plugins": plugins}


def seen(folder: Path) -> list[list[Any]]:
    return read_log(folder / "seen")  # type: ignore[return-value] # lists, not objects


async def test_a_guard_is_asked_before_a_byte_goes_on(tmp_path: Path) -> None:
    async with RawUpstream() as upstream:
        route, root = guarded(tmp_path, GUARD, upstream.address)
        async with serving(route, root=root) as web:
            bad = await Stream.connect(web.address)
            await bad.send(hello("bad.example.com"))
            assert await bad.is_closed()
            assert await upstream.is_left_alone()
            client, accepted, first = await opened(web, upstream, "good.example.com")
            address = f"127.0.0.1:{client.sock.getsockname()[1]}"
            await accepted.send(b"12345")
            assert await client.receive(5) == b"12345"
            accepted.end()
            client.close()
            await until(lambda: len(seen(tmp_path)) == 3)
            await until(lambda: not web.entry.connections)
            assert web.entry.counters.ends == {"plugin_denied": 1}
        told = seen(tmp_path)
        assert told[0][:4] == ["connect", "bad.example.com", "bad", ""]
        assert told[1] == ["connect", "good.example.com", "good", "", address]
        assert told[2] == ["disconnect", len(first), 5, "", address]
        lines = read_log(tmp_path / "log")
        assert [line["verdict"] for line in lines] == ["deny", "allow"]
        assert [line["plugin"] for line in lines] == ["guard", "guard"]
        assert [line.get("reason") for line in lines] == ["plugin_denied", None]
        assert lines[0]["target"] == ""


@pytest.mark.parametrize("policy", ["deny", "allow"])
async def test_a_guard_that_is_not_ready(tmp_path: Path, policy: str) -> None:
    body = "sys.stdin.read()\n"
    async with RawUpstream() as upstream:
        route, root = guarded(tmp_path, body, upstream.address, on_error=policy, start_timeout=0.2)
        async with serving(route, root=root) as web:
            if policy == "allow":
                client, _, _ = await opened(web, upstream)
                client.close()
            else:
                client = await Stream.connect(web.address)
                await client.send(hello("good.example.com"))
                assert await client.is_closed()
                assert await upstream.is_left_alone()
                await until(lambda: not web.entry.connections)
                assert web.entry.counters.ends == {"plugin_error": 1}


async def test_a_guard_that_is_killed_while_it_is_asked(tmp_path: Path) -> None:
    body = """
@plugin.on_connect
def check(conn):
    os.kill(os.getpid(), 9)
"""
    async with RawUpstream() as upstream:
        route, root = guarded(tmp_path, body, upstream.address)
        async with serving(route, root=root) as web:
            for _ in range(3):  # the second and the third meet one that is starting again
                client = await Stream.connect(web.address)
                await client.send(hello("good.example.com"))
                assert await client.is_closed()
            assert await upstream.is_left_alone()
            await until(lambda: not web.entry.connections)
            assert web.entry.counters.ends == {"plugin_error": 3}
        assert {line["verdict"] for line in read_log(tmp_path / "log")} == {"error"}


async def test_a_guard_that_takes_too_long(tmp_path: Path) -> None:
    body = """
@plugin.on_connect
async def check(conn):
    await asyncio.sleep(60)
"""
    async with RawUpstream() as upstream:
        route, root = guarded(tmp_path, body, upstream.address)
        async with serving({**route, "plugin_timeout": 0.2}, root=root) as web:
            client = await Stream.connect(web.address)
            await client.send(hello("good.example.com"))
            assert await client.is_closed()
            assert await upstream.is_left_alone()


async def test_relays_outlive_reloads_and_end_with_the_server(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with RawUpstream() as upstream:
        route = passing("a.example.com", upstream.address, access_log=str(log))
        async with serving(route) as web:
            client, accepted, _ = await opened(web, upstream)
            for _ in range(2):
                await web.reload(make_config(route))
                await client.send(b"still")
                assert await accepted.receive(5) == b"still"
            await web.reload(make_config(static("other")))
            await client.send(b"still")
            assert await accepted.receive(5) == b"still"
            new = await Stream.connect(web.address)
            await new.send(hello("a.example.com"))
            assert (await new.receive(12)).startswith(b"HTTP/1.1 400")
            new.close()
        with pytest.raises(ConnectionResetError):
            await client.receive(1)
        with pytest.raises(ConnectionResetError):
            await accepted.receive(1)
        (line,) = read_log(log)
        assert line["reason"] == "shutdown"


async def test_connections_are_counted_and_limited() -> None:
    async with RawUpstream() as upstream:
        route = passing("a.example.com", upstream.address)
        async with serving(route, config={"max_connections": 2}) as web:
            one, _, _ = await opened(web, upstream)
            silent = await Stream.connect(web.address)  # counts before it has said anything
            await until(lambda: len(web.entry.connections) == 2)
            with pytest.raises(ConnectionResetError):
                await (await Stream.connect(web.address)).receive(1)
            silent.close()
            await until(lambda: len(web.entry.connections) == 1)
            two, _, _ = await opened(web, upstream)
            one.close()
            two.close()


async def test_silence_ends_a_relay() -> None:
    async with RawUpstream() as upstream:
        route = passing("a.example.com", upstream.address)
        async with serving(route, config={"relay_idle_timeout": 0.1}) as web:
            client, accepted, _ = await opened(web, upstream)
            assert await client.receive(1) == b""
            assert await accepted.receive(1) == b""
            await until(lambda: not web.entry.connections)
            assert web.entry.counters.ends == {"relay_idle_timeout": 1}
            client.close()


async def test_a_unix_socket(tmp_path: Path) -> None:
    async with RawUpstream() as upstream:
        listen = f"unix://{tmp_path}/s"
        async with serving(passing("a.example.com", upstream.address), listen=listen) as web:
            client = await Stream.connect(web.address)
            first = hello("a.example.com")
            for at in range(0, len(first), 40):
                await client.send(first[at : at + 40])
                await asyncio.sleep(0)
            accepted = await upstream.accept()
            assert await accepted.receive(len(first)) == first
            await accepted.send(b"hi")
            assert await client.receive(2) == b"hi"
            client.close()


async def test_many_connections_leave_nothing() -> None:
    async with RawUpstream() as upstream, serving(passing("a.example.com", upstream.address)) as web:

        def descriptors() -> int:
            return len(list(Path("/proc/self/fd").iterdir()))

        async def one(number: int) -> None:
            client = await Stream.connect(web.address)
            await client.send(hello("a.example.com"))
            if number % 3:
                assert await client.receive(4) == b"okay"
            if number % 2:
                client.reset()
            client.close()

        async def serve() -> None:
            while True:
                accepted = await upstream.accept()
                with contextlib.suppress(ConnectionError):
                    await accepted.send(b"okay")
                    accepted.end()

        answering = spawn(serve(), "serve")
        for _ in range(2):
            await asyncio.gather(*(one(number) for number in range(10)))
            await until(lambda: not web.entry.connections)
            for stream in upstream.accepted:
                stream.close()
        before = descriptors()
        for _ in range(10):
            await asyncio.gather(*(one(number) for number in range(30)))
            await until(lambda: not web.entry.connections)
            for stream in upstream.accepted:
                stream.close()
        answering.cancel()
        # A few pipes are kept for the next.
        assert descriptors() <= before + 64
        stores = web.application._stores
        assert len(stores.spare) <= 32


async def test_tls_ends_here_or_there_on_one_port(tmp_path: Path) -> None:
    from support.certificates import authority

    certificate, key = authority().issue("here.example.com").write(tmp_path, "here")
    async with tls_upstream(tmp_path, "there.example.com") as there, Upstream() as plain:
        routes = [
            passing("there.example.com", there),
            {"match": {"domain": "here.example.com"}, "action": {"type": "proxy", "upstream": plain.address}},
        ]
        async with serving(routes, tls_cert=str(certificate), tls_key=str(key)) as web:
            assert isinstance(web.address, tuple)
            for _ in range(3):
                assert await answers(web.address, "there.example.com") == b"there.example.com"
                reader, writer = await tls_connect(web.address, "here.example.com")
                writer.write(b"GET / HTTP/1.1\r\nHost: here.example.com\r\nConnection: close\r\n\r\n")
                assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
                writer.close()
