"""What an authorizer adds for the caller: latency of the same answer with and without it, at half load.

Half load is half of what a proxy reaches past its authorizer under wrk, so no queue is measured that the load itself
made. No peer is driven faster than half of what prox reaches: prox alone is held to a bar here.

The route with and the route without take turns of a quarter of a second, at the same rate and in changing order.
What is added is the difference within such a pair, and the median of a round's pairs is the round's. Pairs during
which other programs had more than a twentieth of the cores are repeated, up to a limit, and don't count where there
are others: the choice looks at what others did, never at what was found.

Medians of short pairs hide stalls of the proxy's own that are rarer than one in a pair. Therefore the difference is
also taken between the percentiles of all requests together, of every pair, whatever disturbed it.

On two cores the load, the authorizer and the origin share one. So what the load takes to notice an answer while the
authorizer runs is part of what is found; more cores would show less.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.machine import Meanwhile
from bench.measure import Spread, percentile
from bench.paced import drive
from bench.peers import HOOKED
from bench.report import Section, as_json
from bench.throughput import rotated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.load import Wrk
    from bench.paced import Paced
    from bench.peers import Peer

_PERCENTS = (50, 99)
_PLAIN, _HOOKED = "/small", "/hook/small"
_SLICE = 0.25  # seconds
_PROBES = 3
_QUIET = 0.05  # the part of the cores that others may have had
_REPEATS = 3  # a round has so many times as many pairs at most
_LATE = 0.005  # the part of late requests from which p99 is in doubt


@dataclass(frozen=True, slots=True)
class _Pair:
    """The same load on both routes, one right after the other."""

    plain: Paced
    hooked: Paced
    quiet: bool

    def added(self, percent: int) -> float:
        """In μs."""
        return _micros(self.hooked, percent) - _micros(self.plain, percent)


@dataclass(slots=True)
class _Found:
    """What was found of one proxy: the pairs of each round."""

    rate: float
    rounds: list[list[_Pair]] = field(default_factory=list)

    def of_rounds(self, figure: Callable[[_Pair], float]) -> Spread:
        """The median of rounds, a round being the median of its quiet pairs, or of all where none is quiet."""
        counted = ([pair for pair in pairs if pair.quiet] or pairs for pairs in self.rounds)
        return Spread.of(statistics.median(map(figure, pairs)) for pairs in counted)

    def pairs(self) -> list[_Pair]:
        """All of them."""
        return [pair for pairs in self.rounds for pair in pairs]


def measured(peers: Sequence[Peer], wrk: Wrk, rounds: int, seconds: float) -> Section:
    """Measures the proxies that can ask an authorizer: `rounds` rounds of `seconds` for each route."""
    taking = [peer for peer in peers if peer.name in HOOKED]
    half = {peer.name: _reached(peer, wrk) / 2 for peer in taking}
    fastest = half.get("prox", max(half.values()))
    found = {name: _Found(min(rate, fastest)) for name, rate in half.items()}
    meanwhile = Meanwhile()
    for _ in range(rounds):
        _round(taking, found, max(2, round(seconds / _SLICE)))
    section = _section(found)
    section.notes += [*_notes(found), meanwhile.text()]
    return section


def _reached(peer: Peer, wrk: Wrk) -> float:
    return statistics.median(wrk(peer.port, _HOOKED, 1).rate for _ in range(_PROBES))


def _round(peers: Sequence[Peer], found: dict[str, _Found], wanted: int) -> None:
    for one in found.values():
        one.rounds.append([])
    for turn in range(wanted * _REPEATS):
        for peer in rotated(peers, turn):
            pairs = found[peer.name].rounds[-1]
            if sum(pair.quiet for pair in pairs) < wanted:
                pairs.append(_pair(peer, found[peer.name].rate, turn))


def _pair(peer: Peer, rate: float, turn: int) -> _Pair:
    meanwhile = Meanwhile()
    paced = {path: drive(peer.port, path, b"ok", rate, _SLICE) for path in rotated((_PLAIN, _HOOKED), turn)}
    return _Pair(paced[_PLAIN], paced[_HOOKED], sum(meanwhile.taken()) <= _QUIET)


def _micros(paced: Paced, percent: int) -> float:
    return percentile(paced.latencies, percent) / 1e3


def _section(found: dict[str, _Found]) -> Section:
    section = Section(
        "hook_latency",
        "What the authorizer adds for the caller, at half load over 64 connections",
        ["proxy", "requests/s", "without, μs", "with, μs", "added, μs (low to high)", "added, all together"],
        "prox's must add ≤ 150 μs (p50) and ≤ 1,000 μs (p99), aim ≤ 80 and ≤ 500",
    )
    for name, one in found.items():
        for percent in _PERCENTS:
            plain = one.of_rounds(lambda pair: _micros(pair.plain, percent))  # noqa: B023 - called now
            hooked = one.of_rounds(lambda pair: _micros(pair.hooked, percent))  # noqa: B023 - called now
            added = one.of_rounds(lambda pair: pair.added(percent))  # noqa: B023 - called now
            together = _together([pair.hooked for pair in one.pairs()], percent)
            together -= _together([pair.plain for pair in one.pairs()], percent)
            section.rows.append(
                [
                    f"{name}, p{percent}",
                    f"{one.rate:,.0f}",
                    f"{plain.median:,.0f}",
                    f"{hooked.median:,.0f}",
                    f"{added.median:,.0f} ({added.low:,.0f} to {added.high:,.0f})",
                    f"{together:,.0f}",
                ]
            )
            section.data[f"{name}_p{percent}_us"] = {
                "rate": one.rate,
                "without": as_json(plain),
                "with": as_json(hooked),
                "added": as_json(added),
                "added_together": together,
            }
    return section


def _together(slices: list[Paced], percent: int) -> float:
    return percentile(sorted(one for paced in slices for one in paced.latencies), percent) / 1e3


def _notes(found: dict[str, _Found]) -> list[str]:
    pairs = [pair for one in found.values() for pair in one.pairs()]
    quiet = sum(pair.quiet for pair in pairs)
    counted = [pair for pair in pairs if pair.quiet] or pairs
    slices = [paced for pair in counted for paced in (pair.plain, pair.hooked)]
    queued = statistics.fmean(paced.queued for paced in slices)
    late = sum(paced.late > _LATE for paced in slices)
    notes = [
        (
            f"Added: pairs of {_SLICE:g} s with and {_SLICE:g} s without, medians of the pairs of a round, then of rounds; "
            "all together: between percentiles over the requests of all pairs"
        ),
        (
            f"{quiet} of {len(pairs)} pairs were quiet (others had ≤ {_QUIET:.0%} of the cores); in a round with such, "
            "they alone count"
        ),
    ]
    if queued > 0.01:
        notes.append(f"Overloaded: {queued:.0%} of the requests waited for a connection")
    if late:
        notes.append(
            f"In {late} of the {len(slices)} slices of pairs that count > {_LATE:.1%} of the requests went out > 1 ms "
            "late, as the load did not get its core in time: where these are many, p99 says little"
        )
    return notes
