"""The ASGI application that guards itself with the plugin host, under uvicorn, with a real plugin process."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import uvicorn

from prox.plugin import Binding, PluginSpec
from prox.tasks import spawn
from support.client import Client, get, post
from support.plugin_host import alive, until, write_plugin

EXAMPLE = Path(__file__).parents[2] / "examples/asgi"
KEY = "X-Api-Key: k-alice"


@pytest.fixture(scope="module")
def app() -> Iterator[ModuleType]:
    """The module app.py, as uvicorn imports it."""
    sys.path.insert(0, str(EXAMPLE))
    spec = importlib.util.spec_from_file_location("asgi_example_app", EXAMPLE / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(EXAMPLE))
        sys.modules.pop("guarded", None)


@pytest.fixture(autouse=True)
def python3_has_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)


@contextlib.asynccontextmanager
async def served(application: Any) -> AsyncIterator[tuple[str, int]]:
    """Run uvicorn as it runs itself, without its signal handlers; where it listens."""
    config = uvicorn.Config(application, lifespan="on", log_config=None, timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    sock = socket.create_server(("127.0.0.1", 0))
    serving = spawn(server._serve([sock]), "uvicorn")
    try:
        await until(lambda: server.started or serving.done())
        yield sock.getsockname()
    finally:
        server.should_exit = True
        await serving
        sock.close()


def child(manager: Any) -> int:
    pid = manager.states()[0].pid
    assert isinstance(pid, int)
    return pid


async def test_who_has_a_key_gets_in(app: ModuleType) -> None:
    guarded = app.application
    assert guarded.manager.states()[0].state != "ready"
    async with served(guarded) as address:
        assert guarded.manager.states()[0].state == "ready"
        async with await Client.connect(address) as client:
            denied = await client.request(get())
            assert (denied.status, denied.body) == (401, b"a key is needed\n")
            allowed = await client.request(get("/", KEY))
            assert (allowed.status, allowed.body) == (200, b"hello alice\n")
            forged = await client.request(get("/", KEY, "X-User: admin", "x_user: admin"))
            assert forged.body == b"hello alice\n"
            assert (await client.request(post(b"body", KEY))).body == b"hello alice\n"
        pid = child(guarded.manager)
    assert guarded.manager.states()[0].state == "stopped"
    assert not alive(pid)


async def test_changes_with_several_values_or_none(app: ModuleType, tmp_path: Path) -> None:
    plugin = """
        from plugin_child import *
        def handle(hook, call):
            if call["p"] == "/denied":
                return {"ok": False, "hc": {"st": {"Link": ["a", "b"]}}}
            changes = {"rm": ["X-Gone"], "st": {"X-A": ["1", "2"]}, "ad": {"X-B": ["3"]}}
            return {"ok": True, "h": {"X-User": "a\\nb"}, "hc": changes}
        listener, path = listen()
        serve(listener, handle)
        for params in configures():
            acknowledge()
            say({"method": "ready", "params": {"socket": path, "hooks": ["on_request"], "features": ["headers.multi"]}})
    """
    seen: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await app.greet(scope, receive, send)
        seen.extend(scope["headers"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    spec = PluginSpec(path=write_plugin(tmp_path, plugin))
    guarded = app.Guarded(application, Binding(route_id="app:0", plugin=spec))
    async with served(guarded) as address, await Client.connect(address) as client:
        forged = ["X-User: forged", "x_user: forged", "X-Gone: 1", "X-A: old", "X-B: old"]
        assert (await client.request(get("/", *forged))).status == 204
        assert [pair for pair in seen if pair[0].startswith(b"x")] == [
            (b"x-b", b"old"),
            (b"x-a", b"1"),
            (b"x-a", b"2"),
            (b"x-b", b"3"),
        ]
        denied = await client.request(get("/denied"))
        assert (denied.status, denied.all("link")) == (403, [b"a", b"b"])


async def test_while_the_plugin_is_down_nobody_gets_in(app: ModuleType) -> None:
    guarded = app.Guarded(app.greet, *bindings(app.GUARD))
    async with served(guarded) as address, await Client.connect(address) as client:
        assert (await client.request(get("/", KEY))).status == 200
        os.kill(child(guarded.manager), signal.SIGKILL)
        await until(lambda: guarded.manager.states()[0].state == "backing off")
        down = await client.request(get("/", KEY))
        assert (down.status, down.body) == (503, b"Service Unavailable\n")
        await until(lambda: guarded.manager.states()[0].state == "ready")
        assert (await client.request(get("/", KEY))).status == 200


def bindings(path: Path | str, **settings: Any) -> list[Binding]:
    return [Binding(route_id="app:0", plugin=PluginSpec(path=str(path), alias="guard", **settings))]


PLUGIN = """
    from plugin_child import *
    VERDICTS = {
        "/deny": {"ok": False, "s": 418, "b": b"\\xff", "h": {"X-Why": "tea"}},
        "/plain": {"ok": False},
        "/drop": {"ok": False, "dr": True},
        "/fallback": {"ok": False, "fb": True},
        "/path": {"ok": True, "rp": "/new path", "cq": True},
    }
    run(lambda hook, call: VERDICTS.get(call["p"], {"ok": True, "h": {"X-Shown": repr(sorted(call.items()))}}), "on_request")
"""


class Recorder:
    """Remembers how it was called, and takes part in the lifespan."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.life: list[str] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for part in ("startup", "shutdown"):
                self.life.append((await receive())["type"])
                await send({"type": f"lifespan.{part}.complete"})
            return
        self.scopes.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})


async def test_what_verdicts_become(app: ModuleType, tmp_path: Path) -> None:
    recorder = Recorder()
    guarded = app.Guarded(recorder, *bindings(write_plugin(tmp_path, PLUGIN)))
    async with served(guarded) as address, await Client.connect(address) as client:
        denied = await client.request(get("/deny"))
        assert (denied.status, denied.body, denied["X-Why"]) == (418, b"\xff", b"tea")
        assert [(await client.request(get(path))).status for path in ("/plain", "/drop", "/fallback")] == [
            403,
            403,
            503,
        ]
        assert recorder.scopes == []
        await client.request(get("/path?q=1"))
        [scope] = recorder.scopes
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/new path", b"/new%20path", b"")
        await client.request(get("/a%20b?q=%20", "X-Two: 1", "X-Two: 2", "X-Odd: ü", host="a.test:80"))
        headers = dict(recorder.scopes[1]["headers"])
        shown = dict(eval(headers[b"x-shown"].decode()))
        assert shown == {
            "r": "app:0",
            "m": "GET",
            "p": "/a b",
            "q": "q=%20",
            "d": "a.test",
            "ho": "a.test:80",
            "pr": "HTTP/1.1",
            "a": shown["a"],
            "h": {"X-Two": "1", "X-Odd": "ü"},
        }
        assert shown["a"].startswith("127.0.0.1:")
    assert recorder.life == ["lifespan.startup", "lifespan.shutdown"]


async def test_a_websocket_that_is_denied_is_closed(app: ModuleType, tmp_path: Path) -> None:
    guarded = app.Guarded(Recorder(), *bindings(write_plugin(tmp_path, PLUGIN)))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/plain", "query_string": b"", "headers": [], "http_version": "1.1"}
    async with guarded.manager:
        await guarded(scope, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_what_can_not_be_asked_is_refused(app: ModuleType) -> None:
    guarded = app.Guarded(app.greet, *bindings(app.GUARD))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "query_string": b"",
        "headers": [(b"x-api-key", b"k-alice")],
        "http_version": "1.1",
    }
    await guarded(scope, None, send)  # without a lifespan, so that the plugin does not run
    async with guarded.manager:
        await guarded({**scope, "headers": [(b"x-large", b"x" * (2 << 20))]}, None, send)
    assert [message["status"] for message in sent[::2]] == [503, 431]


async def test_an_application_that_fails_to_start_stops_the_plugins(app: ModuleType) -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "as asked"})

    guarded = app.Guarded(failing, *bindings(app.GUARD))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        assert guarded.manager.states()[0].state == "stopped"
        sent.append(message)

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    await guarded({"type": "lifespan"}, receive, send)
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
