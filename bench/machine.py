"""The machine under the benchmark: which core is the proxy's, and the line that names it all in a report.

One core belongs to the proxy alone; load, upstream, authorizers and plugins share the others, so that what
they cost is never counted for the proxy and never takes its time.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench import caddy, envoy, measure


@dataclass(frozen=True, slots=True)
class Cores:
    """Numbers of the cores, as sched_setaffinity(2) takes them."""

    proxy: frozenset[int]
    others: frozenset[int]


def cores() -> Cores:
    """Splits the cores that this process may use.

    Raises:
        SystemExit: there is only one.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise SystemExit("bench: two cores are needed, one for the proxy and one for all else")
    return Cores(frozenset(allowed[:1]), frozenset(allowed[1:]))


def raise_file_limit() -> None:
    """Raises the limit of open files to what is allowed; children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _idle_and_stolen() -> tuple[float, float]:
    """Seconds of all cores together in which they had nothing to do, or belonged to another machine (steal)."""
    fields = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split()
    tick = 1 / os.sysconf("SC_CLK_TCK")
    return (int(fields[4]) + int(fields[5])) * tick, int(fields[8]) * tick


def _own() -> float:
    """CPU seconds of this process, of all below it, and of its children that have ended."""
    ended = os.times()
    alive = measure.cpu(measure.tree(os.getpid())[0])
    return alive.total + ended.children_user + ended.children_system


class Meanwhile:
    """What others took of the machine's cores since this object was made: what the cores did, less our own."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._idle, self._stolen = _idle_and_stolen()
        self._own = _own()

    def taken(self) -> tuple[float, float]:
        """Parts of the cores' time: of other programs, and of other machines on the same hardware."""
        cores_time = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        idle, stolen = _idle_and_stolen()
        own = _own() - self._own
        stolen -= self._stolen
        others = cores_time - (idle - self._idle) - stolen - own
        return max(0.0, others) / cores_time, stolen / cores_time

    def text(self) -> str:
        """A line for the report."""
        others, stolen = self.taken()
        return f"Meanwhile other programs took {others:.0%} of the cores, other machines {stolen:.0%}"


def _first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stdout or done.stderr).splitlines()
    return lines[0] if lines else ""


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def describe() -> dict[str, str]:
    """Names and versions of all that the figures depend on, and how busy the machine was before."""
    return {
        "cpu": f"{len(os.sched_getaffinity(0))} x {_cpu_model()}",
        "kernel": platform.release(),
        "prox": _first_line([str(Path(sys.executable).with_name("prox")), "version"]).removeprefix("prox "),
        "python": sys.version.split()[0],
        "nginx": _first_line(["nginx", "-v"]).rpartition("/")[2],
        "haproxy": _first_line(["haproxy", "-v"]).split()[2].partition("-")[0],
        "envoy": envoy.version(),
        "caddy": caddy.version(),
        "wrk": _first_line(["wrk", "-v"]).split()[1].removeprefix("debian/"),
        "h2load": _first_line(["h2load", "--version"]).rpartition("/")[2],
        "load before": f"{os.getloadavg()[0]:.1f}",
    }
