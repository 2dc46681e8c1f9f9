"""Targets and speeds that a plugin pushes, and the route that it is told of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prox.wire import ALL_ROUTES, METHOD_SET_SPEED, METHOD_SET_TARGETS, ConfigureParams, Push, PushParams

from .verdicts import make_speed


def targets_push(
    route_id: str | None,
    targets: Iterable[str] | None,
    *,
    action: str | None = None,
    all_routes: bool = False,
    groups: Mapping[str, Iterable[str]] | None = None,
) -> Push:
    """A `set_targets` line.

    Raises:
        TypeError: not exactly one of `route_id`, `action`, `all_routes`, or not exactly one of `targets`,
            `groups`, or a single string in place of a list.
    """
    route, action = _address(route_id, action, all_routes)
    if (targets is None) == (groups is None):
        raise TypeError("set_targets takes targets or groups")
    if groups is not None:
        keyed = {key: _addresses(group) for key, group in groups.items()}
        return Push(METHOD_SET_TARGETS, PushParams(route_id=route, action=action, groups=keyed))
    flat = _addresses(targets or ())
    return Push(METHOD_SET_TARGETS, PushParams(route_id=route, action=action, targets=flat))


def speed_push(
    route_id: str | None,
    *,
    action: str | None = None,
    all_routes: bool = False,
    download_mbps: float = 0,
    upload_mbps: float = 0,
    group_key: str = "",
) -> Push:
    """A `set_speed` line.

    Raises:
        TypeError: not exactly one of `route_id`, `action`, `all_routes`.
        ValueError: a speed is negative or not finite.
    """
    route, action = _address(route_id, action, all_routes)
    speed = make_speed(download_mbps, upload_mbps, group_key)
    params = PushParams(
        route_id=route,
        action=action,
        download_mbps=speed.download_mbps,
        upload_mbps=speed.upload_mbps,
        group_key=speed.group_key,
    )
    return Push(METHOD_SET_SPEED, params)


def _address(route_id: str | None, action: str | None, all_routes: bool) -> tuple[str, str]:
    if (route_id is not None) + (action is not None) + all_routes != 1:
        raise TypeError("a push is addressed by one of route_id, action and all_routes")
    if all_routes:
        return ALL_ROUTES, ""
    return route_id or "", action or ""


def _addresses(targets: Iterable[str]) -> list[str]:
    if isinstance(targets, str):
        raise TypeError("targets are a list of addresses, not one string")
    return list(targets)


class Route:
    """A route that the plugin is bound to, as `configure` names it.

    Attributes:
        id: `<service>:<index>`; empty for a plugin that runs without a route.
        domain: the route's domain patterns joined by `,`; empty when it has none.
        path: the route's path patterns in the same form.
    """

    __slots__ = ("_send", "domain", "id", "path")

    def __init__(self, params: ConfigureParams, send: Callable[[Push], None]) -> None:
        self.id = params.route_id
        self.domain = params.match.domain if params.match else ""
        self.path = params.match.path if params.match else ""
        self._send = send

    def set_targets(
        self,
        targets: Iterable[str] | None = None,
        *,
        groups: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        """Replace this route's targets; see `Plugin.set_targets`."""
        self._send(targets_push(self.id, targets, groups=groups))

    def set_speed(self, *, download_mbps: float = 0, upload_mbps: float = 0, group_key: str = "") -> None:
        """Set this route's bandwidth caps; see `Plugin.set_speed`."""
        self._send(
            speed_push(self.id, download_mbps=download_mbps, upload_mbps=upload_mbps, group_key=group_key)
        )

    def __repr__(self) -> str:
        return f"<Route {self.id!r} domain={self.domain!r} path={self.path!r}>"
