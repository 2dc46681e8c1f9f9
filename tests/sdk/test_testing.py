"""The harness that plugin authors test with: both kinds have the same methods and see the same."""

from __future__ import annotations

import logging
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from prox.sdk import Disconnect, Plugin, Request, allow, deny
from prox.sdk.testing import (
    ConfigureError,
    Harness,
    HookError,
    LogRecord,
    PluginEndedError,
    PluginTestError,
    ProcessHarness,
    load,
    make_request,
)
from prox.sdk.testing.base import BaseHarness
from prox.wire import AuthorizeResult, ResponseModResult

PLUGIN = """
import asyncio
import logging
import time
from dataclasses import dataclass
from prox.sdk import Plugin

@dataclass
class Ends:
    count: int = 0

ends = Ends()
plugin = Plugin()
plugin.set_targets(action="app", targets=["10.0.0.9:80"])

@plugin.on_configure
async def configured(route):
    if route.id == "bad":
        raise ValueError("no such site")
    plugin.log.info("bound", domain=route.domain, path=route.path)
    if route.id == "push":
        route.set_targets(["10.0.0.1:80"])

@plugin.on_request
async def decide(request):
    if request.path == "/raise":
        raise RuntimeError("no luck")
    if request.path == "/slow":
        await asyncio.sleep(60)
    if request.path == "/block":
        time.sleep(0.5)
    if request.path == "/log":
        logging.getLogger("shop").warning("odd", extra={"user": "u1"})
    if request.path == "/print":
        print("to stderr")
    if request.path == "/ends":
        return request.allow({"Ends": str(ends.count)})
    return request.allow({"Saw": f"{request.method} {request.host}{request.path}?{request.query} "
        f"{request.headers.get('x-user-id')} {request.body!r} {request.content_length} {request.client_ip}"})

@plugin.on_response
def change(response):
    return response.modify(status=response.status + 1, headers={"Saw": response.request.path}, remove=list(response.headers))

@plugin.on_connect
def connect(connection):
    return connection.domain == "good.test"

@plugin.on_disconnect
def disconnect(end):
    ends.count += 1
    plugin.log.info("end", client=end.client, sent=end.bytes_sent, seconds=end.duration)

@plugin.background
async def beat():
    plugin.set_speed(all_routes=True, download_mbps=8)

plugin.run()
raise AssertionError("the script goes on")
"""

Start = Callable[..., BaseHarness]


@pytest.fixture(params=["thread", "process"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Start:
    script = tmp_path / "guard.py"
    script.write_text(PLUGIN.replace('raise AssertionError("the script goes on")', ""))

    def start(**options: Any) -> BaseHarness:
        if request.param == "thread":
            script.write_text(PLUGIN)
            return Harness(load(script), **options)
        return ProcessHarness([sys.executable, "-W", "error", script], **options)

    return start


def test_a_request_and_its_verdict(start: Start) -> None:
    with start() as plugin:
        verdict = plugin.request(
            "POST", "/x y?a=1", headers={"x-user-ID": "u1", "host": "a.test:81"}, body=b"hello"
        )
        assert verdict == AuthorizeResult(
            allow=True, headers={"Saw": "POST a.test:81/x y?a=1 u1 b'hello' 5 192.0.2.1"}
        )
        assert plugin.request().headers == {"Saw": "GET example.com/? None b'' 0 192.0.2.1"}


def test_the_other_hooks(start: Start) -> None:
    with start() as plugin:
        assert plugin.hooks == {"on_request", "on_response", "on_connect", "on_disconnect"}
        assert plugin.features == frozenset()
        changes = plugin.response(404, {"x-powered-by": "y"}, request=make_request(path="/page"))
        assert changes == ResponseModResult(status=405, headers={"Saw": "/page"}, remove=["X-Powered-By"])
        assert plugin.response().headers == {"Saw": "/"}
        assert plugin.connect("good.test")
        assert not plugin.connect("bad.test", client="[2001:db8::1]:5")
        plugin.disconnect(sent=7, duration=1.5)
        plugin.disconnect(client="10.0.0.1:5")
        assert plugin.request(path="/ends").headers == {"Ends": "2"}
        ends = [record for record in plugin.logs if record.message == "end"]
        assert plugin.log("end") == LogRecord(
            "info", "end", {"client": "192.0.2.1:50000", "sent": 7, "seconds": 1.5}
        )
        assert len(ends) <= 2


def test_configure_and_pushes(start: Start) -> None:
    with start(domain="*.a.test", path="/api/*") as plugin:
        assert plugin.log("bound").fields == {"domain": "*.a.test", "path": "/api/*"}
        early, speed = plugin.push(), plugin.push()
        assert (early.method, early.params.action, early.params.targets) == (
            "set_targets",
            "app",
            ["10.0.0.9:80"],
        )
        assert (speed.method, speed.params.route_id, speed.params.download_mbps) == ("set_speed", "*", 8)
        plugin.configure("push")
        assert plugin.push().params.targets == ["10.0.0.1:80"]
        assert len(plugin.pushes) == 3
        with pytest.raises(ConfigureError, match="ValueError: no such site"):
            plugin.configure("bad")
        assert plugin.request().allow


def test_a_route_that_is_refused_at_the_start(start: Start) -> None:
    with pytest.raises(ConfigureError, match="no such site"), start(route_id="bad"):
        pytest.fail("it was not refused")


def test_without_a_route_nothing_is_configured(start: Start) -> None:
    with start(route_id=None, timeout=0.1) as plugin:
        with pytest.raises(TimeoutError, match=r"no `ready` within 0.1 s"):
            plugin.request()
        plugin.timeout = 5.0
        plugin.configure()
        assert plugin.request().allow


def test_an_exception_of_a_handler(start: Start) -> None:
    with start() as plugin:
        for _ in range(2):
            with pytest.raises(
                HookError, match=r"(?s)^on_request failed: Traceback .*RuntimeError: no luck$"
            ) as caught:
                plugin.request(path="/raise")
        if isinstance(plugin, Harness):
            assert repr(caught.value.__cause__) == "RuntimeError('no luck')"
        assert plugin.request().allow


def test_an_answer_that_is_late(start: Start) -> None:
    with start(timeout=0.3) as plugin:
        plugin.timeout = 0.05
        with pytest.raises(TimeoutError, match=r"no answer to on_request within 0.05 s"):
            plugin.request(path="/slow")
        plugin.timeout = 5
        assert plugin.request().allow


def test_nothing_to_wait_for(start: Start) -> None:
    with start() as plugin:
        plugin.push()
        plugin.push()
        plugin.timeout = 0.05
        with pytest.raises(TimeoutError, match="no push"):
            plugin.push()
        with pytest.raises(TimeoutError, match="no log record with 'xyz'"):
            plugin.log("xyz")


def test_python_logging_is_among_the_logs(start: Start) -> None:
    level = logging.root.level
    with start() as plugin:
        plugin.request(path="/log")
        assert plugin.log("odd") == LogRecord("warn", "odd", {"logger": "shop", "user": "u1"})
        assert plugin.warnings == []
    assert logging.root.level == level


def test_calls_from_several_threads(start: Start) -> None:
    with start() as plugin:
        paths: list[str] = []

        def ask(number: int) -> None:
            saw = [plugin.request(path=f"/{number}/{turn}").headers["Saw"] for turn in range(5)]
            paths.extend(text.split()[1] for text in saw)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(paths) == sorted(f"example.com/{n}/{t}?" for n in range(8) for t in range(5))


def test_a_hook_that_is_not_served(tmp_path: Path) -> None:
    plugin = Plugin()
    plugin.on_request(lambda _: True)
    with Harness(plugin) as harness:
        assert harness.request().allow
        with pytest.raises(HookError, match="serves on_request, not on_connect"):
            harness.connect()


def test_a_plugin_of_this_process_may_run_again_and_be_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = Plugin()
    plugin.set_targets("web:0", ["10.0.0.1:80"])
    users = {"k": "alice"}

    @plugin.on_request
    def decide(request: Request) -> Any:
        user = users.get(request.headers.get("X-Key", ""))
        return allow({"X-User": user}) if user else deny(401)

    for _ in range(2):
        with Harness(plugin) as harness:
            assert harness.request(headers={"x-key": "k"}).headers == {"X-User": "alice"}
            assert harness.push().params.targets == ["10.0.0.1:80"]
            with pytest.raises(RuntimeError, match="runs already"), Harness(plugin):
                pass
            monkeypatch.setitem(users, "new", "bob")
            assert harness.request(headers={"x-key": "new"}).headers == {"X-User": "bob"}
            monkeypatch.undo()
    with pytest.raises(RuntimeError, match="inside of `with`"):
        Harness(plugin).request()


def test_the_end_waits_for_handlers() -> None:
    import asyncio

    plugin = Plugin()
    ended: list[float] = []

    @plugin.on_disconnect
    async def disconnect(end: Disconnect) -> None:
        await asyncio.sleep(0.05)
        ended.append(end.duration)

    with Harness(plugin) as harness:
        harness.disconnect(duration=2)
    assert ended == [2]


def test_a_plugin_that_can_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROX_PLUGIN_DIR", "/nowhere")
    plugin = Plugin()
    plugin.on_request(lambda _: True)
    with pytest.raises(PluginEndedError, match="can't listen on /nowhere/plugin-"), Harness(plugin):
        pass


# Processes


def script(tmp_path: Path, source: str, *, mode: int = 0o755) -> Path:
    path = tmp_path / "child.py"
    path.write_text(f"#!{sys.executable}\n{source}")
    path.chmod(mode)
    return path


def test_a_program_with_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "s")
    source = """
import os, sys
from prox.sdk import Plugin
plugin = Plugin()
@plugin.on_request
def decide(request):
    return request.allow({"Env": f"{os.environ.get('SECRET')} {os.environ['MORE']} {os.getcwd()} {sys.argv[1:]}"})
plugin.run()
"""
    path = script(tmp_path, source)
    with ProcessHarness([path, "-x"], env={"MORE": "m"}, cwd="/") as plugin:
        assert plugin.request().headers == {"Env": "None m / ['-x']"}
        assert plugin.returncode is None
    assert plugin.returncode == 0


def test_a_program_that_ends_at_once(tmp_path: Path) -> None:
    path = script(tmp_path, "import sys; sys.exit('no key file')")
    with (
        pytest.raises(PluginEndedError, match=r"(?s)has ended with status 1; its stderr:\nno key file"),
        ProcessHarness(path),
    ):
        pass


def test_a_program_that_dies_in_a_call(tmp_path: Path) -> None:
    source = """
import os
from prox.sdk import Plugin
plugin = Plugin()
plugin.on_request(lambda _: os.kill(os.getpid(), 9))
plugin.run()
"""
    with (
        ProcessHarness(script(tmp_path, source)) as plugin,
        pytest.raises(PluginEndedError, match="on_request failed: the plugin has ended with status -9"),
    ):
        plugin.request()
    assert plugin.returncode == -9


@pytest.mark.parametrize(
    ("content", "mode", "error"),
    [
        (None, 0, "No such file"),
        ("#!/bin/sh\n", 0o644, "chmod"),
        ("import os\n", 0o755, "needs a first line"),
    ],
)
def test_a_program_that_can_not_start(tmp_path: Path, content: str | None, mode: int, error: str) -> None:
    path = tmp_path / "child"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    with pytest.raises(PluginEndedError, match=error), ProcessHarness(path):
        pass


STUBBORN = """
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stdin.readline()
print("garbage", flush=True)
print('{"result": "ok"}', flush=True)
while True: signal.pause()
"""


@pytest.fixture
def stubborn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProcessHarness:
    monkeypatch.setattr("prox.sdk.testing.process.AFTER_EOF", 0.1)
    monkeypatch.setattr("prox.sdk.testing.process.AFTER_SIGTERM", 0.1)
    return ProcessHarness(script(tmp_path, STUBBORN), timeout=10)


def test_a_program_that_does_not_end_is_ended_and_told_of(stubborn: ProcessHarness) -> None:
    stubborn.__enter__()
    with pytest.raises(PluginTestError, match=r"went on for 0.1 s after its stdin: SIGKILL ended it"):
        stubborn.stop()
    assert stubborn.returncode == -9
    assert "garbage" in stubborn.warnings[0]


def test_a_test_that_failed_is_not_told_how_the_plugin_ended(stubborn: ProcessHarness) -> None:
    def fail() -> None:
        with stubborn:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    assert stubborn.returncode == -9


def test_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = script(
        tmp_path,
        "from prox.sdk import Plugin\nplugin = Plugin()\nplugin.on_request(lambda _: True)\nplugin.run()",
    )

    def leftovers() -> tuple[list[str], int]:
        names = sorted(p.name for p in tmp_path.glob("prox-plugin-*"))
        return names, len(list(Path("/proc/self/fd").iterdir()))

    with Harness(load(path)) as warm:
        warm.request()
    before = leftovers()
    for make in (lambda: Harness(load(path)), lambda: ProcessHarness(path)):
        harness: AbstractContextManager[BaseHarness] = make()
        with harness as plugin:
            plugin.request()
    assert leftovers() == before


# Loading and showing


def test_each_load_is_a_fresh_plugin(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("from prox.sdk import Plugin\np = Plugin()\nif __name__ == '__main__': p.run()")
    assert load(path) is not load(path)
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(
    ("source", "error"),
    [("x = 1", "makes 0 plugins"), ("from prox.sdk import Plugin\na, b = Plugin(), Plugin()", "makes 2")],
)
def test_a_script_without_a_plugin(tmp_path: Path, source: str, error: str) -> None:
    path = tmp_path / "a.py"
    path.write_text(source)
    with pytest.raises(TypeError, match=error):
        load(path)


def test_bodies_are_shown_as_prox_shows_them() -> None:
    assert make_request("GET", body=b"x").body == b""
    assert make_request("GET", body=b"x").content_length == 1
    assert make_request("PUT", body=b"x" * 100_000).body == b"x" * 65536
    assert make_request("PUT", body=b"x" * 100_000).content_length == 100_000
    unknown = make_request("PUT", body=b"x", content_length=-1)
    assert (unknown.body, unknown.content_length) == (b"", -1)
    assert make_request(path="/a?b", query="").path == "/a?b"


def test_the_options_of_a_request_are_those_of_make_request() -> None:
    import inspect

    from prox.sdk.testing.base import HarnessOptions, RequestOptions

    own = {"method", "path", "headers", "body"}
    assert set(inspect.signature(make_request).parameters) - own == set(RequestOptions.__annotations__)
    base = set(inspect.signature(BaseHarness.__init__).parameters) - {"self"}
    assert base == set(HarnessOptions.__annotations__)
