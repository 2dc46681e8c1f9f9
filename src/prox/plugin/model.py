"""What the host is told: programs, bindings, routes and delays. Plain values, hashable where they are identities."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from prox.wire import FRAME_LIMIT, LINE_LIMIT, MatchInfo, Speed

from .limits import PluginLimits

Policy: TypeAlias = Literal["allow", "deny"]


class BalancerSink(Protocol):
    """What takes pushed targets. Both calls replace what was there; the addresses have been checked."""

    def set_targets(self, targets: Sequence[str]) -> None:
        """Replace the flat list."""

    def set_groups(self, groups: Mapping[str, Sequence[str]]) -> None:
        """Replace all keyed lists."""


class SpeedSink(Protocol):
    """What takes pushed speeds of one route. They have been checked."""

    def set_speeds(self, speeds: Mapping[str, Speed]) -> None:
        """Replace all, by group key in the order in which they were pushed; an empty key is that of the route itself."""

    def push(self, key: str, speed: Speed) -> None:
        """A speed was pushed just now, for this group key."""


@dataclass(frozen=True, kw_only=True)
class PluginSpec:
    """A program and how it is run. Two that are equal are one process; the alias only names it in logs.

    Attributes:
        path: the program; a relative path counts from prox's working directory.
        alias: its name in logs and figures; the path when empty.
        args: arguments behind the program's name.
        env: variables set on top of the cleaned environment.
        env_pass: names of prox's own variables that are passed on; `*` stands for any characters.
        cwd: its working directory; prox's own when `None`.
        hooks: what it must serve; this decides alone when given (empty: a discovering plugin).
        start_timeout: seconds that it has to answer `configure`.
        max_concurrency: calls in flight, which is also the number of connections.
        push_scope: which routes a push by action or `*` reaches: all with a balancer, or only bound ones.
        own_headers: request headers that only this plugin may set.
        autostart: it runs although no route is bound to it.
        max_line: bytes of one line on its stdout.
        max_frame: bytes of one frame, either way.
        limits: what the operating system lets it have, and whom it runs as.
    """

    path: str
    alias: str = field(default="", compare=False)
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, hash=False)
    env_pass: tuple[str, ...] = ()
    cwd: str | None = None
    hooks: tuple[str, ...] | None = None
    start_timeout: float = 10.0
    max_concurrency: int = 256
    push_scope: Literal["all", "bound"] = "all"
    own_headers: tuple[str, ...] = ()
    autostart: bool = False
    max_line: int = LINE_LIMIT
    max_frame: int = FRAME_LIMIT
    limits: PluginLimits | None = None

    def __post_init__(self) -> None:
        if self.max_concurrency < 1:
            raise ValueError("max_concurrency is at least 1")
        object.__setattr__(self, "env", dict(self.env))

    @property
    def name(self) -> str:
        """The alias, or the path where there is none."""
        return self.alias or self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class OnError:
    """What an error of a plugin means for each hook: go on as if it had allowed, or refuse."""

    request: Policy = "deny"
    response: Policy = "allow"
    connect: Policy = "deny"

    def strictest(self, other: OnError) -> OnError:
        """Deny wherever one of both denies."""
        return OnError(
            request=_stricter(self.request, other.request),
            response=_stricter(self.response, other.response),
            connect=_stricter(self.connect, other.connect),
        )


def _stricter(one: Policy, other: Policy) -> Policy:
    return "deny" if "deny" in {one, other} else "allow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A plugin on a route. Bindings of one route are called in the order in which they are given.

    Attributes:
        route_id: the route; empty for a plugin that runs without one (`autostart`).
        plugin: the program.
        match: the route's patterns, shown to the plugin.
        balancer: takes targets pushed to this route where `RouteInfo` names none.
        timeout: seconds for all plugins of one hook of one request.
        plugin_timeout: this binding's own tighter limit in seconds.
        on_error: what an error means.
        stage: 0 for the plugins of service, action and route; 1 for those of the fallback action, and so on.
    """

    route_id: str
    plugin: PluginSpec
    match: MatchInfo | None = None
    balancer: BalancerSink | None = None
    timeout: float = 5.0
    plugin_timeout: float | None = None
    on_error: OnError = OnError()
    stage: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteInfo:
    """A route that pushes can reach.

    Attributes:
        action: name of its action, empty for an inline one.
        balancer: takes the pushed targets; None for a route without a balancer.
        key: what the route is, whatever its index: pushed targets stay with it over a reload. The route's id
            when None.
        dot_segments: whether a path that a plugin sends upstream may have segments `.` or `..`; else such an answer is of
            the wrong shape.
        speed: takes the pushed speeds; None for a route that has no use for them.
    """

    action: str = ""
    balancer: BalancerSink | None = None
    key: Hashable = None
    dot_segments: bool = False
    speed: SpeedSink | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """All waiting of the host, in seconds where nothing else is said: a value, so that tests need not wait.

    Attributes:
        restart_first: before the first restart; each further one doubles.
        restart_most: the longest wait before a restart.
        restart_jitter: part by which a wait is longer or shorter at random.
        steady_after: a life of this length sets the waits back to the first.
        ready_grace: how long a start waits for `ready` after the last acknowledgement.
        stop_eof: after stdin is closed, before SIGTERM.
        stop_term: after SIGTERM, before SIGKILL.
        stop_kill: after SIGKILL, before the host goes on without the process.
        drain: how long output of a process that has exited is still read.
        flush: how long on_disconnect messages may hold up a stop.
        retire: how long a plugin that a reload took out may still serve hooks of requests in flight.
        guardian_term: what the guardian leaves between SIGTERM and SIGKILL.
        probe: between two tries whether a plugin's socket takes connections.
        probe_again: before the second try, where the first was refused.
        mute_calls: the number of calls in a row without an answer that may make a process mute.
        mute_after: how long no call may have been answered, for it to be mute.
    """

    restart_first: float = 1.0
    restart_most: float = 30.0
    restart_jitter: float = 0.2
    steady_after: float = 10.0
    ready_grace: float = 1.0
    stop_eof: float = 5.0
    stop_term: float = 2.0
    stop_kill: float = 2.0
    drain: float = 1.0
    flush: float = 1.0
    retire: float = 15.0
    guardian_term: float = 2.0
    probe: float = 2.0
    probe_again: float = 0.5
    mute_calls: int = 5
    mute_after: float = 10.0
