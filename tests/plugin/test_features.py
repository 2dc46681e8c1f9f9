"""Features belong to a process: what it has named is what it is shown, whatever the plugin was before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prox.plugin import Binding, Manager, PluginSpec
from prox.wire import DisconnectInfo, RequestInfo, TraceContext, UpstreamResponseInfo
from support.plugin_host import managed, request, spec, until, write_plugin

TRACE = TraceContext(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")

# Answers with the keys that it was shown; says ready with the features in its file, again when told.
SHOWN = """
    import json, threading, time
    from plugin_child import *
    FEATURES = {features!r}
    def handle(hook, call):
        if hook == ON_DISCONNECT:
            with open(__file__ + ".ends", "a") as file: file.write(json.dumps(call) + "\\n")
            return None
        call = call.get("req", call)
        keys = ",".join(key for key in call if key in ("hm", "tr"))
        shown = {{"X-Shown": keys}}
        return {{"ok": True, "h": shown, "rc": {{"st": {{"X-R": [keys]}}}}}} if hook == ON_REQUEST else {{"h": shown}}
    listener, path = listen()
    serve(listener, handle)
    def tell(features):
        say({{"method": "ready", "params": {{"socket": path, "hooks": ["on_request", "on_response", "on_disconnect"],
            "features": features}}}})
    def again():
        while not os.path.exists(__file__ + ".again"): time.sleep(0.005)
        tell(json.load(open(__file__ + ".again")))
    threading.Thread(target=again, daemon=True).start()
    for params in configures():
        acknowledge()
        tell(FEATURES)
"""
FULL: dict[str, Any] = {"all_values": {"X-A": ["1", "2"]}, "trace": TRACE}
ROUTE = "web:0"


def plugin(folder: Path, *features: str, name: str = "plugin") -> PluginSpec:
    return spec(folder, SHOWN.format(features=list(features)), name)


def write(path: str, text: str) -> None:
    Path(path).write_text(text)


def read(path: Path) -> str:
    return path.read_text()


def bound(*plugins: PluginSpec) -> list[Binding]:
    return [Binding(route_id=ROUTE, plugin=one) for one in plugins]


async def shown(manager: Manager, info: RequestInfo | None = None) -> tuple[str, bool]:
    """The keys that the last plugin was shown in on_request, and whether its `rc` was understood."""
    result = await manager.on_request(ROUTE, info or request(ROUTE, **FULL))
    return result.headers["X-Shown"], result.response is not None


@pytest.mark.parametrize(
    ("features", "keys"),
    [
        ([], ""),
        (["headers.multi"], "hm"),
        (["trace"], "tr"),
        (["response.allow"], ""),
        (["response.allow", "trace", "headers.multi", "later"], "hm,tr"),
    ],
)
async def test_each_is_shown_what_it_has_named(tmp_path: Path, features: list[str], keys: str) -> None:
    one = plugin(tmp_path, *features)
    async with managed(*bound(one)) as manager:
        assert await shown(manager) == (keys, "response.allow" in features)
        response = UpstreamResponseInfo(status=200, headers={}, all_values={"X": ["1", "2"]})
        changed = await manager.on_response(ROUTE, request(ROUTE, **FULL), response)
        assert changed.headers == {"X-Shown": keys}
        assert manager.states()[0].features == tuple(sorted({*features} - {"later"}))


async def test_several_on_one_route_are_shown_their_own(tmp_path: Path) -> None:
    named: list[tuple[str, ...]] = [
        ("trace",),
        (),
        ("headers.multi", "trace"),
        ("response.allow",),
        ("headers.multi",),
    ]
    keys = ["tr", "", "hm,tr", "", "hm"]
    plugins = [plugin(tmp_path, *features, name=f"p{number}") for number, features in enumerate(named)]
    for last in range(len(plugins)):
        order = [*plugins[:last], *plugins[last + 1 :], plugins[last]]
        async with managed(*bound(*order)) as manager:
            assert await shown(manager) == (keys[last], True)


async def test_another_ready_replaces_them(tmp_path: Path) -> None:
    one = plugin(tmp_path, "trace")
    async with managed(*bound(one)) as manager:
        assert await shown(manager) == ("tr", False)
        write(f"{one.path}.again", '["headers.multi", "response.allow"]')
        await until(lambda: manager.states()[0].features == ("headers.multi", "response.allow"))
        assert await shown(manager) == ("hm", True)


async def test_another_process_has_its_own(tmp_path: Path) -> None:
    one = plugin(tmp_path, "trace", "response.allow")
    async with managed(*bound(one)) as manager:
        assert await shown(manager) == ("tr", True)
        write_plugin(tmp_path, SHOWN.format(features=[]))
        await manager.swap(one)
        assert await shown(manager) == ("", False)
        assert manager.states()[0].features == ()


async def test_an_end_that_waited_is_shown_as_the_process_that_gets_it_knows(tmp_path: Path) -> None:
    end = DisconnectInfo(
        route_id=ROUTE, remote_addr="a:1", bytes_received=0, bytes_sent=0, duration_ms=1, trace=TRACE
    )
    ends: list[str] = []
    for number, features in enumerate(([], ["trace"])):
        one = plugin(tmp_path, *features, name=f"p{number}")
        async with managed(*bound(one)) as manager:
            manager.on_disconnect(ROUTE, end)
            file = Path(f"{one.path}.ends")
            await until(file.exists)
            await until(file.read_text)
            ends.append(read(file))
    assert '"tr"' not in ends[0]
    assert TRACE.traceparent in ends[1]
