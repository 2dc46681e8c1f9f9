"""Limits of bandwidth: which hold for a request, and the request served within them.

They come from the route's configuration, from `set_speed` and from a verdict; the lowest of each direction holds. A
connection has limits of its own: they last as long as it does, and all its requests under the route share them. `shared`
makes one for the route, a group key one for the group; where that is higher than what holds for the connection, both hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prox.config import model
from prox.http.errors import UpstreamError
from prox.http.exchange import Answer, Client, Exchange
from prox.http.paced import Paced, PacedAnswer
from prox.http.streams import Sink, Source
from prox.limits import Clock, Group, Groups, Metered, OwnLimits, Pacer, Pair, Rates, lower, lowest, megabits
from prox.wire import Speed

from .route import Action, Routed

_NONE: Final = Rates()


class RouteSpeed:
    """The limits of one route. It outlives reloads, and takes what plugins push (see prox.plugin.SpeedSink).

    Attributes:
        active: anything limits the route, whatever verdicts say.
    """

    __slots__ = ("_configured", "_groups", "_pair", "_pushed", "_shared", "active")

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self._configured = _NONE
        self._shared = False
        self._pushed: dict[str, Rates] = {}
        self._pair: Pair | None = None
        self.active = False

    def configure(self, speed: model.Speed | None) -> None:
        """Put a route's own setting in force, for a shared limit at once."""
        self._configured = _NONE if speed is None else megabits(speed.download_mbps, speed.upload_mbps)
        self._shared = speed is not None and speed.shared
        pair = self._pair
        if not self._shared:
            self._pair = None
        elif pair is not None:
            pair.set_rates(lowest(self._configured, self._pushed.get("", _NONE)))
        self._changed()

    def set_speeds(self, speeds: Mapping[str, Speed]) -> None:
        """Replace all that was pushed for the route, by group key, in the order of pushing."""
        self._pushed = {key: _rates(speed) for key, speed in speeds.items()}
        self._changed()

    def push(self, key: str, speed: Speed) -> None:
        """A speed was pushed: for those who come now, and for the group that has this key."""
        self._pushed.pop(key, None)
        rates = self._pushed[key] = _rates(speed)
        self._changed()
        if key:
            self._groups.push(key, rates)

    def begin(self, client: Client, verdict: Speed | None, clock: Clock) -> Limits | None:
        """The limits of a request or a relayed connection that begins now; None where none holds.

        Args:
            client: whose connection it is.
            verdict: what plugins said when they allowed it.
            clock: the loop.
        """
        said, key = _NONE, ""
        if verdict is not None:
            said, key = _rates(verdict), verdict.group_key
        pushed = self._pushed.get(key)
        if pushed is None and key:
            pushed = self._pushed.get("")
        elif pushed is None and self._pushed:  # only groups were named: it belongs to the last one
            key = next(reversed(self._pushed))
            pushed = self._pushed[key]
        if pushed is None:
            pushed = _NONE
        made = lowest(self._configured, said)
        rates = lowest(made, pushed)
        if not key and not rates:
            return None
        group = self._groups.enter(key, made, pushed, clock) if key else None
        pair = self._shared_pair(_NONE if key else pushed, clock) if self._shared else None
        configured = _NONE if self._shared else self._configured
        return Limits(
            self._groups,
            group,
            self._pacers(
                client,
                rates.download,
                configured.download,
                None if group is None else group.pair.download,
                None if pair is None else pair.download,
                clock,
            ),
            self._pacers(
                client,
                rates.upload,
                configured.upload,
                None if group is None else group.pair.upload,
                None if pair is None else pair.upload,
                clock,
                upload=True,
            ),
        )

    def _shared_pair(self, pushed: Rates, clock: Clock) -> Pair:
        rates = lowest(self._configured, pushed)
        pair = self._pair
        if pair is None:
            pair = self._pair = Pair(clock, rates)
        elif pushed is not _NONE:
            pair.set_rates(rates)
        return pair

    def _pacers(
        self,
        client: Client,
        rate: float,
        configured: float,
        group: Pacer | None,
        shared: Pacer | None,
        clock: Clock,
        *,
        upload: bool = False,
    ) -> list[Pacer]:
        """The limits of one direction.

        Args:
            client: whose connection it is.
            rate: the lowest that holds for the connection; 0 is none.
            configured: what holds for the connection even where its group may have more later.
            group: the limit of its group.
            shared: that of all connections of the route.
            clock: the loop.
            upload: which direction it is.
        """
        pacers = []
        together = 0.0
        if group is not None:
            pacers.append(group)
            together = group.rate
        if shared is not None and shared.rate:
            pacers.append(shared)
            together = lower(together, shared.rate)
        own = rate if not together or rate < together else 0.0
        if not own and group is not None:
            own = configured
        if own:
            limits = client.limits
            if limits is None:
                limits = client.limits = OwnLimits()
            pacers.insert(0, limits.get(clock, (self, upload), own))
        return pacers

    def _changed(self) -> None:
        self.active = bool(self._configured) or any(rates or key for key, rates in self._pushed.items())


class Limits:
    """The limits of one request or relayed connection, each of its directions with the limits of fewest first.

    Attributes:
        download: towards the client.
        upload: from the client.
    """

    __slots__ = ("_group", "_groups", "_metered", "download", "upload")

    def __init__(
        self, groups: Groups, group: Group | None, download: list[Pacer], upload: list[Pacer]
    ) -> None:
        self._groups = groups
        self._group = group
        self._metered: list[Metered] = []
        self.download = download
        self.upload = upload

    def metered_download(self) -> Metered | None:
        """What a relay asks how much it may read for the client; None for no limit."""
        return self._meter(self.download)

    def metered_upload(self) -> Metered | None:
        """The same for what comes from the client."""
        return self._meter(self.upload)

    def _meter(self, pacers: list[Pacer]) -> Metered | None:
        if not pacers:
            return None
        metered = Metered(pacers)
        self._metered.append(metered)
        return metered

    def leave(self) -> None:
        """It has ended; must be called, and again does nothing."""
        for metered in self._metered:
            metered.close()
        self._metered.clear()
        group, self._group = self._group, None
        if group is not None:
            self._groups.leave(group)


class Pace:
    """One request within its limits: `Routed.pace` while its action serves it.

    Attributes:
        answer: stands before the answer; None where it has no limit.
    """

    __slots__ = ("_exchange", "_limits", "_upload", "answer")

    def __init__(self, exchange: Exchange, answer: Answer, limits: Limits) -> None:
        self._exchange = exchange
        self._limits = limits
        self._upload: Paced | None = None
        self.answer: PacedAnswer | None = PacedAnswer(answer, limits.download) if limits.download else None

    def upload(self, sink: Sink, source: Source) -> Paced | None:
        """What stands before `sink` on the way of the request's body, which comes from `source`; None for no limit."""
        pacers = self._limits.upload
        if not pacers:
            return None
        paced = self._upload = Paced(sink, pacers, impatient=True)
        paced.read_from(source)
        return paced

    def unsent(self) -> int:
        """Bytes that wait in both directions, those of Exchange.unsent included: while they move nothing stands still."""
        unsent = self._exchange.unsent()
        if self.answer is not None:
            unsent += self.answer.body.held
        if self._upload is not None:
            unsent += self._upload.held
        return unsent

    def close(self) -> None:
        """The request is over: nothing waits any more."""
        if self.answer is not None:
            self.answer.body.close()
        if self._upload is not None:
            self._upload.close()
        self._limits.leave()


async def serve_within(limits: Limits, action: Action, routed: Routed) -> UpstreamError | None:
    """Let an action serve a request within limits (see Action.serve), until the last byte of the answer has passed."""
    answer = routed.answer
    pace = routed.pace = Pace(routed.exchange, answer, limits)
    paced = pace.answer
    if paced is not None:
        routed.answer = paced
    try:
        failure = await action.serve(routed)
        if paced is not None and paced.body.busy:
            await paced.body.over
    finally:
        routed.pace = None
        routed.answer = answer
        pace.close()
    return failure


def _rates(speed: Speed) -> Rates:
    return megabits(max(speed.download_mbps, 0.0), max(speed.upload_mbps, 0.0))
