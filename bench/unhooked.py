"""What plugins cost the requests that they are not asked about: nothing that can be measured, it should be.

Each kind of configuration is a prox of its own, and all answer the same request. One of them stands twice: how far
two equal ones differ is how much can be told at all.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from bench.machine import Meanwhile
from bench.measure import Spread
from bench.peers import PLUGINLESS, WATCHED, running
from bench.report import Section, as_json, ratio
from bench.throughput import rotated, sample

if TYPE_CHECKING:
    from pathlib import Path

    from bench.load import Wrk
    from bench.machine import Cores
    from bench.origin import Origin
    from bench.throughput import Sample

_PATH = "/small"
_KINDS = (
    ("no plugins at all", PLUGINLESS),
    ("the same again", PLUGINLESS),
    ("route without plugins, plugins configured elsewhere", "prox"),
    ("route with a plugin that has no hook for requests", WATCHED),
)


def measured(folder: Path, origin: Origin, cores: Cores, wrk: Wrk, rounds: int) -> Section:
    """Measures `rounds` rounds of a second for each kind."""
    section = Section(
        "unhooked",
        "What plugins cost requests that they are not asked about: GET, 2-byte body",
        ["prox", "CPU μs", "/ no plugins (low to high)"],
        "Must be nothing measurable: no further from 1.00 than the same again",
    )
    samples: list[list[Sample]] = [[] for _ in _KINDS]
    with ExitStack() as stack:
        peers = [stack.enter_context(running(name, folder, origin, cores)) for _, name in _KINDS]
        for peer in peers:
            wrk(peer.port, _PATH, 1)
        meanwhile = Meanwhile()
        for turn in range(rounds):
            for kind, peer in rotated(list(enumerate(peers)), turn):
                samples[kind].append(sample(peer, wrk, _PATH, 1))
        section.notes.append(meanwhile.text())
    for (title, _), own in zip(_KINDS, samples, strict=True):
        micros = Spread.of(one.micros for one in own)
        against = Spread.of(a.micros / b.micros for a, b in zip(own, samples[0], strict=True))
        section.rows.append([title, f"{micros.median:.1f}", ratio(against)])
        section.data[title] = {"cpu_us": as_json(micros), "cpu_ratio": as_json(against)}
    return section
