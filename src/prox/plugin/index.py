"""The hook index: which plugins are asked for a route, and the asking. One for each configuration.

A request that began under an index ends under it. An index never changes; what its plugins serve may, when they say
`ready`, so `has_hook` is always a look at them.
A route that the configuration does not know is an error and no allowance: a mistyped id must not open a door.
A hook is asked of each plugin in turn; a plugin in error never counts as one that allowed, unless its policy says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import perf_counter
from typing import Final

from prox.wire import (
    HOOK_ON_CONNECT,
    HOOK_ON_DISCONNECT,
    HOOK_ON_REQUEST,
    HOOK_ON_RESPONSE,
    AuthorizeResult,
    ConnInfo,
    ConnResult,
    DisconnectInfo,
    HookType,
    RequestInfo,
    ResponseModResult,
    ResponsePair,
    UpstreamResponseInfo,
)

from .asking import (
    Asking,
    HookRecord,
    Turn,
    Verdict,
    check_path,
    conn_with_route,
    failed,
    frame_of,
    info_with_route,
    note,
    pair_with_route,
)
from .caller import Caller
from .errors import CallError
from .lease import Lease
from .merge import RequestMerge, RequestVerdict, ResponseMerge, stands_alone
from .model import PluginSpec
from .plan import Plan
from .supervisor import Supervisor

_ALLOWED: Final = AuthorizeResult(allow=True)
_UNCHANGED: Final = ResponseModResult()
_CONNECTED: Final = ConnResult(allow=True)
_NOTHING: Final[frozenset[bytes]] = frozenset()
_NAMED: Final = 10
"""Routes that an error names."""
_NO_FEATURES: Final[frozenset[str]] = frozenset()


class _Stage:
    """The plugins of one stage of a route, which share `timeout`; `only` where there is one."""

    __slots__ = ("only", "timeout", "turns")

    def __init__(self, turns: list[Turn], timeout: float) -> None:
        self.turns = tuple(turns)
        self.timeout = timeout
        self.only = turns[0] if len(turns) == 1 else None


class HookIndex:
    """The hooks of all routes of one configuration."""

    __slots__ = (
        "_lease",
        "_loop",
        "_own_headers",
        "_routes",
        "_stages",
        "_timeouts",
        "_turns_of",
    )

    def __init__(self, plan: Plan, supervisors: Mapping[PluginSpec, Supervisor]) -> None:
        self._own_headers = plan.own_headers
        self._routes = frozenset(plan.routes)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stages = {
            place: _Stage([Turn(step, supervisors[step.plugin]) for step in stage.steps], stage.timeout)
            for place, stage in plan.stages.items()
        }
        self._turns_of: dict[str, tuple[Turn, ...]] = {}
        self._timeouts: dict[str, float] = {}
        for (route_id, _), found in self._stages.items():
            self._timeouts.setdefault(route_id, found.timeout)
            self._turns_of[route_id] = (*self._turns_of.get(route_id, ()), *found.turns)
        self._lease = Lease({turn.supervisor for turns in self._turns_of.values() for turn in turns})

    def has_hook(self, route_id: str, hook: str, stage: int = 0) -> bool:
        """Whether a plugin of this stage of the route serves a hook, or may once it is ready. Never waits.

        False for a route that is not known.
        """
        found = self._stages.get((route_id, stage))
        if found is None:
            _check_text(route_id)
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

    def features_of(self, route_id: str) -> frozenset[str]:
        """The features that any plugin of the route has named: what a request must be looked at for. Never waits."""
        found = _NO_FEATURES
        for turn in self._turns_of.get(route_id, ()):
            features = turn.supervisor.features
            if features:
                found = found | features if found else features
        return found

    def deadline(self, route_id: str, spent: float = 0.0) -> float:
        """When the plugins of a route must have answered a hook that is asked from now on, in the loop's time.

        Args:
            route_id: the route; its stages share one timeout.
            spent: seconds that plugins of earlier stages took. What an action took in between does not count.
        """
        return self._now() + max(self._timeouts.get(route_id, 0.0) - spent, 0.0)

    def _check_known(self, route_id: str) -> None:
        _check_text(route_id)
        if route_id in self._routes:
            return
        known = sorted(self._routes)
        shown = ", ".join(known[:_NAMED]) + (", …" if len(known) > _NAMED else "")
        raise LookupError(f"there is no route {route_id!r}; there are: {shown or 'none'}")

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
            LookupError: the configuration does not know the route.
            RequestNotEncodable: the request can't be shown to a plugin.
        """
        found = self._stages.get((route_id, stage))
        if found is None:
            self._check_known(route_id)
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
                frame = frame_of(info, route_id, caller)
                began = perf_counter()
                result = await caller.ask_request(frame, limit)
                if result.path:
                    check_path(result, step)
            except CallError as error:
                failed(turn, HOOK_ON_REQUEST, route_id, step.on_error.request, error, record)
                return _ALLOWED
            finally:
                era.leave()
            figures.latency.observe(perf_counter() - began)
            if stands_alone(result, step.foreign):
                figures.verdicts["allow"] += 1
                if record is not None:
                    if record.plugin:
                        note(record, supervisor.name, "allow")
                    else:
                        record.plugin = supervisor.name
                return result
            merge = RequestMerge()
            _take(merge, turn, result, record)
            return merge.result()
        return await self._ask_in_turn(found.turns, route_id, info, limit, record)

    @staticmethod
    async def _ask_in_turn(
        turns: tuple[Turn, ...], route_id: str, info: RequestInfo, limit: float, record: HookRecord | None
    ) -> AuthorizeResult:
        merge = RequestMerge()
        asking = Asking(HookType.ON_REQUEST, route_id, info, info_with_route, Caller.ask_request, record)
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
            LookupError: the configuration does not know the route.
            RequestNotEncodable: the request is too large to be shown beside the answer.
        """
        stages = [found for at in range(stage + 1) if (found := self._stages.get((route_id, at))) is not None]
        if not stages:
            self._check_known(route_id)
            return _UNCHANGED
        limit = deadline
        if limit is None:
            limit = self._now() + min(found.timeout for found in stages)
        merge = ResponseMerge()
        pair = ResponsePair(request=info, response=resp)
        hook = HOOK_ON_RESPONSE
        asking = Asking(HookType.ON_RESPONSE, route_id, pair, pair_with_route, Caller.ask_response, record)
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
            LookupError: the configuration does not know the route.
            RequestNotEncodable: the connection can't be shown to a plugin.
        """
        found = self._stages.get((route_id, 0))
        if found is None:
            self._check_known(route_id)
            return _CONNECTED
        limit = self._now() + found.timeout if deadline is None else deadline
        hook = HOOK_ON_CONNECT
        asking = Asking(HookType.ON_CONNECT, route_id, conn, conn_with_route, Caller.ask_connect, record)
        for turn in found.turns:
            if hook not in turn.supervisor.hooks:
                continue
            result = await asking.ask(turn, turn.step.on_error.connect, limit)
            if result is None:
                continue
            verdict: Verdict = "allow" if result.allow else "deny"
            turn.supervisor.figures[hook].verdicts[verdict] += 1
            note(record, turn.supervisor.name, verdict)
            if not result.allow:
                return result
        return _CONNECTED

    def on_disconnect(self, route_id: str, info: DisconnectInfo, *, stage: int = 0) -> None:
        """Tell the plugins of all stages up to `stage` of an end. Never waits; a full queue drops and counts.

        A route that is not known is none of theirs: it may have been taken out since the request began.
        """
        for at in range(stage + 1):
            found = self._stages.get((route_id, at))
            for turn in found.turns if found is not None else ():
                supervisor = turn.supervisor
                if HOOK_ON_DISCONNECT in supervisor.hooks:
                    supervisor.figures[HOOK_ON_DISCONNECT].calls += 1
                    supervisor.notify(turn.step.key, info)


def _check_text(route_id: object) -> None:
    """Compiled code checks types by itself; interpreted code must do the same."""
    if not isinstance(route_id, str):
        raise TypeError(f"the id of a route is a str, not {type(route_id).__name__}")


def _take(
    merge: RequestMerge, turn: Turn, result: AuthorizeResult, record: HookRecord | None
) -> RequestVerdict:
    verdict = merge.add(result, turn.step.foreign, turn.supervisor.complaints)
    turn.figures.verdicts[verdict] += 1
    note(record, turn.supervisor.name, verdict)
    return verdict
