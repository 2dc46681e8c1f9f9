"""What an authorizer adds for the caller: latency of the same answer with and without it, at half load.

Half load is half of what the slowest proxy reaches with its authorizer under wrk, so no queue is measured
that the load itself made. Routes with and without run at that rate in turns; what is added is the
difference within a turn, and the median of the turns counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.measure import Spread, percentile
from bench.paced import drive
from bench.peers import HOOKED
from bench.report import Section, as_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.load import Wrk
    from bench.peers import Peer

_PERCENTS = (50, 99)
_PLAIN, _HOOKED = "/small", "/hook/small"


def measured(peers: Sequence[Peer], wrk: Wrk, rounds: int, seconds: float) -> Section:
    """Measures the proxies that can ask an authorizer."""
    taking = [peer for peer in peers if peer.name in HOOKED]
    rate = min(wrk(peer.port, _HOOKED, 1).rate for peer in taking) / 2
    section = Section(
        "hook_latency",
        f"What the authorizer adds for the caller, at half load: {rate:,.0f} requests/s over 64 connections",
        ["proxy", "without, p50 μs", "with, p50 μs", "added p50 (low to high)"],
        "Added must be ≤ 150 μs (p50) and ≤ 1,000 μs (p99), aim ≤ 80 and ≤ 500",
    )
    section.columns += ["without, p99 μs", "with, p99 μs", "added p99 (low to high)"]
    section.data["rate"] = rate
    found: dict[tuple[str, str, int], list[float]] = {}
    queued = late = 0.0
    for _ in range(rounds):
        for peer in taking:
            for path in (_PLAIN, _HOOKED):
                paced = drive(peer.port, path, b"ok", rate, seconds)
                queued, late = max(queued, paced.queued), max(late, paced.late)
                for percent in _PERCENTS:
                    figures = found.setdefault((peer.name, path, percent), [])
                    figures.append(percentile(paced.latencies, percent) / 1e3)
    for peer in taking:
        row = [peer.name]
        for percent in _PERCENTS:
            plain, hooked = found[peer.name, _PLAIN, percent], found[peer.name, _HOOKED, percent]
            added = Spread.of(late - early for early, late in zip(plain, hooked, strict=True))
            row += [
                f"{Spread.of(plain).median:,.0f}",
                f"{Spread.of(hooked).median:,.0f}",
                f"{added.median:,.0f} ({added.low:,.0f} to {added.high:,.0f})",
            ]
            section.data[f"{peer.name}_p{percent}_us"] = {
                "without": as_json(Spread.of(plain)),
                "with": as_json(Spread.of(hooked)),
                "added": as_json(added),
            }
        section.rows.append(row)
    section.data["queued"], section.data["late"] = queued, late
    if queued > 0.01:
        section.bar += f"\nOverloaded: up to {queued:.0%} of the requests waited for a connection"
    if late > 0.005:
        section.bar += f"\nDisturbed: up to {late:.1%} of the requests went out > 1 ms late; p99 says little"
    return section
