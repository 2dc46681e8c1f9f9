"""CPU time of a proxy for each request, and requests per second, beside nginx.

The rounds of the proxies are interleaved, each time in another order, and each is compared with nginx's (past an
authorizer Envoy's too, over HTTP/2 Caddy's) of the same turn; the medians of these pairs stand against the noise of a
machine that does other things too. Where a proxy's core was not busy, the load's own cores were the limit and the
requests per second say little about the proxy; CPU time per request still does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from bench.front import Front
from bench.load import H2Load, Wrk
from bench.machine import Meanwhile
from bench.measure import Cpu, Spread
from bench.peers import BASELINE, HOOKED
from bench.report import Section, as_json, ratio

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.load import Load
    from bench.peers import Peer


_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Work:
    """A kind of request that is measured."""

    name: str
    path: str
    title: str
    bar: str
    hooked: bool = False
    against: tuple[str, ...] = (BASELINE,)
    front: Front = Front.PLAIN
    h2: bool = False

    def load(self, folder: Path) -> Load:
        """What drives it; a file of it goes into `folder`."""
        return H2Load() if self.h2 else Wrk(folder, self.front)

    def takes(self, peer: str) -> bool:
        """Whether a peer is measured at it. Caddy is at HTTP/2 alone."""
        return (not self.hooked or peer in HOOKED) and (self.h2 or peer != "caddy")


WORKS = {
    "small": Work(
        "small",
        "/small",
        "GET, 2-byte body, 64 keep-alive connections, 10 request headers",
        "CPU must be ≤ 1.7 times nginx's, aim ≤ 1.3",
    ),
    "64k": Work(
        "64k",
        "/64k",
        "GET, 64 KiB body, 64 keep-alive connections, 10 request headers",
        "CPU must be ≤ 1.0 times nginx's, aim ≤ 0.6",
    ),
    "hook": Work(
        "hook",
        "/hook/small",
        "GET past an authorizer that sets a header; prox: a Python plugin, nginx: auth_request, Envoy: ext_authz by "
        "HTTP (the authorizers' own time is not counted)",
        "CPU must be ≤ 2.0 times nginx's and ≤ 0.7 times Envoy's, aim ≤ 1.2 and ≤ 0.4",
        hooked=True,
        against=(BASELINE, "envoy"),
    ),
    "tls": Work(
        "tls",
        "/small",
        "GET over TLS, 2-byte body, 64 keep-alive connections, 10 request headers",
        "CPU must be ≤ 1.6 times nginx's, aim ≤ 1.2",
        front=Front.TLS,
    ),
    "tls64k": Work(
        "tls64k",
        "/64k",
        "GET over TLS, 64 KiB body, 64 keep-alive connections, 10 request headers",
        "CPU must be ≤ 1.0 times nginx's, aim ≤ 0.8",
        front=Front.TLS,
    ),
    "h2": Work(
        "h2",
        "/small",
        "GET by HTTP/2 over TLS, 2-byte body, 16 connections of 8 streams, 10 request headers; HTTP/1.1 upstream",
        "CPU must be ≤ 0.7 times Caddy's, aim ≤ 0.4",
        against=(BASELINE, "caddy"),
        front=Front.TLS,
        h2=True,
    ),
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one proxy."""

    requests: int
    seconds: float
    spent: Cpu

    @property
    def micros(self) -> float:
        """CPU time for a request, in μs."""
        return self.spent.total / self.requests * 1e6

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    @property
    def busy(self) -> float:
        """Part of its core that the proxy used."""
        return self.spent.total / self.seconds


def sample(peer: Peer, load: Load, path: str, seconds: int) -> Sample:
    """Drives one proxy for one round."""
    before = peer.cpu()
    driven = load(peer.port, path, seconds)
    return Sample(driven.requests, driven.seconds, peer.cpu() - before)


def measured(work: Work, peers: Sequence[Peer], load: Load, rounds: int, seconds: int) -> Section:
    """Measures one kind of request with all proxies that can do it."""
    taking = [peer for peer in peers if work.takes(peer.name)]
    for peer in taking:
        load(peer.port, work.path, 1)  # warms caches, pools and the interpreter
    samples: dict[str, list[Sample]] = {peer.name: [] for peer in taking}
    meanwhile = Meanwhile()
    for turn in range(rounds):
        for peer in rotated(taking, turn):
            samples[peer.name].append(sample(peer, load, work.path, seconds))
    section = _section(work, samples)
    section.notes.append(meanwhile.text())
    return section


def rotated(items: Sequence[_T], turn: int) -> list[_T]:
    """The items in another order each turn: none is always first, or always behind the same other."""
    start = turn % len(items)
    return [*items[start:], *items[:start]]


def _section(work: Work, samples: dict[str, list[Sample]]) -> Section:
    against = [name for name in work.against if name in samples]
    section = Section(
        work.name,
        work.title,
        [
            "proxy",
            "CPU μs (user + system)",
            *(f"/ {name} (low to high)" for name in against),
            "requests/s",
            "/ nginx (low to high)",
            "core busy",
        ],
        work.bar,
    )
    for name, own in samples.items():
        micros = Spread.of(one.micros for one in own)
        user = Spread.of(one.spent.user / one.requests * 1e6 for one in own)
        rate = Spread.of(one.rate for one in own)
        busy = Spread.of(one.busy for one in own)
        micros_ratios = {
            other: Spread.of(a.micros / b.micros for a, b in zip(own, samples[other], strict=True))
            for other in against
        }
        rate_ratio = Spread.of(a.rate / b.rate for a, b in zip(own, samples[BASELINE], strict=True))
        section.rows.append(
            [
                name,
                f"{micros.median:.1f} ({user.median:.1f} + {micros.median - user.median:.1f})",
                *(ratio(spread) for spread in micros_ratios.values()),
                f"{rate.median:,.0f}",
                ratio(rate_ratio),
                f"{busy.median:.0%}",
            ]
        )
        section.data[name] = {
            "cpu_us": as_json(micros),
            "cpu_user_us": as_json(user),
            **{f"cpu_ratio_{other}": as_json(spread) for other, spread in micros_ratios.items()},
            "rate": as_json(rate),
            "rate_ratio": as_json(rate_ratio),
            "core_busy": as_json(busy),
        }
    return section
