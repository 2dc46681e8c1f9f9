"""The hook index: which plugins are asked for a route, and the asking. One for each configuration.

A request that began under an index ends under it. An index never changes; what its plugins serve may, when they say
`ready`, so `has_hook` is always a look at them.
A hook is asked of each plugin in turn; a plugin in error never counts as one that allowed, unless its policy says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from time import perf_counter
from typing import Final, Generic, Literal, TypeAlias, TypeVar

import msgspec

from prox.wire import (
    HOOK_NAMES,
    HOOK_ON_CONNECT,
    HOOK_ON_DISCONNECT,
    HOOK_ON_REQUEST,
    HOOK_ON_RESPONSE,
    AuthorizeResult,
    ConnInfo,
    ConnResult,
    DisconnectInfo,
    EncodeError,
    FrameTooLarge,
    HookType,
    RequestInfo,
    ResponseModResult,
    ResponsePair,
    UpstreamResponseInfo,
    marshal_envelope,
)

from .caller import Caller
from .errors import CallError, ErrorKind, HookError, RequestNotEncodable
from .figures import HookFigures
from .lease import Lease
from .life import Life
from .merge import RequestMerge, RequestVerdict, ResponseMerge, stands_alone
from .model import PluginSpec, Policy
from .plan import Plan, Step
from .supervisor import Supervisor

Verdict: TypeAlias = Literal["allow", "deny", "drop", "fallback", "error"]
P = TypeVar("P", RequestInfo, ResponsePair, ConnInfo)
R = TypeVar("R")

_ALLOWED: Final = AuthorizeResult(allow=True)
_UNCHANGED: Final = ResponseModResult()
_CONNECTED: Final = ConnResult(allow=True)
_NOTHING: Final[frozenset[bytes]] = frozenset()


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


class _Turn:
    """A step with the plugin that takes it, and that plugin's figures of on_request."""

    __slots__ = ("figures", "step", "supervisor")

    def __init__(self, step: Step, supervisor: Supervisor) -> None:
        self.step = step
        self.supervisor = supervisor
        self.figures: HookFigures = supervisor.figures[HOOK_ON_REQUEST]


class _Stage:
    """The plugins of one stage of a route, which share `timeout`; `only` where there is one."""

    __slots__ = ("only", "timeout", "turns")

    def __init__(self, turns: list[_Turn], timeout: float) -> None:
        self.turns = tuple(turns)
        self.timeout = timeout
        self.only = turns[0] if len(turns) == 1 else None


class HookIndex:
    """The hooks of all routes of one configuration."""

    __slots__ = (
        "_lease",
        "_loop",
        "_own_headers",
        "_stages",
        "_timeouts",
        "_turns_of",
    )

    def __init__(self, plan: Plan, supervisors: Mapping[PluginSpec, Supervisor]) -> None:
        self._own_headers = plan.own_headers
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stages = {
            place: _Stage([_Turn(step, supervisors[step.plugin]) for step in stage.steps], stage.timeout)
            for place, stage in plan.stages.items()
        }
        self._turns_of: dict[str, tuple[_Turn, ...]] = {}
        self._timeouts: dict[str, float] = {}
        for (route_id, _), found in self._stages.items():
            self._timeouts.setdefault(route_id, found.timeout)
            self._turns_of[route_id] = (*self._turns_of.get(route_id, ()), *found.turns)
        self._lease = Lease({turn.supervisor for turns in self._turns_of.values() for turn in turns})

    def has_hook(self, route_id: str, hook: str, stage: int = 0) -> bool:
        """Whether a plugin of this stage of the route serves a hook, or may once it is ready. Never waits."""
        found = self._stages.get((route_id, stage))
        if found is None:
            return False
        for turn in found.turns:  # noqa: SIM110 - compiled, a generator costs more than the loop
            if hook in turn.supervisor.hooks:
                return True
        return False

    def hooks_of(self, route_id: str) -> frozenset[str]:
        """The hooks for which `has_hook` is true of any stage of the route. Never waits."""
        turns = self._turns_of.get(route_id, ())
        if len(turns) == 1:
            return turns[0].supervisor.hooks
        return frozenset().union(*[turn.supervisor.hooks for turn in turns])

    def deadline(self, route_id: str, spent: float = 0.0) -> float:
        """When the plugins of a route must have answered a hook that is asked from now on, in the loop's time.

        Args:
            route_id: the route; its stages share one timeout.
            spent: seconds that plugins of earlier stages took. What an action took in between does not count.
        """
        return self._now() + max(self._timeouts.get(route_id, 0.0) - spent, 0.0)

    def _now(self) -> float:
        # The loop is asked for once: on Python 3.11 that is a system call.
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop.time()

    def own_headers(self, route_id: str) -> frozenset[bytes]:
        """Request headers that only the route's plugins may set: lower case, `-` for `_`."""
        return self._own_headers.get(route_id, _NOTHING)

    async def on_request(
        self,
        route_id: str,
        info: RequestInfo,
        *,
        stage: int = 0,
        deadline: float | None = None,
        record: HookRecord | None = None,
    ) -> AuthorizeResult:
        """Ask the plugins of one stage in turn; the first that denies or drops ends it, the others' results merge.

        Args:
            route_id: the route.
            info: the request as the client sent it.
            stage: 0, or the place of the fallback whose plugins are asked.
            deadline: of the loop's clock, see `deadline`: a later stage shares that of the first; None: a new one.
            record: filled in for the access log.

        Raises:
            HookError: a plugin is in error and its policy denies.
            RequestNotEncodable: the request can't be shown to a plugin.
        """
        found = self._stages.get((route_id, stage))
        if found is None:
            return _ALLOWED
        limit = self._now() + found.timeout if deadline is None else deadline
        turn = found.only
        if turn is not None:
            # One plugin that serves the hook and knows the route by this id: nearly every request.
            supervisor, step = turn.supervisor, turn.step
            life = supervisor.life
            caller = None if life is None else life.caller_now(HOOK_ON_REQUEST, step.key, route_id)
            if caller is None or life is None or HOOK_ON_REQUEST not in supervisor.hooks:
                return await self._ask_in_turn(found.turns, route_id, info, limit, record)
            figures = turn.figures
            figures.calls += 1
            if step.timeout is not None:
                limit = min(limit, self._now() + step.timeout)
            era = life.era
            era.calls += 1
            try:
                frame = _frame_of(info, route_id, caller.max_frame)
                began = perf_counter()
                result = await caller.ask_request(frame, limit)
            except CallError as error:
                _failed(turn, HOOK_ON_REQUEST, route_id, step.on_error.request, error, record)
                return _ALLOWED
            finally:
                era.leave()
            figures.latency.observe(perf_counter() - began)
            if stands_alone(result, step.foreign):
                figures.verdicts["allow"] += 1
                if record is not None:
                    if record.plugin:
                        _note(record, supervisor.name, "allow")
                    else:
                        record.plugin = supervisor.name
                return result
            merge = RequestMerge()
            _take(merge, turn, result, record)
            return merge.result()
        return await self._ask_in_turn(found.turns, route_id, info, limit, record)

    @staticmethod
    async def _ask_in_turn(
        turns: tuple[_Turn, ...], route_id: str, info: RequestInfo, limit: float, record: HookRecord | None
    ) -> AuthorizeResult:
        merge = RequestMerge()
        asking = _Asking(HookType.ON_REQUEST, route_id, info, _info_with_route, Caller.ask_request, record)
        for turn in turns:
            if HOOK_ON_REQUEST not in turn.supervisor.hooks:
                continue
            result = await asking.ask(turn, turn.step.on_error.request, limit)
            if result is not None and _take(merge, turn, result, record) in {"deny", "drop"}:
                break
        return merge.result()

    async def on_response(
        self,
        route_id: str,
        info: RequestInfo,
        resp: UpstreamResponseInfo,
        *,
        stage: int = 0,
        deadline: float | None = None,
        record: HookRecord | None = None,
    ) -> ResponseModResult:
        """Ask the plugins of all stages up to `stage` what to change in an answer; their results merge.

        Raises:
            HookError: a plugin is in error and its policy denies.
            RequestNotEncodable: the request is too large to be shown beside the answer.
        """
        stages = [found for at in range(stage + 1) if (found := self._stages.get((route_id, at))) is not None]
        if not stages:
            return _UNCHANGED
        limit = deadline
        if limit is None:
            limit = self._now() + min(found.timeout for found in stages)
        merge = ResponseMerge()
        pair = ResponsePair(request=info, response=resp)
        hook = HOOK_ON_RESPONSE
        asking = _Asking(HookType.ON_RESPONSE, route_id, pair, _pair_with_route, Caller.ask_response, record)
        for turn in (turn for found in stages for turn in found.turns):
            if hook not in turn.supervisor.hooks:
                continue
            result = await asking.ask(turn, turn.step.on_error.response, limit)
            if result is not None:
                verdict = merge.add(result, turn.supervisor.complaints)
                turn.supervisor.figures[hook].verdicts[verdict] += 1
        return merge.result()

    async def on_connect(
        self,
        route_id: str,
        conn: ConnInfo,
        *,
        deadline: float | None = None,
        record: HookRecord | None = None,
    ) -> ConnResult:
        """Ask the plugins of a route whether a connection may be relayed; the first that denies ends it.

        Raises:
            HookError: a plugin is in error and its policy denies.
            RequestNotEncodable: the connection can't be shown to a plugin.
        """
        found = self._stages.get((route_id, 0))
        if found is None:
            return _CONNECTED
        limit = self._now() + found.timeout if deadline is None else deadline
        hook = HOOK_ON_CONNECT
        asking = _Asking(HookType.ON_CONNECT, route_id, conn, _conn_with_route, Caller.ask_connect, record)
        for turn in found.turns:
            if hook not in turn.supervisor.hooks:
                continue
            result = await asking.ask(turn, turn.step.on_error.connect, limit)
            if result is None:
                continue
            verdict: Verdict = "allow" if result.allow else "deny"
            turn.supervisor.figures[hook].verdicts[verdict] += 1
            _note(record, turn.supervisor.name, verdict)
            if not result.allow:
                return result
        return _CONNECTED

    def on_disconnect(self, route_id: str, info: DisconnectInfo, *, stage: int = 0) -> None:
        """Tell the plugins of all stages up to `stage` of an end. Never waits; a full queue drops and counts."""
        for at in range(stage + 1):
            found = self._stages.get((route_id, at))
            for turn in found.turns if found is not None else ():
                supervisor = turn.supervisor
                if HOOK_ON_DISCONNECT in supervisor.hooks:
                    supervisor.figures[HOOK_ON_DISCONNECT].calls += 1
                    supervisor.notify(turn.step.key, info)


class _Asking(Generic[P, R]):
    """The asking of one hook for one request.

    The frame is encoded once for all plugins; only one that knows the route under another id gets its own.

    Attributes:
        type: the hook.
        route_id: the route.
        payload: what the plugins are shown.
        rename: makes a payload with another route id.
        call: the call of one plugin.
        record: filled in for the access log.
    """

    __slots__ = ("_frame", "call", "payload", "record", "rename", "route_id", "type")

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
        self._frame: bytes | None = None

    async def ask(self, turn: _Turn, policy: Policy, deadline: float) -> R | None:
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
                frame = self._encoded(known, caller.max_frame)
                began = perf_counter()
                result = await self.call(caller, frame, deadline)
            finally:
                era.leave()
        except CallError as error:
            _failed(turn, hook, self.route_id, policy, error, self.record)
            return None
        figures.latency.observe(perf_counter() - began)
        return result

    def _answers_doing(self, limit: int) -> bool:
        """Whether a frame is too large by the answer and not the request: a client must not choose to fail a guard."""
        payload: object = self.payload
        return isinstance(payload, ResponsePair) and not _larger(payload.request, limit // 2)

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

    def _encoded(self, route_id: str, limit: int) -> bytes:
        """The call's frame under the plugin's id of the route."""
        if self._frame is not None and route_id == self.route_id and len(self._frame) <= limit:
            return self._frame
        payload = self.payload
        if _route_of(payload) != route_id:
            payload = self.rename(payload, route_id)
        try:
            frame = marshal_envelope(self.type, payload, limit)
        except EncodeError as error:
            raise RequestNotEncodable(400, str(error)) from error
        except FrameTooLarge as error:
            if self._answers_doing(limit):
                raise CallError(ErrorKind.TOO_LARGE, f"the answer's headers: {error}") from error
            raise RequestNotEncodable(431, str(error)) from error
        if route_id == self.route_id:
            self._frame = frame
        return frame


def _take(
    merge: RequestMerge, turn: _Turn, result: AuthorizeResult, record: HookRecord | None
) -> RequestVerdict:
    verdict = merge.add(result, turn.step.foreign, turn.supervisor.complaints)
    turn.figures.verdicts[verdict] += 1
    _note(record, turn.supervisor.name, verdict)
    return verdict


def _failed(
    turn: _Turn, hook: str, route_id: str, policy: Policy, error: CallError, record: HookRecord | None
) -> None:
    """Count and tell of a call that failed; raises HookError where the policy denies."""
    supervisor = turn.supervisor
    supervisor.figures[hook].errors[error.kind] += 1
    failure = HookError(supervisor.name, route_id, hook, error.kind, str(error))
    supervisor.complaints.warn("%s", failure)
    _note(record, supervisor.name, "error")
    if policy == "deny":
        raise failure from error


def _frame_of(info: RequestInfo, route_id: str, limit: int) -> bytes:
    """The frame of on_request under the id `route_id`."""
    if info.route_id != route_id:
        info = _info_with_route(info, route_id)
    try:
        return marshal_envelope(HookType.ON_REQUEST, info, limit)
    except EncodeError as error:
        raise RequestNotEncodable(400, str(error)) from error
    except FrameTooLarge as error:
        raise RequestNotEncodable(431, str(error)) from error


def _check_accepted(life: Life, key: Hashable) -> None:
    if key in life.refused:
        raise CallError(ErrorKind.NOT_CONFIGURED, "it refused the route")


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


def _info_with_route(info: RequestInfo, route_id: str) -> RequestInfo:
    return msgspec.structs.replace(info, route_id=route_id)


def _pair_with_route(pair: ResponsePair, route_id: str) -> ResponsePair:
    return ResponsePair(request=_info_with_route(pair.request, route_id), response=pair.response)


def _conn_with_route(conn: ConnInfo, route_id: str) -> ConnInfo:
    return msgspec.structs.replace(conn, route_id=route_id)


_WEIGHT: Final = {"allow": 0, "fallback": 1, "error": 2, "deny": 3, "drop": 3}


def _note(record: HookRecord | None, plugin: str, verdict: Verdict) -> None:
    """Keep the verdict that says most: one that ends it, an error, a fallback, an allowance."""
    if record is not None and (not record.plugin or _WEIGHT[verdict] >= _WEIGHT[record.verdict]):
        record.plugin, record.verdict = plugin, verdict
