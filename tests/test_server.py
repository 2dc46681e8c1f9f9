"""prox as a library: life, errors, and the loops it runs on."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import prox
from support.client import Client, get
from support.plugin_host import alive
from support.servers import make_config, until, write_sdk_plugin
from support.upstream import OK, Upstream, UpstreamPeer


def text(body: str) -> dict[str, Any]:
    return make_config({"action": {"type": "static", "body_ref": {"text": body}}})


async def ask(server: prox.Server, path: str = "/") -> bytes:
    async with await Client.connect(server.addresses["web"]) as client:
        return (await client.request(get(path))).body


async def test_serves_between_enter_and_exit() -> None:
    async with prox.Server(text("hello")) as server:
        address = server.addresses["web"]
        assert await ask(server) == b"hello"
    assert server.addresses == {}
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(address)


def test_runs_on_the_loop_of_asyncio(tmp_path: Path) -> None:
    write_sdk_plugin(
        tmp_path,
        """
        @plugin.on_request
        async def guard(request): return request.allow(headers={"X-User": "u"})
        """,
    )

    async def main() -> None:
        assert type(asyncio.get_running_loop()).__module__.startswith("asyncio.")
        async with Upstream() as upstream:
            config = make_config(
                {"action": {"type": "proxy", "upstream": upstream.address}, "plugins": ["./plugin.py"]}
            )
            async with (
                prox.Server(config, base=tmp_path) as server,
                await Client.connect(server.addresses["web"]) as client,
            ):
                for body in (b"", b"x" * 300_000):
                    head = get("/", f"Content-Length: {len(body)}", method="POST")
                    assert (await client.request(head + body, "POST")).body == b"ok"
                await server.reload(text("again"))
                assert (await client.request(get("/"))).body == b"again"
            assert [(b"X-User", b"u") in request.headers for request in upstream.requests] == [True, True]

    asyncio.run(main())


def test_a_program_loads_neither_uvloop_nor_the_command_line() -> None:
    code = (
        "import sys, asyncio, prox\n"
        "async def main():\n"
        "    config = {'services': {'web': {'listen': '127.0.0.1:0', 'routes': [{'action': {'type': 'drop'}}]}}}\n"
        "    async with prox.Server(config): print('uvloop' in sys.modules, 'typer' in sys.modules)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


async def test_can_be_started_again() -> None:
    server = prox.Server(text("x"))
    for _ in range(2):
        await server.start()
        assert await ask(server) == b"x"
        await server.stop()
    await server.stop()


async def test_is_not_started_twice() -> None:
    async with prox.Server(text("x")) as server:
        with pytest.raises(RuntimeError, match="is running"):
            await server.start()
        assert await ask(server) == b"x"


async def test_two_in_one_program() -> None:
    async with prox.Server(text("one")) as one, prox.Server(text("two")) as two:
        assert one.addresses != two.addresses
        assert (await ask(one), await ask(two)) == (b"one", b"two")
        await one.stop()
        assert await ask(two) == b"two"


async def test_loads_files_and_folders(tmp_path: Path) -> None:
    web = text("x")["services"]["web"]
    (tmp_path / "web.json5").write_text(json.dumps(web))
    async with prox.Server(tmp_path) as server:
        assert await ask(server) == b"x"
        assert server.loaded is not None
        assert tmp_path / "web.json5" in server.loaded.sources
    config = tmp_path / "config.json5"
    config.write_text(json.dumps({"services": {"web": web}}))
    async with prox.Server(str(config)) as server:
        assert await ask(server) == b"x"


async def test_paths_of_a_mapping_count_from_the_base(tmp_path: Path) -> None:
    (tmp_path / "body.txt").write_text("from a file")
    config = make_config({"action": {"type": "static", "body_ref": {"file": "body.txt"}}})
    async with prox.Server(config, base=tmp_path) as server:
        assert await ask(server) == b"from a file"


async def test_a_wrong_configuration_raises_with_all_problems() -> None:
    config = make_config([{"acton": {"type": "drop"}}, {"action": {"type": "dorp"}}])
    with pytest.raises(prox.ConfigError) as caught:
        await prox.Server(config).start()
    assert len(caught.value.problems) >= 2


async def test_what_is_not_built_yet_raises() -> None:
    config = make_config({"action": {"type": "drop"}}, root={"admin": {"listen": "127.0.0.1:0"}})
    with pytest.raises(prox.ConfigError, match="admin"):
        await prox.Server(config).start()


async def test_a_failed_start_leaves_nothing(tmp_path: Path) -> None:
    write_sdk_plugin(tmp_path, f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))")
    async with Upstream() as taken:
        config = make_config({"action": {"type": "drop"}, "plugins": ["./plugin.py"]}, listen=taken.address)
        config["services"]["other"] = {**config["services"]["web"], "listen": f"unix://{tmp_path}/s"}
        server = prox.Server(config, base=tmp_path)
        with pytest.raises(prox.StartError, match="another process listens there"):
            await server.start()
    assert server.addresses == {}
    await until(lambda: not (tmp_path / "s").exists(), "the socket is left")
    assert not (tmp_path / "pid").exists()
    async with prox.Server(text("x"), base=tmp_path) as other:
        assert await ask(other) == b"x"


async def test_a_cancelled_start_leaves_nothing(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    write_sdk_plugin(tmp_path, f"open({str(pid)!r}, 'w').write(str(os.getpid())); sys.stdin.read()")
    config = make_config(
        {"action": {"type": "drop"}, "plugins": ["./plugin.py"]}, listen=f"unix://{tmp_path}/s"
    )
    starting = asyncio.get_running_loop().create_task(prox.Server(config, base=tmp_path).start())
    await until(lambda: pid.exists() and pid.read_text())
    assert (tmp_path / "s").exists()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not alive(int(pid.read_text()))
    await until(lambda: not (tmp_path / "s").exists(), "the socket is left")


async def test_what_is_not_running_says_so() -> None:
    server = prox.Server(text("x"))
    with pytest.raises(RuntimeError, match="not running"):
        await server.reload()
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.application


async def test_reload_with_another_configuration_and_with_the_same() -> None:
    async with prox.Server(text("one")) as server:
        await server.reload(text("two"))
        assert await ask(server) == b"two"
        await server.reload()
        assert await ask(server) == b"two"


async def test_reload_reads_files_again(tmp_path: Path) -> None:
    config = tmp_path / "config.json5"
    config.write_text(json.dumps(text("one")))
    async with prox.Server(config) as server:
        config.write_text(json.dumps(text("two")))
        await server.reload()
        assert await ask(server) == b"two"


async def test_a_reload_that_fails_leaves_the_old_configuration() -> None:
    async with Upstream() as taken, prox.Server(text("one")) as server:
        before = server.loaded
        with pytest.raises(prox.ConfigError):
            await server.reload({"services": {"web": {}}})
        with pytest.raises(prox.StartError):
            await server.reload(make_config({"action": {"type": "drop"}}, listen=taken.address))
        assert server.loaded is before
        assert await ask(server) == b"one"
        await server.reload()
        assert await ask(server) == b"one"


async def test_reloads_at_the_same_time_come_one_after_the_other() -> None:
    async with prox.Server(text("one")) as server:
        await asyncio.gather(*(server.reload(text(str(number))) for number in range(5)))
        assert await ask(server) == b"4"


async def test_stop_during_a_reload_does_not_wait_for_it(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    write_sdk_plugin(tmp_path, f"open({str(pid)!r}, 'w').write(str(os.getpid())); sys.stdin.read()")
    async with prox.Server(text("x"), base=tmp_path) as server:
        guarded = make_config({"action": {"type": "drop"}, "plugins": ["./plugin.py"]})
        reloading = asyncio.get_running_loop().create_task(server.reload(guarded))
        await until(lambda: pid.exists() and pid.read_text())
        await server.stop()
        with pytest.raises(prox.StartError, match="is ending"):
            await reloading
        assert not alive(int(pid.read_text()))


async def test_a_cancelled_reload_changes_nothing(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    write_sdk_plugin(tmp_path, f"open({str(pid)!r}, 'w').write(str(os.getpid())); sys.stdin.read()")
    async with prox.Server(text("x"), base=tmp_path) as server:
        guarded = make_config({"action": {"type": "drop"}, "plugins": ["./plugin.py"]})
        reloading = asyncio.get_running_loop().create_task(server.reload(guarded))
        await until(lambda: pid.exists() and pid.read_text())
        reloading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reloading
        assert await ask(server) == b"x"
        await until(lambda: not alive(int(pid.read_text())), "the new plugin runs on")
        await server.reload()


async def test_stop_lets_a_request_end() -> None:
    let_go = asyncio.Event()

    async def slow(peer: UpstreamPeer) -> None:
        await peer.request()
        await let_go.wait()
        await peer.send(OK)

    async with Upstream(slow) as upstream:
        server = prox.Server(make_config(upstream.address))
        await server.start()
        async with await Client.connect(server.addresses["web"]) as client:
            await client.send(get("/"))
            await upstream.peer()
            stopping = asyncio.get_running_loop().create_task(server.stop(5))
            await asyncio.sleep(0)
            let_go.set()
            assert (await client.response()).body == b"ok"
            await stopping


async def test_stop_waits_no_longer_than_told() -> None:
    async with Upstream(lambda peer: peer.closed()) as upstream:
        server = prox.Server(make_config(upstream.address))
        await server.start()
        async with await Client.connect(server.addresses["web"]) as client:
            await client.send(get("/"))
            await upstream.peer()
            await server.stop(0.05)
            assert await client.discard() == 0


@pytest.mark.parametrize("wrong", [[], b"config.json5", 7])
async def test_what_is_no_configuration_is_a_type_error(wrong: Any) -> None:
    said = "a configuration is a mapping, or the path of a file or folder, and not "
    with pytest.raises(TypeError, match=said + type(wrong).__name__):
        prox.Server(wrong)
    async with prox.Server(text("hello")) as server:
        with pytest.raises(TypeError, match=said):
            await server.reload(wrong)
        assert await ask(server) == b"hello"
        await server.reload()
        assert await ask(server) == b"hello"
