"""The asking of one hook: who is asked, under which id of the route, with which bytes, and what a failure means."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from time import perf_counter
from typing import Final, Generic, Literal, TypeAlias, TypeVar

import msgspec

from prox.routing.paths import has_dot_segments
from prox.wire import (
    FEATURE_HEADERS_MULTI,
    FEATURE_TLS_CLIENT,
    FEATURE_TRACE,
    HOOK_NAMES,
    HOOK_ON_REQUEST,
    AuthorizeResult,
    ConnInfo,
    EncodeError,
    FrameTooLarge,
    HookType,
    RequestInfo,
    ResponsePair,
    has_more,
    marshal_envelope,
    shown_to,
)

from .caller import Caller
from .errors import CallError, ErrorKind, HookError, RequestNotEncodable
from .figures import HookFigures
from .life import Life
from .model import Policy
from .plan import Step
from .supervisor import Supervisor

Verdict: TypeAlias = Literal["allow", "deny", "drop", "fallback", "error"]
P = TypeVar("P", RequestInfo, ResponsePair, ConnInfo)
R = TypeVar("R")

_SHOWN: Final = frozenset({FEATURE_HEADERS_MULTI, FEATURE_TLS_CLIENT, FEATURE_TRACE})
"""The features that add something to what a plugin is shown."""
_NO_FEATURES: Final[frozenset[str]] = frozenset()


class HookRecord:
    """What the access log says of the hooks of a request.

    Attributes:
        plugin: alias of the plugin that decided, or failed; of the last one asked when all allowed.
        verdict: the outcome; `error` also where a plugin failed and the policy allowed.
    """

    __slots__ = ("plugin", "verdict")

    def __init__(self) -> None:
        self.plugin = ""
        self.verdict: Verdict = "allow"


class Turn:
    """A step with the plugin that takes it, and that plugin's figures of on_request."""

    __slots__ = ("figures", "step", "supervisor")

    def __init__(self, step: Step, supervisor: Supervisor) -> None:
        self.step = step
        self.supervisor = supervisor
        self.figures: HookFigures = supervisor.figures[HOOK_ON_REQUEST]


class Asking(Generic[P, R]):
    """The asking of one hook for one request.

    The frame is encoded once for all plugins that are shown the same; one that knows the route under another id gets
    its own.

    Attributes:
        type: the hook.
        route_id: the route.
        payload: what the plugins are shown.
        rename: makes a payload with another route id.
        call: the call of one plugin.
        record: filled in for the access log.
    """

    __slots__ = ("_frames", "_has_more", "call", "payload", "record", "rename", "route_id", "type")

    def __init__(
        self,
        type_: HookType,
        route_id: str,
        payload: P,
        rename: Callable[[P, str], P],
        call: Callable[[Caller, bytes, float], Awaitable[R]],
        record: HookRecord | None,
    ) -> None:
        self.type = type_
        self.route_id = route_id
        self.payload: P = payload
        self.rename: Callable[[P, str], P] = rename
        self.call = call
        self.record = record
        self._has_more = has_more(payload)
        self._frames: dict[frozenset[str], bytes] = {}

    async def ask(self, turn: Turn, policy: Policy, deadline: float) -> R | None:
        """A plugin's answer, or None where it is in error and the policy allows."""
        supervisor, step = turn.supervisor, turn.step
        hook = HOOK_NAMES[self.type]
        figures = supervisor.figures[hook]
        figures.calls += 1
        if step.timeout is not None:
            deadline = min(deadline, asyncio.get_running_loop().time() + step.timeout)
        try:
            life, caller = self._reach(supervisor, hook)
            known = life.id_of(step.key, self.route_id)
            if known is None:
                life, caller, known = await self._moved(supervisor, life, step.key, deadline)
            if life.refused:
                _check_accepted(life, step.key)
            era = life.era
            era.calls += 1
            try:
                frame = self._encoded(known, caller)
                began = perf_counter()
                result = await self.call(caller, frame, deadline)
                if isinstance(result, AuthorizeResult) and result.path:
                    check_path(result, step)
            finally:
                era.leave()
        except CallError as error:
            failed(turn, hook, self.route_id, policy, error, self.record)
            return None
        figures.latency.observe(perf_counter() - began)
        return result

    def _reach(self, supervisor: Supervisor, hook: str) -> tuple[Life, Caller]:
        life = supervisor.life
        if life is None or life.hooks is None:
            raise CallError(ErrorKind.NOT_READY, f"the plugin is {supervisor.status}")
        caller = life.caller
        if caller is None or hook not in life.hooks:
            raise CallError(ErrorKind.NOT_SERVED, "its ready does not name the hook and a socket")
        return life, caller

    async def _moved(
        self, supervisor: Supervisor, life: Life, key: Hashable, deadline: float
    ) -> tuple[Life, Caller, str]:
        """Who is asked about a route that is getting another id, and under which, once it has it."""
        await life.moved(key, deadline)
        life, caller = self._reach(
            supervisor, HOOK_NAMES[self.type]
        )  # another process may be in charge by now
        known = life.id_of(key, self.route_id)
        if known is None:
            raise CallError(ErrorKind.NOT_CONFIGURED, "it has not acknowledged the route")
        return life, caller, known

    def _encoded(self, route_id: str, caller: Caller) -> bytes:
        """The call's frame under the plugin's id of the route, with what its features ask for."""
        features = caller.features & _SHOWN if self._has_more else _NO_FEATURES
        limit = caller.max_frame
        frame = self._frames.get(features)
        if frame is not None and route_id == self.route_id and len(frame) <= limit:
            return frame
        payload = shown_to(self.payload, features) if self._has_more else self.payload
        if _route_of(payload) != route_id:
            payload = self.rename(payload, route_id)
        try:
            frame = marshal_envelope(self.type, payload, limit)
        except EncodeError as error:
            raise RequestNotEncodable(400, str(error)) from error
        except FrameTooLarge as too_large:
            if _answers_doing(payload, limit):
                raise CallError(ErrorKind.TOO_LARGE, f"the answer's headers: {too_large}") from too_large
            raise RequestNotEncodable(431, str(too_large)) from too_large
        if route_id == self.route_id:
            self._frames[features] = frame
        return frame


def failed(
    turn: Turn, hook: str, route_id: str, policy: Policy, error: CallError, record: HookRecord | None
) -> None:
    """Count and tell of a call that failed; raises HookError where the policy denies."""
    supervisor = turn.supervisor
    supervisor.figures[hook].errors[error.kind] += 1
    failure = HookError(supervisor.name, route_id, hook, error.kind, str(error))
    supervisor.complaints.tell(
        f"{hook} {error.kind}",
        f"hook failed: {error}",
        {"route": route_id, "hook": hook, "kind": str(error.kind)},
    )
    note(record, supervisor.name, "error")
    if policy == "deny":
        raise failure from error


def frame_of(info: RequestInfo, route_id: str, caller: Caller) -> bytes:
    """The frame of on_request under the id `route_id`, for the plugin that is called."""
    if info.route_id != route_id:
        info = info_with_route(info, route_id)
    if info.all_values or info.trace is not None or info.certificate is not None:
        info = shown_to(info, caller.features)
    try:
        return marshal_envelope(HookType.ON_REQUEST, info, caller.max_frame)
    except EncodeError as error:
        raise RequestNotEncodable(400, str(error)) from error
    except FrameTooLarge as too_large:
        raise RequestNotEncodable(431, str(too_large)) from too_large


def check_path(result: AuthorizeResult, step: Step) -> None:
    """Refuse an answer whose path would leave the upstream's prefix; that of a denial means nothing.

    Raises:
        CallError: the path has a segment `.` or `..`.
    """
    if step.dot_segments or result.drop or not (result.allow or result.fallback):
        return
    if has_dot_segments(result.path):
        raise CallError(ErrorKind.UNDECODABLE, "the path that it sends upstream has . or .. segments")


def _check_accepted(life: Life, key: Hashable) -> None:
    if key in life.refused:
        raise CallError(ErrorKind.NOT_CONFIGURED, "it refused the route")


def _answers_doing(payload: RequestInfo | ResponsePair | ConnInfo, limit: int) -> bool:
    """Whether a frame is too large by the answer and not the request: a client must not choose to fail a guard."""
    return isinstance(payload, ResponsePair) and not _larger(payload.request, limit // 2)


def _larger(info: RequestInfo, limit: int) -> bool:
    try:
        marshal_envelope(HookType.ON_REQUEST, info, limit)
    except FrameTooLarge:
        return True
    return False


def _route_of(payload: RequestInfo | ResponsePair | ConnInfo) -> str:
    if isinstance(payload, ResponsePair):
        return payload.request.route_id
    return payload.route_id


def info_with_route(info: RequestInfo, route_id: str) -> RequestInfo:
    """The request under another id of its route."""
    return msgspec.structs.replace(info, route_id=route_id)


def pair_with_route(pair: ResponsePair, route_id: str) -> ResponsePair:
    """The pair under another id of its route."""
    return ResponsePair(request=info_with_route(pair.request, route_id), response=pair.response)


def conn_with_route(conn: ConnInfo, route_id: str) -> ConnInfo:
    """The connection under another id of its route."""
    return msgspec.structs.replace(conn, route_id=route_id)


_WEIGHT: Final = {"allow": 0, "fallback": 1, "error": 2, "deny": 3, "drop": 3}


def note(record: HookRecord | None, plugin: str, verdict: Verdict) -> None:
    """Keep the verdict that says most: one that ends it, an error, a fallback, an allowance."""
    if record is not None and (not record.plugin or _WEIGHT[verdict] >= _WEIGHT[record.verdict]):
        record.plugin, record.verdict = plugin, verdict
