"""Memory: of an idle proxy, of its idle connections, and what a large body adds.

Each figure is taken from a process of its own, fresh, because what a process has once needed it seldom gives
back.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import measure
from bench.front import Front, connected
from bench.measure import Spread
from bench.peers import BASELINE, running
from bench.processes import BenchError
from bench.report import Section, as_json, ratio

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from http.client import HTTPConnection
    from pathlib import Path

    from bench.machine import Cores
    from bench.origin import Origin
    from bench.peers import Peer

_WARM = 100
_CONNECTIONS = 2000
_CHUNK = 256 * 1024


def idle(names: Sequence[str], folder: Path, origin: Origin, cores: Cores) -> Section:
    """Memory after a few requests, plugins left out: of the process that serves, and with its helpers.

    nginx has a master beside its worker, prox a guardian that outlives it to end its plugins.
    """
    section = Section(
        "idle",
        "Memory of the idle proxy, its plugin left out",
        ["proxy", "largest process, RSS MiB", "processes", "all, RSS MiB", "all, PSS MiB"],
        "RSS of the largest must be ≤ 60 MiB, aim ≤ 45",
    )
    for name in names:
        with running(name, folder, origin, cores) as peer:
            pids = peer.pids()
            largest = max(measure.resident([pid])[0] for pid in pids)
            rss, pss = measure.resident(pids)
        figures = (f"{largest / 1024:.1f}", str(len(pids)), f"{rss / 1024:.1f}", f"{pss / 1024:.1f}")
        section.rows.append([name, *figures])
        section.data[name] = {
            "largest_rss_kib": largest,
            "processes": len(pids),
            "rss_kib": rss,
            "pss_kib": pss,
        }
    return section


def _ask(connection: HTTPConnection) -> None:
    connection.request("GET", "/small")
    answer = connection.getresponse()
    if (answer.status, answer.read()) != (200, b"ok"):
        raise BenchError(f"a connection that is to be kept was answered {answer.status}")


_CONNS = {
    Front.PLAIN: ("conns", "keep-alive connection", "Must be ≤ 8 KiB, aim ≤ 4"),
    Front.TLS: ("conns_tls", "keep-alive connection over TLS", "Must be ≤ 40 KiB, aim ≤ 30"),
}


def connections(
    names: Sequence[str], folder: Path, origin: Origin, cores: Cores, front: Front = Front.PLAIN
) -> Section:
    """What each of 2,000 kept connections adds, one request having passed over each."""
    key, what, bar = _CONNS[front]
    section = Section(
        key,
        f"Memory of an idle {what} ({_CONNECTIONS:,} opened, one request over each)",
        ["proxy", "PSS KiB"],
        bar,
    )
    for name in names:
        opened: list[HTTPConnection] = []
        with running(name, folder, origin, cores, front=front) as peer:
            try:
                for number in range(_WARM + _CONNECTIONS):
                    if number == _WARM:
                        before = measure.resident(peer.pids())[1]
                    opened.append(connected(peer.port, front, timeout=10))
                    _ask(opened[-1])
                each = (measure.resident(peer.pids())[1] - before) / _CONNECTIONS
                for connection in opened:
                    if connection.sock is None:
                        raise BenchError(f"{name} did not keep a connection")
            finally:
                for connection in opened:
                    connection.close()
        section.rows.append([name, f"{each:.2f}"])
        section.data[name] = {"pss_kib": each}
    return section


def _download(port: int, size: int, front: Front) -> None:
    connection = connected(port, front, timeout=60)
    buffer = bytearray(_CHUNK)
    connection.request("GET", "/huge")
    answer = connection.getresponse()
    got = 0
    while count := answer.readinto(buffer):
        got += count
    connection.close()
    if got != size:
        raise BenchError(f"of a download of {size} bytes {got} came, status {answer.status}")


def _upload(port: int, size: int, front: Front) -> None:
    chunk = bytes(_CHUNK)

    def body() -> Iterator[bytes]:
        for _ in range(size // _CHUNK):
            yield chunk

    connection = connected(port, front, timeout=60)
    connection.request("POST", "/upload", body(), {"Content-Length": str(size)})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    if (answer.status, text) != (200, b"%d" % size):
        raise BenchError(f"an upload of {size} bytes was answered with {answer.status} {text[:80]!r}")


@dataclass(frozen=True, slots=True)
class _Passage:
    """One large body that went through a proxy."""

    grown: int  # KiB
    spent: measure.Cpu
    seconds: float


_DIRECTIONS = {"down": _download, "up": _upload}


def _passage(peer: Peer, direction: str, size: int) -> _Passage:
    pids, spent, began = peer.pids(), peer.cpu(), time.monotonic()
    resting = measure.reset_peak(pids)
    _DIRECTIONS[direction](peer.port, size, peer.front)
    seconds = time.monotonic() - began
    return _Passage(measure.peak(pids) - resting, peer.cpu() - spent, seconds)


# What is passed on ends at the origin, which takes no uploads.
_LARGE = {
    Front.PLAIN: ("gib", "through the proxy", ("down", "up")),
    Front.TLS: ("gib_tls", "through the proxy over TLS, plain behind it", ("down", "up")),
    Front.PASSED: ("gib_pass", "over TLS that the proxy passes on", ("down",)),
}


def large(
    names: Sequence[str],
    folder: Path,
    origin: Origin,
    cores: Cores,
    rounds: int,
    front: Front = Front.PLAIN,
) -> Section:
    """What a large body adds to the highest RSS, and what it costs in CPU time."""
    size = origin.huge
    key, where, directions = _LARGE[front]
    _download(origin.http, size, Front.PLAIN)  # the file is in memory from here on
    found: dict[tuple[str, str], list[_Passage]] = {}
    for _ in range(rounds):
        for direction in directions:
            for name in names:
                with running(name, folder, origin, cores, front=front) as peer:
                    found.setdefault((name, direction), []).append(_passage(peer, direction, size))
    section = Section(
        key,
        f"A body of {size >> 20:,} MiB {where}, one connection",
        ["proxy, direction", "peak RSS + MiB", "CPU s (user + system)", "/ nginx (low to high)", "MiB/s"],
        "Memory must grow by ≤ 8 MiB, aim ≤ 2; CPU of a download must be ≤ 2.0 times nginx's, aim ≤ 1.0",
    )
    for (name, direction), passages in found.items():
        grown = Spread.of(passage.grown for passage in passages)
        total = Spread.of(passage.spent.total for passage in passages)
        user = Spread.of(passage.spent.user for passage in passages)
        rate = Spread.of(size / passage.seconds for passage in passages)
        against = Spread.of(
            own.spent.total / other.spent.total
            for own, other in zip(passages, found[BASELINE, direction], strict=True)
        )
        section.rows.append(
            [
                f"{name}, {direction}",
                f"{grown.high / 1024:.1f}",
                f"{total.median:.2f} ({user.median:.2f} + {total.median - user.median:.2f})",
                ratio(against),
                f"{rate.median / (1 << 20):,.0f}",
            ]
        )
        section.data[f"{name}_{direction}"] = {
            "bytes": size,
            "peak_growth_kib": as_json(grown),
            "cpu_s": as_json(total),
            "cpu_user_s": as_json(user),
            "cpu_ratio": as_json(against),
            "bytes_per_second": as_json(rate),
        }
    return section
