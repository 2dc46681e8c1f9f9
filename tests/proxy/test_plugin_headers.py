"""Headers that only a plugin may set can't be forged, and what a plugin sets is all that an upstream sees of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from support.client import get, post, post_chunked
from support.plugin_host import write_plugin
from support.servers import Running, read_log, serving, write_sdk_plugin
from support.upstream import Upstream
from support.upstream_messages import Message

# Sets the headers that X-Set names, and notes the headers that each of its hooks is shown.
SETTING = """
    def note(hook, headers):
        with open(os.environ["NOTES"], "a") as file:
            file.write(json.dumps({"hook": hook, "plugin": os.environ["NAME"], "headers": dict(headers)}) + "\\n")

    @plugin.on_request
    def ask(request):
        note("request", request.headers)
        return request.allow(headers=json.loads(request.headers.get("x-set", "{}")).get(os.environ["NAME"], {}))

    @plugin.on_response
    def answer(response):
        note("response", response.request.headers)
"""

FORGED = [
    *("X-User-Id: evil", "x-user-id: evil", "X-USER-ID: evil", "X_User_Id: evil"),
    *("x-user_id: evil", "X-User-ID:evil", "X-User-Id: \tevil", "X-User-Id:"),
]


class Guarded:
    def __init__(self, prox: Running, upstream: Upstream, notes: Path) -> None:
        self.prox = prox
        self.upstream = upstream
        self._notes = notes

    def notes(self) -> list[Any]:
        return read_log(self._notes)

    async def request(self, data: bytes) -> Message:
        """Send a request; what the upstream was sent."""
        async with await self.prox.connect() as client:
            assert (await client.request(data)).status == 200
        return self.upstream.requests[-1]


@asynccontextmanager
async def guarded(
    folder: Path, *names: str, action: dict[str, Any] | None = None, **settings: dict[str, Any]
) -> AsyncIterator[Guarded]:
    """A route with these plugins, in this order."""
    notes = folder / "notes"
    path = write_sdk_plugin(folder, SETTING)
    async with Upstream() as upstream:
        plugins = {
            name: {"path": path, "env": {"NOTES": str(notes), "NAME": name}, **settings.get(name, {})}
            for name in names
        }
        routes: list[dict[str, Any]] = [
            {
                "match": {"path": "/open"},
                "action": {"type": "proxy", "upstream": upstream.address},
            },
            {
                "plugins": list(names),
                "action": {"type": "proxy", "upstream": upstream.address, **(action or {})},
            },
        ]
        async with serving(routes, root={"plugins": plugins}) as prox:
            yield Guarded(prox, upstream, notes)


def setting(**headers: dict[str, str]) -> str:
    return f"X-Set: {json.dumps(headers)}"


def with_trailers(chunk: bytes, *lines: str) -> bytes:
    """A chunked request with the header in its trailers, too."""
    whole = post_chunked(chunk, headers=lines)
    return whole.removesuffix(b"\r\n") + b"X-User-Id: evil\r\nx_user_id: evil\r\n\r\n"


def all_of(message: Message, folded: str) -> list[bytes]:
    """The values of a header in any spelling."""
    return [
        value.strip()
        for name, value in message.headers
        if name.lower().replace(b"_", b"-") == folded.encode()
    ]


@pytest.mark.parametrize("name", ["X-User-Id", "x-user-id", "X_USER_ID", "x-user_Id"])
@pytest.mark.parametrize("body", [False, True])
async def test_what_a_plugin_sets_replaces_all_of_the_clients_copies(
    tmp_path: Path, name: str, body: bool
) -> None:
    async with guarded(tmp_path, "guard") as it:
        lines = [*FORGED, "X-User-Identity: kept", "X-User: kept", setting(guard={name: "u1"})]
        message = await it.request(with_trailers(b"abc", *lines) if body else get("/", *lines))
        assert all_of(message, "x-user-id") == [b"u1"]
        assert b"evil" not in message.raw
        assert (message["x-user-identity"], message["x-user"]) == (b"kept", b"kept")


async def test_a_later_plugin_replaces_what_an_earlier_one_set_in_another_spelling(tmp_path: Path) -> None:
    async with guarded(tmp_path, "first", "second") as it:
        sets = setting(first={"X-User-Id": "one", "X-First": "1"}, second={"x_user_id": "two"})
        message = await it.request(get("/", *FORGED, sets))
        assert all_of(message, "x-user-id") == [b"two"]
        assert message["x-first"] == b"1"


@pytest.mark.parametrize("own", ["X-User-Id", "x_user_id", "X-USER_ID"])
async def test_own_headers_are_gone_before_any_hook_sees_the_request(tmp_path: Path, own: str) -> None:
    async with guarded(tmp_path, "other", "owner", owner={"own_headers": [own]}) as it:
        message = await it.request(get("/", *FORGED, "X-User-Identity: kept"))
        assert all_of(message, "x-user-id") == []
        seen = it.notes()
        assert [(note["hook"], note["plugin"]) for note in seen[:2]] == [
            ("request", "other"),
            ("request", "owner"),
        ]
        assert {note["hook"] for note in seen} == {"request", "response"}
        assert "evil" not in json.dumps(seen)
        assert all(note["headers"]["X-User-Identity"] == "kept" for note in seen)
        assert b"evil" not in message.raw


@pytest.mark.parametrize(
    "data",
    [
        get("/", "Connection: X-User-Id", "X-User-Id: evil"),
        get("/", "X-User-Id: evil", "X-User-Id: evil2", "x_user_id: evil3"),
        post(b"body", *FORGED),
        with_trailers(b"body", *FORGED),
        get("/", *(f"X-Filler-{number}: {number}" for number in range(60)), *FORGED, "X-Odd: \xe9 "),
        get("/", "X-Long: " + "a" * 20_000, *FORGED),
    ],
    ids=["connection", "mixed", "body", "trailers", "many", "long"],
)
async def test_own_headers_are_removed_from_any_request(tmp_path: Path, data: bytes) -> None:
    async with guarded(tmp_path, "owner", owner={"own_headers": ["X-User-Id"]}) as it:
        message = await it.request(data)
        assert all_of(message, "x-user-id") == []
        assert b"evil" not in message.raw
        assert "evil" not in json.dumps(it.notes())


async def test_only_the_owner_sets_its_own_headers(tmp_path: Path) -> None:
    async with guarded(tmp_path, "owner", "other", owner={"own_headers": ["X-User-Id"]}) as it:
        both = setting(owner={"X-User-Id": "owner"}, other={"X_User-Id": "other", "X-Other": "1"})
        message = await it.request(get("/", *FORGED, both))
        assert (all_of(message, "x-user-id"), message["x-other"]) == ([b"owner"], b"1")
        message = await it.request(get("/", *FORGED, setting(other={"x-user-id": "other"})))
        assert all_of(message, "x-user-id") == []


async def test_a_route_without_the_plugin_leaves_them_alone(tmp_path: Path) -> None:
    async with guarded(tmp_path, "owner", owner={"own_headers": ["X-User-Id"]}) as it:
        message = await it.request(get("/open", "X-User-Id: from outside"))
        assert message["x-user-id"] == b"from outside"


async def test_an_owner_in_error_that_may_be_gone_round_lets_no_forged_header_pass(tmp_path: Path) -> None:
    program = tmp_path / "dead"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    owner = {
        "path": str(program),
        "own_headers": ["X-User-Id"],
        "on_error": "allow",
        "start_timeout": "300ms",
    }
    async with guarded(tmp_path, "owner", owner=owner) as it:
        message = await it.request(get("/", *FORGED))
        assert all_of(message, "x-user-id") == []


async def test_own_headers_of_a_fallbacks_plugin_are_removed_too(tmp_path: Path) -> None:
    async with Upstream() as upstream:
        notes = tmp_path / "notes"
        path = write_sdk_plugin(tmp_path, SETTING)
        owner = {"path": path, "env": {"NOTES": str(notes), "NAME": "owner"}, "own_headers": ["X-User-Id"]}
        spare = {"type": "proxy", "upstream": upstream.address, "plugins": ["owner"]}
        action = {"type": "proxy", "upstream": "127.0.0.1:1", "fallback": spare}
        async with (
            serving({"action": action}, root={"plugins": {"owner": owner}}) as prox,
            await prox.connect() as client,
        ):
            assert (await client.request(get("/", *FORGED))).status == 200
        (message,) = upstream.requests
        assert all_of(message, "x-user-id") == []
        assert "evil" not in json.dumps(read_log(notes))


# A plugin without the SDK, which would refuse such values itself.
RAW = """
    from plugin_child import *
    run(lambda hook, call: {"ok": True, "h": {"X-Bad": BAD, "X-Good": "1", "x-bad-too": BAD}}, "on_request")
"""


@pytest.mark.parametrize(
    "value", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "\0", "a\0", "\r\n", "a\r\n\r\nGET /", "\x7f", "\x1b"]
)
async def test_values_that_would_break_a_message_are_refused(
    tmp_path: Path, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_plugin(tmp_path, f"BAD = {value!r}\n" + RAW.replace("\n    ", "\n"))
    async with Upstream() as upstream:
        root = {"plugins": {"guard": {"path": path, "own_headers": ["X-Bad", "X-Bad-Too"]}}}
        async with (
            serving(upstream.address, root=root, plugins=["guard"]) as prox,
            await prox.connect() as client,
        ):
            assert (await client.request(get("/", "X-Bad: forged"))).status == 200
        (message,) = upstream.requests
        assert message["x-good"] == b"1"
        assert not {b"x-bad", b"x-bad-too", b"x-evil"} & {name.lower() for name, _ in message.headers}
        assert "its value has control characters" in caplog.text


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "\0"])
async def test_values_that_would_break_a_denial_are_refused(tmp_path: Path, value: str) -> None:
    body = f"""
        from plugin_child import *
        run(lambda hook, call: {{"ok": False, "s": 401, "h": {{"X-Bad": {value!r}, "X-Good": "1"}}}}, "on_request")
    """
    async with Upstream() as upstream:
        root = {"plugins": {"guard": {"path": write_plugin(tmp_path, body)}}}
        async with (
            serving(upstream.address, root=root, plugins=["guard"]) as prox,
            await prox.connect() as client,
        ):
            response = await client.request(get())
            assert (response.status, response["x-good"]) == (401, b"1")
            assert not {b"x-bad", b"x-evil"} & {name.lower() for name, _ in response.headers}


async def test_headers_that_frame_a_message_stay_prox_own(tmp_path: Path) -> None:
    framing = {"Content-Length": "99", "transfer_encoding": "chunked", "Connection": "close", "TE": "x"}
    async with guarded(tmp_path, "guard") as it:
        message = await it.request(post(b"body", setting(guard={**framing, "Host": "other.test"})))
        assert (message.body, message.all("content-length"), message["host"]) == (
            b"body",
            [b"4"],
            b"other.test",
        )
        assert not {b"transfer-encoding", b"te"} & {
            name.lower().replace(b"_", b"-") for name, _ in message.headers
        }


async def test_an_action_does_not_set_a_plugins_own_headers(tmp_path: Path) -> None:
    action = {"headers": {"X_User-Id": "action", "X-Action": "1"}}
    async with guarded(tmp_path, "owner", action=action, owner={"own_headers": ["X-User-Id"]}) as it:
        message = await it.request(get("/", *FORGED))
        assert (all_of(message, "x-user-id"), message["x-action"]) == ([], b"1")
        message = await it.request(get("/", setting(owner={"X-User-Id": "u1"})))
        assert all_of(message, "x-user-id") == [b"u1"]
