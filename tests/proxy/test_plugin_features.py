"""Features that a plugin names in `ready`, through the real proxy: headers.multi, response.allow, trace."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from support.client import get, post
from support.plugin_host import write_plugin
from support.servers import Running, read_log, serving, until
from support.upstream import Upstream, answer, answering
from support.upstream_messages import Message

# Without the SDK: answers with what X-Do holds for its name and hook, and notes every payload as it came.
RAW = """
    import json
    from plugin_child import *
    NAME = os.environ["NAME"]
    def decide(hook, call):
        request = call["req"] if hook == ON_RESPONSE else call
        with open(os.environ["NOTES"], "a") as file:
            file.write(json.dumps({"plugin": NAME, "hook": hook, "call": call}, default=str) + "\\n")
        if hook == ON_DISCONNECT:
            return None
        does = json.loads(request["h"].get("X-Do", "{}")).get(NAME, {})
        return does.get("response", {}) if hook == ON_RESPONSE else {"ok": True} | does.get("request", {})
    listener, path = listen()
    serve(listener, decide)
    features = json.loads(os.environ["FEATURES"])
    for params in configures():
        acknowledge()
        extra = {} if features is None else {"features": features}
        say({"method": "ready", "params": {"socket": path, "hooks": json.loads(os.environ["HOOKS"]), **extra}})
"""
ALL = ["headers.multi", "response.allow", "trace"]
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Featured:
    def __init__(self, prox: Running, upstream: Upstream, notes: Path) -> None:
        self.prox = prox
        self.upstream = upstream
        self._notes = notes

    def calls(self, hook: int = 1, plugin: str | None = None) -> list[Any]:
        notes = read_log(self._notes)
        return [n["call"] for n in notes if n["hook"] == hook and plugin in {None, n["plugin"]}]

    async def exchange(self, data: bytes, method: str = "GET") -> tuple[Message, Message]:
        """Send a request on a connection of its own: what the upstream got, and what the client got."""
        async with await self.prox.connect() as client:
            response = await client.request(data, method)
        return (self.upstream.requests[-1] if self.upstream.requests else response), response


@asynccontextmanager
async def featured(
    folder: Path,
    *,
    plugins: dict[str, list[str] | None] | None = None,
    hooks: tuple[str, ...] = ("on_request",),
    reply: bytes | None = None,
    action: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
) -> AsyncIterator[Featured]:
    """A route with these plugins and their features, in this order."""
    plugins = {"one": ALL} if plugins is None else plugins
    notes = folder / "notes"
    path = write_plugin(folder, RAW)
    async with Upstream(answering(reply)) if reply is not None else Upstream() as upstream:
        root = {
            "plugins": {
                name: {
                    "path": path,
                    "env": {
                        "NAME": name,
                        "NOTES": str(notes),
                        "FEATURES": json.dumps(named),
                        "HOOKS": json.dumps(hooks),
                    },
                    **(settings or {}).get(name, {}),
                }
                for name, named in plugins.items()
            }
        }
        what = action or {"type": "proxy"}
        if what["type"] == "proxy":
            what = {"upstream": upstream.address, **what}
        async with serving({"action": what}, root=root, plugins=list(plugins)) as prox:
            yield Featured(prox, upstream, notes)


def do(**plugins: dict[str, Any]) -> str:
    return f"X-Do: {json.dumps(plugins)}"


def values(message: Message, name: str) -> list[bytes]:
    """All values under a name in any spelling, in order."""
    folded = name.encode().lower()
    return [value.strip() for known, value in message.headers if known.lower().replace(b"_", b"-") == folded]


# Who names none.


async def test_who_names_no_feature_gets_the_bytes_of_before_and_is_not_understood(tmp_path: Path) -> None:
    plugins = {"old": None, "new": ALL, "odd": ["later.on"], "none": []}
    hooks = ("on_request", "on_response", "on_disconnect")
    reply = answer(b"ok", b"Set-Cookie: a=1", b"Set-Cookie: b=2")
    async with featured(tmp_path, plugins=plugins, hooks=hooks, reply=reply) as it:
        meant = {"hc": {"st": {"X-Set": ["1", "2"]}}, "rc": {"st": {"X-Response": ["1"]}}}
        says = {name: {"request": meant, "response": meant} for name in ("old", "odd", "none")}
        message, response = await it.exchange(get("/", "X-A: 1", "X-A: 2", do(**says)))
        assert (values(message, "x-set"), values(response, "x-set"), values(response, "x-response")) == (
            [],
            [],
            [],
        )
        await until(lambda: len(it.calls(4)) == 4)
        for hook in (1, 2, 4):
            old = it.calls(hook, "old")
            assert old == it.calls(hook, "odd") == it.calls(hook, "none")
            text = json.dumps(old)
            assert '"hm"' not in text
            assert '"tr"' not in text
        (request,), (pair,), (end,) = (it.calls(hook, "new") for hook in (1, 2, 4))
        assert request["hm"] == pair["req"]["hm"] == {"X-A": ["1", "2"]}
        assert pair["resp"]["hm"] == {"Set-Cookie": ["a=1", "b=2"]}
        assert request["tr"] == pair["req"]["tr"] == end["tr"]
        del request["hm"], request["tr"]
        assert [request] == it.calls(1, "old")


async def test_what_stands_under_a_features_key_may_be_anything_where_it_was_not_named(
    tmp_path: Path,
) -> None:
    odd = {"request": {"hc": 5, "rc": "x", "h": {"X-A": "1"}}, "response": {"hc": [1], "h": {"X-B": "2"}}}
    async with featured(tmp_path, plugins={"one": None}, hooks=("on_request", "on_response")) as it:
        message, response = await it.exchange(get("/", do(one=odd)))
        assert (response.status, values(message, "x-a"), values(response, "x-b")) == (200, [b"1"], [b"2"])


async def test_unknown_features_are_told_at_debug(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "prox.plugin")
    async with featured(tmp_path, plugins={"one": ["trace", "later.on"]}):
        pass
    assert "its features later.on are not known and ignored" in caplog.text
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


async def test_wrong_shapes_are_errors_of_who_has_named_the_feature(tmp_path: Path) -> None:
    async with featured(tmp_path) as it:
        for wrong in ({"hc": 5}, {"hc": {"st": {"X-A": "text"}}}, {"rc": {"rm": "X-A"}}, {"rc": {"ad": [1]}}):
            _, response = await it.exchange(get("/", do(one={"request": wrong})))
            assert response.status == 503, wrong
        assert not it.upstream.requests


# headers.multi, requests.


async def test_all_values_of_a_request(tmp_path: Path) -> None:
    async with featured(tmp_path, settings={"one": {"own_headers": ["X-Own"]}}) as it:
        lines = [
            "X-A: 1",
            "x-a:  2 ",
            "X-B: 1",
            "X-A: \xe9",
            "x-own: 1",
            "X-Own: 2",
            "Cookie: a",
            "Cookie: b",
        ]
        await it.exchange(get("/", *lines))
        (call,) = it.calls()
        assert call["hm"] == {"X-A": ["1", "2", "\xe9"], "Cookie": ["a", "b"]}
        assert (call["h"]["X-A"], call["h"]["X-B"]) == ("1", "1")
        await it.exchange(get("/", "X-A: 1"))
        assert "hm" not in it.calls()[1]


async def test_removals_then_sets_then_appends(tmp_path: Path) -> None:
    async with featured(tmp_path) as it:
        changes = {
            "rm": ["X-Gone", "x_set", "X-Never"],
            "st": {"X-Set": ["1", "2"], "X-None": []},
            "ad": {"X-Set": ["3"], "X-Kept": ["4", "5"], "X-Gone": ["new"]},
        }
        lines = ["X-Gone: a", "x_gone: b", "X-Set: c", "X-SET: d", "X-None: e", "X-Kept: f"]
        message, _ = await it.exchange(
            get("/", *lines, do(one={"request": {"h": {"X-H": "h"}, "hc": changes}}))
        )
        assert {name: values(message, name) for name in ("x-gone", "x-set", "x-none", "x-kept", "x-h")} == {
            "x-gone": [b"new"],
            "x-set": [b"1", b"2", b"3"],
            "x-none": [],
            "x-kept": [b"f", b"4", b"5"],
            "x-h": [b"h"],
        }


async def test_changes_of_several_plugins(tmp_path: Path) -> None:
    first = {
        "h": {"X-A": "a1", "X-B": "b1"},
        "hc": {
            "rm": ["X-E"],
            "st": {"X-C": ["c1", "c2"], "X-D": ["d1"]},
            "ad": {"X-F": ["f1"], "X-C": ["c9"]},
        },
    }
    second = {
        "h": {"x-c": "c3"},
        "hc": {"rm": ["X-A", "X-F"], "st": {"X_B": ["b2", "b3"], "X-D": []}, "ad": {"x-f": ["f2"]}},
    }
    third = {"hc": {"st": {"X-B": ["never: it has not the feature"]}}}
    async with featured(tmp_path, plugins={"one": ALL, "two": ["headers.multi"], "three": ["trace"]}) as it:
        does = do(one={"request": first}, two={"request": second}, three={"request": third})
        message, _ = await it.exchange(get("/", "X-D: client", "X-E: client", "X-F: client", does))
        assert {name: values(message, f"x-{name}") for name in "abcdef"} == {
            "a": [b"a1"],  # a removal takes nothing away that a plugin sets
            "b": [b"b2", b"b3"],
            "c": [b"c3", b"c9"],
            "d": [],
            "e": [],
            "f": [b"f1", b"f2"],
        }


@pytest.mark.parametrize(
    "changes",
    [
        {"rm": ["Host", "Content-Length", "Transfer-Encoding", "X Y", ""]},
        {"st": {"Host": ["a.test", "b.test"]}},
        {"st": {"Host": []}},
        {"ad": {"Host": ["b.test"], "content_length": ["7"], "Transfer-Encoding": ["chunked"]}},
        {"st": {"Content-Length": ["1", "2"], "transfer-encoding": ["chunked"], "Connection": ["close"]}},
        {"ad": {"X-Forwarded-For": ["10.0.0.1"], "X-Forwarded-Proto": ["https"], "Authorization": ["x"]}},
        {"st": {"X-A:": ["1"], "X-B\r\nX-C": ["1"]}},
        {"ad": {"X-Evil": ["ok", "1\r\nX-C: 2"]}},
    ],
)
async def test_what_no_plugin_can_touch(
    tmp_path: Path, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with featured(tmp_path, action={"type": "proxy", "headers": {"X-Action": "1"}}) as it:
        plain, _ = await it.exchange(post(b"body", "Authorization: mine"))
        message, response = await it.exchange(
            post(b"body", "Authorization: mine", do(one={"request": {"hc": changes}}))
        )
        assert response.status == 200
        assert message.body == b"body"
        ours = [pair for pair in message.headers if pair[0].lower() not in {b"x-do", b"traceparent"}]
        assert ours == [pair for pair in plain.headers if pair[0].lower() != b"traceparent"]
        assert re.search("left out|not removed", caplog.text)


async def test_removal_of_what_prox_and_the_action_set(tmp_path: Path) -> None:
    action = {"type": "proxy", "headers": {"X-Action": "1", "X-Other": "2"}}
    async with featured(tmp_path, action=action) as it:
        changes = {"rm": ["X-Forwarded-For", "X_Action"], "st": {"x-forwarded-proto": ["https"]}}
        message, _ = await it.exchange(
            get("/", "X-Forwarded-For: 1.1.1.1", do(one={"request": {"hc": changes}}))
        )
        assert (values(message, "x-forwarded-for"), values(message, "x-action")) == ([], [])
        assert (values(message, "x-forwarded-proto"), values(message, "x-other")) == ([b"https"], [b"2"])


async def test_own_headers_are_only_their_owners(tmp_path: Path) -> None:
    plugins: dict[str, list[str] | None] = {"owner": ALL, "other": ALL}
    async with featured(tmp_path, plugins=plugins, settings={"owner": {"own_headers": ["X-User"]}}) as it:
        forges = {"rm": ["X-User"], "st": {"x_user": ["evil"]}, "ad": {"X-User": ["evil", "evil2"]}}
        owns = {"st": {"X-User": ["u1"]}, "ad": {"X-User": ["u2"]}}
        does = do(owner={"request": {"hc": owns}}, other={"request": {"hc": forges}})
        message, _ = await it.exchange(get("/", "X-User: evil", "X_User: evil", does))
        assert values(message, "x-user") == [b"u1", b"u2"]
        message, _ = await it.exchange(get("/", "X-User: evil", do(other={"request": {"hc": forges}})))
        assert values(message, "x-user") == []


async def test_a_denial_with_several_values(tmp_path: Path) -> None:
    async with featured(tmp_path) as it:
        denial = {
            "ok": False,
            "s": 401,
            "h": {"X-A": "1"},
            "hc": {"st": {"WWW-Authenticate": ["Basic", "Bearer"]}, "ad": {"X-A": ["2"]}},
            "rc": {"st": {"X-Never": ["1"]}},
        }
        _, response = await it.exchange(get("/", do(one={"request": denial})))
        assert response.status == 401
        assert values(response, "www-authenticate") == [b"Basic", b"Bearer"]
        assert (values(response, "x-a"), values(response, "x-never")) == ([b"1", b"2"], [])


# headers.multi, answers.


async def test_cookies_of_an_answer(tmp_path: Path) -> None:
    reply = answer(b"ok", b"Set-Cookie: a=1", b"set-cookie: b=2", b"X-Gone: 1", b"Vary: x")
    async with featured(
        tmp_path, hooks=("on_response",), reply=reply, plugins={"one": ALL, "two": ALL}
    ) as it:
        one = {"rm": ["X-Gone"], "hc": {"ad": {"Set-Cookie": ["c=3", "d=4"], "Vary": ["y"]}}}
        two = {"hc": {"ad": {"set-cookie": ["e=5"]}, "st": {"X-Two": ["1", "2"]}}}
        _, response = await it.exchange(get("/", do(one={"response": one}, two={"response": two})))
        assert values(response, "set-cookie") == [b"a=1", b"b=2", b"c=3", b"d=4", b"e=5"]
        assert (values(response, "x-gone"), values(response, "vary")) == ([], [b"x", b"y"])
        assert values(response, "x-two") == [b"1", b"2"]
        _, response = await it.exchange(
            get("/", do(one={"response": {"hc": {"st": {"Set-Cookie": ["z=9"]}}}}))
        )
        assert values(response, "set-cookie") == [b"z=9"]


async def test_framing_of_an_answer_stays_prox_own(tmp_path: Path) -> None:
    async with featured(tmp_path, hooks=("on_response",), reply=answer(b"ok")) as it:
        evil = {
            "st": {"Content-Length": ["9", "9"], "Transfer_Encoding": ["x"]},
            "ad": {"Connection": ["close"]},
        }
        _, response = await it.exchange(get("/", do(one={"response": {"hc": evil}})))
        assert (response.body, values(response, "content-length")) == (b"ok", [b"2"])
        assert not values(response, "transfer-encoding") + values(response, "connection")


async def test_a_header_that_the_upstream_has_made_hop_by_hop_may_be_set(tmp_path: Path) -> None:
    reply = answer(b"ok", b"Connection: X-Hop", b"X-Hop: upstream")
    for hooks in (("on_request",), ("on_request", "on_response")):
        folder = tmp_path / str(len(hooks))
        folder.mkdir()
        async with featured(folder, hooks=hooks, reply=reply) as it:
            _, response = await it.exchange(
                get("/", do(one={"request": {"rc": {"ad": {"X-Hop": ["plugin"]}}}}))
            )
            assert values(response, "x-hop") == [b"plugin"]


# Values that are refused.


@pytest.mark.parametrize("how", ["h", "st"])
@pytest.mark.parametrize("bad", ["a\r\nX-Evil: 1", "\0"])
async def test_the_clients_copy_does_not_pass_for_a_value_that_is_refused(
    tmp_path: Path, how: str, bad: str
) -> None:
    plugins: dict[str, list[str] | None] = {"one": None if how == "h" else ALL, "two": None}
    async with featured(tmp_path, plugins=plugins) as it:
        bads = {"h": {"X-User": bad}} if how == "h" else {"hc": {"st": {"X-User": ["good", bad]}}}
        does = do(one={"request": bads}, two={"request": {"h": {"X-Two": "2"}}})
        message, response = await it.exchange(get("/", "X-User: forged", "x_user: forged", does))
        assert (response.status, values(message, "x-user"), values(message, "x-two")) == (200, [], [b"2"])
        assert b"\r\nX-Evil" not in message.raw
        later = do(one={"request": bads}, two={"request": {"h": {"X-User": "two"}}})
        message, _ = await it.exchange(get("/", "X-User: forged", later))
        assert values(message, "x-user") == [b"two"]
        earlier = do(one={"request": {"h": {"X-User": "one"}}}, two={"request": {"h": {"X-User": bad}}})
        message, _ = await it.exchange(get("/", "X-User: forged", earlier))
        assert values(message, "x-user") == []


async def test_a_host_that_is_refused_leaves_the_upstreams_own(tmp_path: Path) -> None:
    async with featured(tmp_path) as it:
        message, _ = await it.exchange(get("/", do(one={"request": {"h": {"Host": "a\r\nb"}}})))
        assert values(message, "host") == [it.upstream.address.encode()]


async def test_the_upstreams_copy_does_not_pass_for_a_value_that_is_refused(tmp_path: Path) -> None:
    reply = answer(b"ok", b"X-A: upstream")
    async with featured(tmp_path, hooks=("on_response",), reply=reply, plugins={"one": None}) as it:
        _, response = await it.exchange(get("/", do(one={"response": {"h": {"X-A": "a\nb"}}})))
        assert (response.status, values(response, "x-a")) == (200, [])


# response.allow.

COOKIE = {
    "rc": {"st": {"X-Limit": ["9"], "Server": ["plugin"]}, "ad": {"Set-Cookie": ["p=1"]}, "rm": ["X-Gone"]}
}


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize(
    ("method", "reply"),
    [
        ("GET", answer(b"ok", b"Set-Cookie: u=1", b"Server: upstream", b"X-Gone: 1")),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSet-Cookie: u=1\r\nServer: upstream\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\nSet-Cookie: u=1\r\nX-Gone: 1\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nSet-Cookie: u=1\r\nETag: x\r\n\r\n"),
        (
            "GET",
            b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\nSet-Cookie: u=1\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        ("GET", b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nSet-Cookie: u=1\r\n\r\n"),
    ],
    ids=["get", "head", "204", "304", "chunked", "404"],
)
async def test_an_allowance_changes_the_answer_of_an_upstream(
    tmp_path: Path, held: bool, method: str, reply: bytes
) -> None:
    hooks = ("on_request", "on_response") if held else ("on_request",)
    async with featured(tmp_path, hooks=hooks, reply=reply) as it:
        request = get("/", do(one={"request": COOKIE})).replace(b"GET", method.encode(), 1)
        _, response = await it.exchange(request, method)
        assert values(response, "set-cookie") == [b"u=1", b"p=1"]
        assert (values(response, "x-limit"), values(response, "server")) == ([b"9"], [b"plugin"])
        assert values(response, "x-gone") == []
        assert reply.startswith(b"HTTP/1.1 %d" % response.status)
        _, plain = await it.exchange(get("/").replace(b"GET", method.encode(), 1), method)
        assert values(plain, "set-cookie") == [b"u=1"]
        assert plain.body == response.body
        assert values(plain, "content-length") == values(response, "content-length")


@pytest.mark.parametrize("held", [False, True])
async def test_whatever_action_serves(tmp_path: Path, held: bool) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "a.txt").write_text("file")
    actions: dict[str, tuple[dict[str, Any], str, int]] = {
        "static": ({"type": "static", "body_ref": {"text": "static"}}, "/", 200),
        "empty": ({"type": "static", "status": 204}, "/", 204),
        "serve": ({"type": "serve", "root": str(site)}, "/a.txt", 200),
        "missing": ({"type": "serve", "root": str(site)}, "/b.txt", 404),
        "fallback": (
            {
                "type": "proxy",
                "upstream": "127.0.0.1:1",
                "fallback": {"type": "static", "body_ref": {"text": "x"}},
            },
            "/",
            200,
        ),
    }
    hooks = ("on_request", "on_response") if held else ("on_request",)
    for name, (action, path, status) in actions.items():
        folder = tmp_path / name
        folder.mkdir()
        async with featured(folder, hooks=hooks, action=action) as it:
            _, response = await it.exchange(get(path, do(one={"request": COOKIE})))
            assert (response.status, values(response, "set-cookie")) == (status, [b"p=1"]), name


async def test_on_response_sees_and_changes_what_an_allowance_has_set(tmp_path: Path) -> None:
    reply = answer(b"ok", b"X-A: upstream", b"X-B: upstream")
    async with featured(tmp_path, hooks=("on_request", "on_response"), reply=reply) as it:
        does = {
            "request": {"rc": {"st": {"X-A": ["allowed"], "X-B": ["1", "2"]}}},
            "response": {"h": {"X-A": "changed"}},
        }
        _, response = await it.exchange(get("/", do(one=does)))
        (pair,) = it.calls(2)
        assert (pair["resp"]["h"]["X-A"], pair["resp"]["hm"]) == ("allowed", {"X-B": ["1", "2"]})
        assert (values(response, "x-a"), values(response, "x-b")) == ([b"changed"], [b"1", b"2"])


async def test_allowances_of_several_plugins(tmp_path: Path) -> None:
    async with featured(tmp_path, plugins={"one": ALL, "two": ["response.allow"], "old": None}) as it:
        one = {"rc": {"rm": ["Server"], "st": {"X-A": ["1"], "X-B": ["1"]}, "ad": {"Set-Cookie": ["a=1"]}}}
        two = {"rc": {"rm": ["X-A"], "st": {"x-b": ["2"]}, "ad": {"Set-Cookie": ["b=2"]}}}
        old = {"rc": {"st": {"X-Old": ["1"]}}}
        _, response = await it.exchange(
            get("/", do(one={"request": one}, two={"request": two}, old={"request": old}))
        )
        assert values(response, "set-cookie") == [b"a=1", b"b=2"]
        assert {name: values(response, f"x-{name}") for name in ("a", "b", "old")} == {
            "a": [b"1"],
            "b": [b"2"],
            "old": [],
        }


async def test_prox_own_errors_and_denials_are_not_changed(tmp_path: Path) -> None:
    plugins: dict[str, list[str] | None] = {"one": ALL, "two": None}
    async with featured(tmp_path, plugins=plugins) as it:
        deny = {"request": {"ok": False, "s": 403}}
        _, response = await it.exchange(get("/", do(one={"request": COOKIE}, two=deny)))
        assert (response.status, values(response, "set-cookie")) == (403, [])
        _, response = await it.exchange(get("/", do(one={"request": COOKIE}, two={"request": {"ok": 5}})))
        assert (response.status, values(response, "set-cookie")) == (503, [])
    folder = tmp_path / "down"
    folder.mkdir()
    async with featured(folder, action={"type": "proxy", "upstream": "127.0.0.1:1"}) as it:
        _, response = await it.exchange(get("/", do(one={"request": COOKIE})))
        assert (response.status, values(response, "set-cookie")) == (502, [])


async def test_a_broken_value_in_an_allowance_breaks_no_answer(tmp_path: Path) -> None:
    async with featured(tmp_path, reply=answer(b"ok", b"X-A: upstream")) as it:
        evil = {
            "rc": {
                "st": {"X-A": ["1\r\n\r\nHTTP/1.1 200 OK"]},
                "ad": {"Content-Length": ["99"], "X-B": ["\n"]},
            }
        }
        _, response = await it.exchange(get("/", do(one={"request": evil})))
        assert (response.status, response.body, values(response, "content-length")) == (200, b"ok", [b"2"])
        assert values(response, "x-a") + values(response, "x-b") == []


# trace.


def ids(parent: bytes | str) -> tuple[str, str, str]:
    text = parent.decode() if isinstance(parent, bytes) else parent
    match = re.fullmatch("00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])", text)
    assert match, text
    return match[1], match[2], match[3]


async def test_a_trace_goes_through(tmp_path: Path) -> None:
    plugins: dict[str, list[str] | None] = {"one": ["trace"], "two": None}
    hooks = ("on_request", "on_response", "on_disconnect")
    async with featured(tmp_path, plugins=plugins, hooks=hooks) as it:
        lines = [f"Traceparent: {PARENT}", "tracestate: a=1,", "Tracestate: b=2 , c@d=3"]
        message, _ = await it.exchange(get("/", *lines))
        (parent,) = values(message, "traceparent")
        trace_id, span, flags = ids(parent)
        assert (trace_id, flags) == (PARENT[3:35], "01")
        assert span != PARENT[36:52]
        assert values(message, "tracestate") == [b"a=1,b=2,c@d=3"]
        await until(lambda: it.calls(4, "one") and it.calls(4, "two"))
        (request,), (pair,), (end,) = (it.calls(hook, "one") for hook in (1, 2, 4))
        expected = {"tp": parent.decode(), "ts": "a=1,b=2,c@d=3"}
        assert request["tr"] == pair["req"]["tr"] == end["tr"] == expected
        assert request["h"]["Traceparent"] == PARENT
        for hook in (1, 2, 4):
            assert "tr" not in json.dumps(list(it.calls(hook, "two")[0]))


async def test_a_new_trace_where_the_client_has_none(tmp_path: Path) -> None:
    async with featured(tmp_path) as it:
        seen = set()
        for _ in range(2):
            message, _ = await it.exchange(get("/", "Tracestate: a=1"))
            (parent,) = values(message, "traceparent")
            trace_id, _, flags = ids(parent)
            assert (flags, values(message, "tracestate")) == ("01", [])
            assert it.calls()[-1]["tr"] == {"tp": parent.decode()}
            seen.add(trace_id)
        assert len(seen) == 2


@pytest.mark.parametrize(
    "lines",
    [
        [f"Traceparent: {PARENT}", f"traceparent: {PARENT}"],
        [f"Traceparent: {PARENT.upper()}"],
        [f"Traceparent: {PARENT}, {PARENT}"],
        ["Traceparent: 00-00000000000000000000000000000000-b7ad6b7169203331-01"],
    ],
)
async def test_a_malformed_trace_is_replaced(tmp_path: Path, lines: list[str]) -> None:
    async with featured(tmp_path) as it:
        message, _ = await it.exchange(get("/", *lines, "Tracestate: a=1"))
        (parent,) = values(message, "traceparent")
        assert ids(parent)[0] not in {PARENT[3:35], "0" * 32}
        assert values(message, "tracestate") == []


async def test_without_the_feature_trace_headers_are_headers(tmp_path: Path) -> None:
    async with featured(tmp_path, plugins={"one": ["headers.multi"], "two": None}) as it:
        message, _ = await it.exchange(get("/", "Traceparent: odd", "Tracestate: a=1"))
        assert (values(message, "traceparent"), values(message, "tracestate")) == ([b"odd"], [b"a=1"])
        message, _ = await it.exchange(get("/"))
        assert values(message, "traceparent") == []


async def test_a_plugin_may_set_the_trace_itself(tmp_path: Path) -> None:
    async with featured(tmp_path) as it:
        own = {"request": {"h": {"Traceparent": "mine"}, "hc": {"rm": ["tracestate"]}}}
        message, _ = await it.exchange(get("/", f"traceparent: {PARENT}", "tracestate: a=1", do(one=own)))
        assert values(message, "traceparent") == [b"mine"]


async def test_a_plugin_that_only_hears_of_ends_has_a_trace_too(tmp_path: Path) -> None:
    async with featured(tmp_path, plugins={"one": ["trace"]}, hooks=("on_disconnect",)) as it:
        message, _ = await it.exchange(get("/", f"traceparent: {PARENT}"))
        (parent,) = values(message, "traceparent")
        assert ids(parent)[0] == PARENT[3:35]
        await until(lambda: it.calls(4))
        assert it.calls(4)[0]["tr"] == {"tp": parent.decode()}
