"""A push as it was read from a plugin: addressed to what a route is, not to its index, and checked whole.

It is read under the ids that the plugin knew when it sent it, so that it keeps its meaning where it has to wait.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from prox.config.addresses import check_target
from prox.wire import ALL_ROUTES, METHOD_SET_SPEED, Push, PushParams, Speed

from .life import Life
from .process import printable

Address: TypeAlias = tuple[str, Hashable]
EVERYWHERE: Final[Address] = ("*", None)


def to_route(key: Hashable) -> Address:
    """The address of one route."""
    return ("route", key)


def to_action(name: str) -> Address:
    """The address of every route with an action of this name."""
    return ("action", name)


@dataclass(frozen=True, slots=True)
class Pushed:
    """A valid push. It replaces what the same plugin pushed to the same `place` before.

    Attributes:
        method: `set_targets` or `set_speed`.
        address: the routes.
        value: a list of targets, lists of targets by key, or a speed.
    """

    method: str
    address: Address
    value: Sequence[str] | Mapping[str, Sequence[str]] | Speed

    @property
    def place(self) -> tuple[object, ...]:
        """What a later push must share to replace this one."""
        if isinstance(self.value, Speed):
            return ("speed", self.address, self.value.group_key)
        return ("groups" if isinstance(self.value, Mapping) else "targets", self.address)


def read_push(push: Push, life: Life) -> Pushed | str:
    """Read what a process has sent; or why it changes nothing."""
    params = push.params
    address = _address(params, life)
    if isinstance(address, str):
        return address
    if push.method == METHOD_SET_SPEED:
        speed = Speed(
            download_mbps=params.download_mbps, upload_mbps=params.upload_mbps, group_key=params.group_key
        )
        return _speed_problem(speed) or Pushed(push.method, address, speed)
    value: Sequence[str] | Mapping[str, Sequence[str]]
    value = params.groups if params.groups is not None else params.targets or []
    return _target_problem(value) or Pushed(push.method, address, value)


def hint(address: Address) -> str:
    """Why an address may reach no route."""
    if address == EVERYWHERE:
        return ": none has a balancer"
    if address[0] == "action":
        return f": none with a balancer uses action {printable(str(address[1]))}"
    return ": the route has no balancer"


def _address(params: PushParams, life: Life) -> Address | str:
    if params.route_id == ALL_ROUTES:
        return EVERYWHERE
    if params.route_id:
        key = life.key_of(params.route_id)
        if key is None:
            return f"it is not bound to route {printable(params.route_id)}"
        return to_route(key)
    if params.action:
        return to_action(params.action)
    return "it names neither route_id nor action"


def _target_problem(value: Sequence[str] | Mapping[str, Sequence[str]]) -> str:
    lists = value.values() if isinstance(value, Mapping) else [value]
    try:
        for addresses in lists:
            for address in addresses:
                check_target(address)
    except ValueError as error:
        return printable(str(error))
    return ""


def _speed_problem(speed: Speed) -> str:
    for rate in (speed.download_mbps, speed.upload_mbps):
        if not math.isfinite(rate) or rate < 0:
            return f"{rate} Mbps is no speed"
    return ""
