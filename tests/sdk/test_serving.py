"""The hook socket: answers, errors, concurrency, broken frames."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import msgspec
import pytest

from prox.wire import (
    AuthorizeResult,
    ConnInfo,
    ConnResult,
    DisconnectInfo,
    HookType,
    ResponseModResult,
    ResponsePair,
    UpstreamResponseInfo,
    decode_authorize,
    marshal_envelope,
)
from support.plugin_driver import TIMEOUT, HookClient, PluginDriver, request

PLUGIN = """
import asyncio
import threading
from prox.sdk import Plugin

plugin = Plugin()
release = asyncio.Event()
gone = []

@plugin.on_request
def decide(request):
    match request.path:
        case "/slow": return slow(request)
        case "/release": release.set()
        case "/crash": raise ValueError("no luck")
        case "/crash-async": return crash()
        case "/dict": return {"ok": True}
        case "/text": return "yes"
        case "/one": return 1
        case "/future": return asyncio.wrap_future(future())
        case "/response": return request_modify()
        case "/surrogate": return request.allow({"X": "\\udcff"})
        case "/big": return request.deny(body="x" * 2_000_000)
        case "/status": return request.deny(99)
        case "/true": return True
        case "/false": return False
        case "/none": return None
        case "/gone": return request.allow({"Gone": ",".join(gone)})
        case "/size": return request.allow({"Size": str(len(request.body))})
        case "/cancel": return cancel()
    return request.allow({"Path": request.path})

async def slow(request):
    gone.append("began")
    try:
        await release.wait()
    except asyncio.CancelledError:
        gone.append("cancelled")
        raise
    return request.allow({"Path": "slow"})

async def crash():
    await asyncio.sleep(0)
    raise ValueError("no luck later")

async def cancel():
    asyncio.current_task().cancel()
    await asyncio.sleep(0)

def future():
    import concurrent.futures
    made = concurrent.futures.Future()
    threading.Timer(0.01, made.set_result, [False]).start()
    return made

def request_modify():
    from prox.sdk import modify
    return modify(200)

@plugin.on_response
def change(response):
    if response.status == 500: raise ValueError("bad answer")
    if response.status == 404: return True

@plugin.on_connect
def connect(connection):
    return {"yes": True, "no": False, "none": None, "text": "yes"}[connection.domain]

@plugin.on_disconnect
async def disconnect(end):
    if end.route_id == "crash": raise ValueError("bad end")
    await asyncio.sleep(0)
    plugin.log.info("end", route=end.route_id, received=end.bytes_received, took=end.duration)

plugin.run()
"""

GONE = DisconnectInfo(
    route_id="web:0", remote_addr="10.0.0.1:5", bytes_received=7, bytes_sent=2, duration_ms=1500
)


def call(path: str) -> bytes:
    return marshal_envelope(HookType.ON_REQUEST, request(path))


def response(status: int) -> ResponsePair:
    return ResponsePair(request=request(), response=UpstreamResponseInfo(status=status, headers={}))


def connection(domain: str) -> ConnInfo:
    return ConnInfo(route_id="tls:0", domain=domain, remote_addr="10.0.0.1:5")


async def history(client: HookClient, wanted: str) -> None:
    """Wait until the plugin's slow handlers have got so far; each question is a turn of its loop."""
    async with asyncio.timeout(TIMEOUT):
        while (await client.on_request("/gone")).headers != {"Gone": wanted}:
            pass


async def test_answers_and_what_they_mean(tmp_path: Path) -> None:
    async with PluginDriver(PLUGIN, tmp_path) as plugin:
        client = await (await plugin.start()).connect()
        assert plugin.hooks == ["on_request", "on_response", "on_connect", "on_disconnect"]
        assert await client.on_request("/true") == AuthorizeResult(allow=True)
        assert await client.on_request("/none") == AuthorizeResult(allow=True)
        assert await client.on_request("/false") == AuthorizeResult(allow=False)
        assert await client.on_request("/future") == AuthorizeResult(allow=False)
        assert await client.call(HookType.ON_RESPONSE, response(200)) == ResponseModResult()
        assert await client.call(HookType.ON_CONNECT, connection("yes")) == ConnResult(allow=True)
        assert await client.call(HookType.ON_CONNECT, connection("none")) == ConnResult(allow=True)
        assert await client.call(HookType.ON_CONNECT, connection("no")) == ConnResult(allow=False)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/crash", "ValueError: no luck"),
        ("/crash-async", "ValueError: no luck later"),
        ("/dict", "TypeError: on_request answers a verdict, True, False or None, not dict"),
        ("/text", "TypeError: on_request answers a verdict, True, False or None, not str"),
        ("/one", "TypeError: on_request answers a verdict, True, False or None, not int"),
        ("/response", "TypeError: on_request answers a verdict, True, False or None, not ResponseModResult"),
        ("/surrogate", "EncodeError: can't encode AuthorizeResult"),
        ("/big", "FrameTooLarge: a frame of 20000"),
        ("/status", "ValueError: 99 is no status"),
        ("/cancel", "CancelledError"),
    ],
)
async def test_a_failing_handler_closes_its_connection_without_an_answer(
    tmp_path: Path, path: str, error: str
) -> None:
    async with PluginDriver(PLUGIN, tmp_path) as plugin:
        await plugin.start()
        client, other = await plugin.connect(), await plugin.connect()
        client.send(call(path))
        assert await client.closed() == b""
        record = await plugin.log("on_request failed")
        args = dict(zip(record.args[::2], record.args[1::2], strict=True)) if record.args else {}
        assert record.level == "error"
        assert args["error"].startswith(error)
        assert args["route"] == "web:0"
        assert args["call"] == f"<Request GET a.test{path} on web:0>"
        assert "Traceback" in args["traceback"]
        assert (await other.on_request("/fine")).headers == {"Path": "/fine"}


async def test_failures_of_the_other_hooks_close_too(tmp_path: Path) -> None:
    async with PluginDriver(PLUGIN, tmp_path) as plugin:
        await plugin.start()
        for hook, payload in (
            (HookType.ON_RESPONSE, response(500)),
            (HookType.ON_RESPONSE, response(404)),
            (HookType.ON_CONNECT, connection("text")),
            (HookType.ON_CONNECT, connection("unheard-of")),
        ):
            client = await plugin.connect()
            client.send(marshal_envelope(hook, payload))
            assert await client.closed() == b""
            assert (await plugin.log(f"{hook.hook_name} failed")).level == "error"
            plugin.logs.clear()


async def test_on_disconnect_is_not_answered_and_its_failure_harms_nothing(tmp_path: Path) -> None:
    async with PluginDriver(PLUGIN, tmp_path) as plugin:
        client = await (await plugin.start()).connect()
        end = marshal_envelope(HookType.ON_DISCONNECT, GONE)
        bad_end = marshal_envelope(HookType.ON_DISCONNECT, msgspec.structs.replace(GONE, route_id="crash"))
        answer = await client.exchange(end + bad_end + end + call("/next"))
        assert decode_authorize(answer).headers == {"Path": "/next"}
        assert (await plugin.log("on_disconnect failed")).level == "error"
        record = await plugin.log("end")
        assert record.args == ["route", "web:0", "received", 7, "took", 1.5]


async def test_a_slow_handler_holds_up_only_its_own_connection(tmp_path: Path) -> None:
    async with PluginDriver(PLUGIN, tmp_path) as plugin:
        await plugin.start()
        slow, quick = await plugin.connect(), await plugin.connect()
        slow.send(call("/slow"))
        for _ in range(20):
            assert (await quick.on_request("/quick")).headers == {"Path": "/quick"}
        assert (await quick.on_request("/gone")).headers == {"Gone": "began"}
        await quick.on_request("/release")
        assert decode_authorize(await slow.answer()).headers == {"Path": "slow"}


async def test_a_handler_is_cancelled_when_prox_no_longer_waits(tmp_path: Path) -> None:
    async with PluginDriver(PLUGIN, tmp_path) as plugin:
        await plugin.start()
        slow, quick = await plugin.connect(), await plugin.connect()
        slow.send(call("/slow"))
        await history(quick, "began")
        await slow.close()
        await history(quick, "began,cancelled")
        status, lines, errors = await plugin.stop()
        assert (status, lines, errors) == (0, [], "")  # nor is it taken for a failure


async def test_many_calls_side_by_side(tmp_path: Path) -> None:
    async with PluginDriver(PLUGIN, tmp_path) as plugin:
        await plugin.start()

        async def ask(number: int) -> None:
            client = await plugin.connect()
            for turn in range(5):
                path = f"/{number}/{turn}"
                assert (await client.on_request(path)).headers == {"Path": path}

        await asyncio.gather(*(ask(number) for number in range(100)))


async def test_calls_in_one_read_are_answered_in_order(tmp_path: Path) -> None:
    async with PluginDriver(PLUGIN, tmp_path) as plugin:
        client = await (await plugin.start()).connect()
        client.send(b"".join(call(path) for path in ("/a", "/release", "/slow", "/b", "/future", "/c")))
        answers = [decode_authorize(await client.answer()) for _ in range(6)]
        assert [answer.headers.get("Path") for answer in answers] == [
            "/a",
            "/release",
            "slow",
            "/b",
            None,
            "/c",
        ]


async def test_calls_that_arrive_during_a_slow_one_wait_their_turn(tmp_path: Path) -> None:
    async with PluginDriver(PLUGIN, tmp_path) as plugin:
        await plugin.start()
        client, other = await plugin.connect(), await plugin.connect()
        client.send(call("/slow"))
        await history(other, "began")
        for number in range(50):
            client.send(call(f"/{number}"))
            await other.on_request("/turn")
        await other.on_request("/release")
        answers = [decode_authorize(await client.answer()).headers["Path"] for _ in range(51)]
        assert answers == ["slow", *(f"/{number}" for number in range(50))]
        assert (await client.on_request("/more")).headers == {"Path": "/more"}


async def test_a_call_byte_by_byte(tmp_path: Path) -> None:
    async with PluginDriver(PLUGIN, tmp_path) as plugin:
        client = await (await plugin.start()).connect()
        for byte in call("/bytes"):
            client.send(bytes([byte]))
            await client.writer.drain()
        assert decode_authorize(await client.answer()).headers == {"Path": "/bytes"}


async def test_the_largest_frame_and_one_byte_more(tmp_path: Path) -> None:
    empty = len(marshal_envelope(HookType.ON_REQUEST, request("/size", body=b"x"))) - 4 - 1
    largest = 1024 * 1024 - empty - 3  # the body's own length takes three bytes more than for one byte
    async with PluginDriver(PLUGIN, tmp_path) as plugin:
        await plugin.start()
        client, other = await plugin.connect(), await plugin.connect()
        frame = marshal_envelope(HookType.ON_REQUEST, request("/size", body=b"x" * largest))
        assert len(frame) - 4 == 1024 * 1024
        assert decode_authorize(await client.exchange(frame)).headers == {"Size": str(largest)}
        over = marshal_envelope(HookType.ON_REQUEST, request("/size", body=b"x" * (largest + 1)), limit=2**30)
        client.send(over)
        assert await client.closed() == b""
        assert (await other.on_request("/fine")).allow


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


BAD_FRAMES = {
    "empty": b"\0\0\0\0",
    "garbage": framed(b"hello"),
    "no call": framed(b"\xc0"),
    "unknown hook": framed(b"\x82\xa1t\x09\xa1d\xc4\0"),
    "wrong payload": framed(msgspec.msgpack.encode({"t": 1, "d": msgspec.msgpack.encode({"r": "web:0"})})),
    "boasting": b"\xff\xff\xff\xff",
    "http": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("kind", BAD_FRAMES)
async def test_a_bad_frame_closes_its_connection_only(tmp_path: Path, kind: str) -> None:
    async with PluginDriver(PLUGIN, tmp_path) as plugin:
        await plugin.start()
        client, other = await plugin.connect(), await plugin.connect()
        client.send(BAD_FRAMES[kind])
        assert await client.closed() == b""
        assert (await plugin.log("a frame from prox was refused")).level == "error"
        assert (await other.on_request("/fine")).allow
        assert (await (await plugin.connect()).on_request("/fine")).allow


async def test_a_hook_that_is_not_served_is_refused_and_an_end_ignored(tmp_path: Path) -> None:
    source = "from prox.sdk import Plugin\nplugin = Plugin()\nplugin.on_request(lambda request: True)\nplugin.run()"
    async with PluginDriver(source, tmp_path) as plugin:
        client: HookClient = await (await plugin.start()).connect()
        assert plugin.hooks == ["on_request"]
        client.send(marshal_envelope(HookType.ON_DISCONNECT, GONE))
        assert (await client.on_request("/fine")).allow
        client.send(marshal_envelope(HookType.ON_CONNECT, connection("yes")))
        assert await client.closed() == b""
        assert (await plugin.log("refused")).args == ["error", "this plugin does not serve on_connect"]
