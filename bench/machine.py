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
from dataclasses import dataclass
from pathlib import Path


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
        "wrk": _first_line(["wrk", "-v"]).split()[1].removeprefix("debian/"),
        "load before": f"{os.getloadavg()[0]:.1f}",
    }
