"""Time from starting prox to its first answer that passed a plugin."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from bench.measure import Spread
from bench.peers import launched
from bench.processes import get
from bench.report import Section, as_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.machine import Cores
    from bench.origin import Origin


def _passed(port: int) -> bool:
    return get(port, "/hook/small") == (200, b"ok")


def measured(names: Sequence[str], folder: Path, origin: Origin, cores: Cores, rounds: int) -> Section:
    """Starts each proxy some times, free to use all cores, as a user would."""
    section = Section(
        "start",
        "Start to first answer, with an authorizer (prox: one Python plugin)",
        ["proxy", "seconds (low to high)"],
        "Must be ≤ 1.5 s, aim ≤ 0.7",
    )
    for name in names:
        times = []
        for _ in range(rounds):
            began = time.monotonic()
            with launched(name, folder, origin, cores.proxy | cores.others) as peer:
                peer.child.wait(partial(_passed, peer.port), interval=0.002)
                times.append(time.monotonic() - began)
        spread = Spread.of(times)
        section.rows.append([name, f"{spread.median:.2f} ({spread.low:.2f} to {spread.high:.2f})"])
        section.data[name] = {"seconds": as_json(spread)}
    return section
