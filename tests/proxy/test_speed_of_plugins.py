"""Limits of bandwidth that plugins set: by verdict, by set_speed, for groups; and which of several holds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from prox.config import model
from prox.http.exchange import Client
from prox.limits import MBPS, Groups, Pacer
from prox.proxy.speed import Limits, RouteSpeed
from prox.wire import Speed
from support.client import get, post
from support.metering import Reader, endless, measured, reading
from support.plugin_host import write_plugin
from support.servers import Running, make_config, serving, until
from support.upstream import Upstream
from support.virtual_clock import VirtualClock

# X-Speed is the verdict's speed; X-Push is pushed before the verdict.
PLUGIN = """
    import json
    from plugin_child import *
    def decide(hook, call):
        if hook == ON_RESPONSE:
            return {"h": {"X-Seen": "yes"}}
        if pushed := call["h"].get("X-Push"):
            push("set_speed", **json.loads(pushed))
        speed = call["h"].get("X-Speed")
        return {"ok": True, "sp": json.loads(speed)} if speed else {"ok": True}
    run(decide, *json.loads(os.environ["HOOKS"]))
"""


def speed(download: float = 0, upload: float = 0, key: str = "") -> Speed:
    return Speed(download_mbps=download, upload_mbps=upload, group_key=key)


class Rig:
    """The limits of one route without a proxy around them."""

    def __init__(self, *, shared: bool = False, download: float = 0, upload: float = 0) -> None:
        self.clock = VirtualClock()
        self.groups = Groups()
        self.route = RouteSpeed(self.groups)
        if download or upload:
            self.route.configure(model.Speed(download_mbps=download, upload_mbps=upload, shared=shared))
        self.client = Client(("192.0.2.1", 1))

    def begin(self, verdict: Speed | None = None, client: Client | None = None) -> Limits:
        limits = self.route.begin(client or self.client, verdict, self.clock)
        assert limits is not None
        return limits


def mbps(pacers: list[Pacer]) -> list[float]:
    return [pacer.rate / MBPS for pacer in pacers]


@pytest.mark.parametrize(
    ("configured", "pushed", "said", "expected"),
    [
        ((5, 0), None, None, (5, 0)),
        ((5, 0), (3, 2), None, (3, 2)),
        ((5, 4), (0, 0), (8, 1), (5, 1)),
        ((0, 0), (7, 0), (9, 6), (7, 6)),
        ((0, 0), None, (9, 6), (9, 6)),
        ((2, 9), (3, 8), (4, 7), (2, 7)),
    ],
)
def test_the_lowest_of_each_direction_holds(
    configured: tuple[float, float],
    pushed: tuple[float, float] | None,
    said: tuple[float, float] | None,
    expected: tuple[float, float],
) -> None:
    rig = Rig(download=configured[0], upload=configured[1])
    if pushed is not None:
        rig.route.push("", speed(*pushed))
    limits = rig.begin(None if said is None else speed(*said))
    assert mbps(limits.download) == [rate for rate in expected[:1] if rate]
    assert mbps(limits.upload) == [rate for rate in expected[1:] if rate]
    again = rig.begin(None if said is None else speed(*said))
    assert again.download == limits.download
    assert again.upload == limits.upload
    other = rig.begin(None if said is None else speed(*said), Client(("192.0.2.1", 2)))
    assert not {*other.download, *other.upload} & {*limits.download, *limits.upload}


def test_no_limit_is_none() -> None:
    rig = Rig()
    assert not rig.route.active
    assert rig.route.begin(rig.client, None, rig.clock) is None
    assert rig.route.begin(rig.client, speed(), rig.clock) is None
    rig.route.push("", speed())
    assert rig.route.begin(rig.client, None, rig.clock) is None
    assert rig.client.limits is None


def test_a_shared_limit_and_a_lower_one_both_hold() -> None:
    rig = Rig(shared=True, download=10)
    one, other = rig.begin(), rig.begin(client=Client(("192.0.2.1", 2)))
    assert one.download == other.download
    lower = rig.begin(speed(4, 1))
    assert mbps(lower.download) == [4, 10]
    assert lower.download[1] is one.download[0]
    assert mbps(lower.upload) == [1]
    rig.route.push("", speed(6))
    pushed = rig.begin()
    assert pushed.download == one.download
    assert mbps(one.download) == [6]


def test_a_group_is_one_for_all_its_connections_on_any_route() -> None:
    rig = Rig(download=20)
    second = RouteSpeed(rig.groups)
    verdict = speed(8, 2, "alice")
    one = rig.begin(verdict)
    other = second.begin(Client(("192.0.2.2", 1)), verdict, rig.clock)
    assert other is not None
    assert other.download[-1] is one.download[-1]
    assert other.upload[-1] is one.upload[-1]
    assert mbps(other.download) == [8]
    assert mbps(one.download) == [20, 8]  # its route's own limit stays, whatever is pushed for the group
    lower = rig.begin(speed(3, 5, "alice"))
    assert mbps(lower.download) == [3, 8]
    assert mbps(lower.upload) == [2]
    assert len(rig.groups) == 1
    for limits in (one, other, lower, lower):
        limits.leave()
    assert len(rig.groups) == 0


def test_a_group_without_rates_can_get_some() -> None:
    rig = Rig()
    limits = rig.begin(speed(key="bob"))
    assert mbps(limits.download) == [0]
    rig.route.push("bob", speed(5))
    assert mbps(limits.download) == [5]
    assert mbps(rig.begin(speed(key="bob")).download) == [5]
    assert rig.route.begin(Client(("192.0.2.2", 1)), speed(key="carol"), rig.clock) is not None


def test_which_push_is_meant() -> None:
    rig = Rig()
    rig.route.push("alice", speed(3))
    nameless = rig.begin()
    assert mbps(nameless.download) == [
        3
    ]  # the caps of new connections of the route, in the group that they name
    assert len(rig.groups) == 1
    rig.route.push("bob", speed(4))
    assert mbps(rig.begin().download) == [4]
    rig.route.push("", speed(9))
    assert mbps(rig.begin().download) == [9]
    assert mbps(rig.begin(speed(key="alice")).download) == [3]
    carol = rig.begin(speed(key="carol"))  # nothing was pushed for her alone
    assert mbps(carol.download) == [9]
    rig.route.set_speeds({})
    assert not rig.route.active


@asynccontextmanager
async def guarded(
    folder: Path, hooks: tuple[str, ...] = ("on_request",), **route: Any
) -> AsyncIterator[tuple[Running, dict[str, Any]]]:
    """Routes whose plugin does what requests say; the configuration, too."""
    plugin = {"path": write_plugin(folder, PLUGIN), "env": {"HOOKS": json.dumps(hooks)}}
    async with Upstream(endless()) as upstream:
        action = {"type": "proxy", "upstream": upstream.address}
        keys: dict[str, Any] = {
            "plugins": {"it": plugin},
            "actions": {"app": action},
        }
        routes = [{"plugins": ["it"], "action": "app", **route}]
        async with serving(routes, root=keys) as prox:
            yield prox, make_config(routes, root=keys)


def asking(said: dict[str, Any] | None = None, pushed: dict[str, Any] | None = None) -> bytes:
    headers = []
    if said is not None:
        headers.append(f"X-Speed: {json.dumps(said)}")
    if pushed is not None:
        headers.append(f"X-Push: {json.dumps(pushed)}")
    return get("/", *headers)


def received(readers: list[Reader]) -> int:
    return sum(reader.received for reader in readers)


async def ended(prox: Running, readers: list[Reader]) -> None:
    for reader in readers:
        await reader.abort()
    await prox.quiet()
    assert len(prox.application._builder._groups) == 0


@pytest.mark.alone
@pytest.mark.parametrize("hooks", [("on_request",), ("on_request", "on_response")])
async def test_a_verdict(tmp_path: Path, hooks: tuple[str, ...]) -> None:
    async with guarded(tmp_path, hooks, speed={"download_mbps": 6}) as (prox, _):
        fast = await reading(prox, asking({"dl": 8}))
        slow = await reading(prox, asking({"dl": 2}))
        plain = await reading(prox, asking())
        await until(lambda: fast.received and slow.received and plain.received)
        await asyncio.gather(
            measured(lambda: fast.received, 6),
            measured(lambda: slow.received, 2),
            measured(lambda: plain.received, 6),
        )
        await ended(prox, [fast, slow, plain])


@pytest.mark.alone
async def test_a_group_of_100_shares_fairly_and_changes_live(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (prox, _):
        readers = [await reading(prox, asking({"dl": 10, "gk": "all"})) for _ in range(100)]
        # Those who came first had larger pieces, and wait a little for the others now.
        await until(lambda: all(reader.received > 5000 for reader in readers))
        before = [reader.received for reader in readers]
        await measured(lambda: received(readers), 10)
        shares = [reader.received - old for reader, old in zip(readers, before, strict=True)]
        assert max(shares) - min(shares) <= 0.1 * sum(shares) / len(shares) + 1024
        pushed = {"route_id": "web:0", "download_mbps": 25, "group_key": "all"}
        readers.append(await reading(prox, asking({"dl": 0.1}, pushed)))
        group = prox.application._builder._groups.find("all")
        assert group is not None
        await until(lambda: group.pair.download.rate == 25 * MBPS)
        await measured(lambda: received(readers), 25, 1.0)
        await ended(prox, readers)


@pytest.mark.alone
async def test_a_push_holds_for_new_connections_and_over_a_reload(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (prox, config):
        free = await reading(prox, asking())
        await until(lambda: free.received)
        pusher = await reading(prox, asking(None, {"action": "app", "download_mbps": 4}))
        manager = prox.application.manager
        await until(lambda: manager.speeds)
        first = await reading(prox, asking())
        await prox.reload(config)
        second = await reading(prox, asking())
        before = free.received
        await asyncio.gather(measured(lambda: first.received, 4, 1), measured(lambda: second.received, 4, 1))
        assert free.received - before > 8 * MBPS
        await ended(prox, [free, pusher, first, second])


@pytest.mark.alone
async def test_a_route_without_hooks_is_limited_by_a_push(tmp_path: Path) -> None:
    body = """
        from plugin_child import *
        for params in configures():
            acknowledge()
            push("set_speed", route_id=params["route_id"], download_mbps=3, upload_mbps=1, group_key="site")
    """
    plugin = {"path": write_plugin(tmp_path, body), "hooks": []}
    async with Upstream(endless()) as upstream:
        routes = [{"plugins": ["it"], "action": {"type": "proxy", "upstream": upstream.address}}]
        async with serving(routes, root={"plugins": {"it": plugin}}) as prox:
            await until(lambda: prox.application.manager.speeds)
            readers = [await reading(prox) for _ in range(3)]
            await measured(lambda: received(readers), 3)
            assert min(reader.received for reader in readers) > 0.8 * MBPS * 2
            await ended(prox, readers)


async def test_a_held_answer_under_a_limit_is_whole(tmp_path: Path) -> None:
    body = bytes(range(256)) * 400
    plugin = {
        "path": write_plugin(tmp_path, PLUGIN),
        "env": {"HOOKS": json.dumps(["on_request", "on_response"])},
    }
    routes = {
        "plugins": ["it"],
        "action": {"type": "static", "body_ref": {"text": body.decode("latin-1")}},
    }
    expected = body.decode("latin-1").encode()
    async with serving(routes, root={"plugins": {"it": plugin}}) as prox:
        async with await prox.connect() as client:
            for _ in range(2):
                answer = await client.request(asking({"dl": 8, "ul": 8}))
                assert answer.body == expected
                assert (b"X-Seen", b"yes") in answer.headers
            answer = await client.request(post(body, 'X-Speed: {"dl": 8, "ul": 8, "gk": "g"}'))
            assert answer.body == expected
        await prox.quiet()
        assert len(prox.application._builder._groups) == 0
