"""The recorded traffic of the Go proxy and its SDK, through the host: its lines read, its answers taken."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from prox.plugin import Binding, MatchInfo, RouteInfo
from prox.wire import (
    ConnInfo,
    RequestInfo,
    ResponsePair,
    Speed,
    decode_request,
    unmarshal_envelope,
)
from support.plugin_host import Balancer, managed, spec, until
from support.vectors import PLUGIN_CALLS, PLUGIN_LINES, PROXY_LINES

# Says the recorded lines after its first configure, and gives each recorded answer to its recorded call.
REPLAY = """
    import json
    from plugin_child import *
    recorded = json.load(open(sys.argv[1]))
    def handle(hook, call):
        key = call["req"]["p"] if hook == ON_RESPONSE else call["d"] if hook == ON_CONNECT else call["p"]
        return next(bytes.fromhex(frame) for number, name, frame in recorded["answers"] if (number, name) == (hook, key))
    listener, path = listen()
    serve(listener, handle)
    for params in configures():
        for line in recorded["lines"]:
            say(line.replace("SOCKET", path))
"""


async def test_what_the_go_sdk_says_and_answers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "prox.plugin")
    recorded = tmp_path / "recorded.json"
    answers = [(call.hook, call.subject, call.answer.hex()) for call in PLUGIN_CALLS]
    await asyncio.to_thread(recorded.write_text, json.dumps({"lines": PLUGIN_LINES, "answers": answers}))
    plugin = spec(tmp_path, REPLAY, args=(str(recorded),))
    balancer, other = Balancer(), Balancer()
    routes = {
        "web:0": RouteInfo(action="backend", balancer=balancer),
        "web:1": RouteInfo(action="x", balancer=other),
    }
    async with managed(Binding(route_id="web:0", plugin=plugin), routes=routes) as manager:
        await until(lambda: "configured plugin=plugin route=web:0 n=3 ok=true" in caplog.text)
        assert manager.states()[0].hooks == ("on_connect", "on_request", "on_response")
        assert balancer.history == [
            ["127.0.0.1:9001", "127.0.0.1:9002"],
            ["127.0.0.1:9003"],
            ["127.0.0.1:9004"],
        ]
        assert balancer.groups == {"k": ["127.0.0.1:9005"]}
        assert other.targets == ["127.0.0.1:9004"]
        assert manager.speeds["web:0"] == {
            "g": Speed(download_mbps=10, upload_mbps=5, group_key="g"),
            "": Speed(download_mbps=1.5),
        }
        assert not [record for record in caplog.records if record.levelname == "WARNING"]
        for call in PLUGIN_CALLS:
            _, payload = unmarshal_envelope(call.call)
            if isinstance(payload, RequestInfo):
                result = await manager.on_request("web:0", payload)
                assert result.allow == call.decoded["ok"]
                assert result.drop == call.decoded.get("dr", False)
                assert result.fallback == call.decoded.get("fb", False)
                assert result.headers == call.decoded.get("h", {})
                assert result.body == call.decoded.get("b", "")
                assert result.path == call.decoded.get("rp", "")
            elif isinstance(payload, ResponsePair):
                changed = await manager.on_response("web:0", payload.request, payload.response)
                assert changed.status == call.decoded.get("s", 0)
                assert changed.remove == call.decoded.get("rm", [])
            elif isinstance(payload, ConnInfo):
                conn = ConnInfo(route_id="web:0", domain=payload.domain, remote_addr=payload.remote_addr)
                assert (await manager.on_connect("web:0", conn)).allow == call.decoded["ok"]


async def test_configure_lines_are_those_of_the_go_proxy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = """
        from plugin_child import *
        for line in sys.stdin:
            push("log", level="warn", message=line.strip())
            acknowledge()
    """
    plugin = spec(tmp_path, body, hooks=())
    bindings = []
    for line in PROXY_LINES:
        params = decode_request(line).params
        assert params is not None
        bindings.append(Binding(route_id=params.route_id, plugin=plugin, match=params.match or MatchInfo()))
    async with managed(*bindings):
        for line in PROXY_LINES:
            assert line.decode().strip() in caplog.text
