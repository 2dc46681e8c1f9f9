"""What the host raises: errors of a call, of a hook under its policy, of a start, and of a request."""

from __future__ import annotations

from enum import StrEnum


class ErrorKind(StrEnum):
    """Why a plugin did not answer a hook. The value is the name in logs and figures."""

    NOT_READY = "not_ready"
    """Starting, backing off or stopped: no socket to call."""
    NOT_CONFIGURED = "not_configured"
    """It has not acknowledged this route, or answered its `configure` with an error."""
    NOT_SERVED = "not_served"
    """Its setting `hooks` says that it serves the hook, its `ready` does not."""
    CONNECT = "connect"
    """The socket is gone, refuses, or belongs to another user."""
    DEADLINE = "deadline"
    """No answer in time, the wait for a connection included."""
    CLOSED = "closed"
    """The connection ended before the answer."""
    TOO_LARGE = "too_large"
    """A frame above the limit."""
    UNDECODABLE = "undecodable"
    """The answer is no msgpack, of the wrong shape, or more than one frame."""


class PluginError(Exception):
    """Anything that this package raises."""


class PluginStartError(PluginError):
    """The program can't be started; the text says what to do."""


class PluginSwapError(PluginError):
    """A new process did not take the place of the one before, which stays; the text says why."""


class CallError(PluginError):
    """One call failed; others are not touched by it."""

    def __init__(self, kind: ErrorKind, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


class HookError(PluginError):
    """A plugin that guards a route is in error, and the policy is to refuse.

    Attributes:
        plugin: its alias.
        route_id: the route.
        hook: the hook's name.
        kind: why.
    """

    def __init__(self, plugin: str, route_id: str, hook: str, kind: ErrorKind, detail: str = "") -> None:
        super().__init__(
            f"{hook} of plugin {plugin} on route {route_id}: {kind}{': ' if detail else ''}{detail}"
        )
        self.plugin = plugin
        self.route_id = route_id
        self.hook = hook
        self.kind = kind


class RequestNotEncodable(PluginError):  # noqa: N818 - a condition of the request, which is answered with `status`
    """The request can't be shown to a plugin; it is refused whatever the policy says.

    Attributes:
        status: 400 where it can't be encoded, 431 where its frame is too large.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
