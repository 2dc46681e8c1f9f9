"""What /proc says about a proxy: CPU time and memory of its process tree, its plugins left out."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU seconds spent so far: `total` to the nanosecond, `user` in ticks of the kernel (10 ms, as a rule)."""

    total: float
    user: float

    @property
    def system(self) -> float:
        """The kernel's part."""
        return self.total - self.user

    def __add__(self, other: Cpu) -> Cpu:
        return Cpu(self.total + other.total, self.user + other.user)

    def __sub__(self, earlier: Cpu) -> Cpu:
        return Cpu(self.total - earlier.total, self.user - earlier.user)


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on; none where the process has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def tree(root: int, is_plugin: Callable[[bytes], bool] = lambda _: False) -> tuple[list[int], list[int]]:
    """Process ids below and with `root`: those of the program, and those of its plugins and their children.

    Args:
        root: The process id at the top; never taken for a plugin.
        is_plugin: Tells a plugin by its command line (arguments separated by NUL).
    """
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    own: list[int] = [root]
    plugins: list[int] = []
    for pid in own:
        for child in children.get(pid, []):
            (plugins if is_plugin(_command(child)) else own).append(child)
    for pid in plugins:
        plugins.extend(children.get(pid, []))
    return own, plugins


def cpu(pids: Iterable[int]) -> Cpu:
    """CPU time of these processes together, their ended threads counted, their ended children not."""
    spent = Cpu(0, 0)
    for pid in pids:
        if fields := _stat(pid):
            with contextlib.suppress(OSError):  # it has just gone
                # The clock of a process, as clock_getcpuclockid(3) makes its number.
                spent += Cpu(time.clock_gettime(~pid << 3 | 2), int(fields[11]) * _TICK)
    return spent


def _kib(path: str, names: tuple[str, ...]) -> dict[str, int]:
    found = dict.fromkeys(names, 0)
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name in found:
            found[name] = int(value.split()[0])
    return found


def resident(pids: Iterable[int]) -> tuple[int, int]:
    """RSS and PSS (shared pages divided among their users) of these processes together, in KiB."""
    rss = pss = 0
    for pid in pids:
        figures = _kib(f"/proc/{pid}/smaps_rollup", ("Rss", "Pss"))
        rss += figures["Rss"]
        pss += figures["Pss"]
    return rss, pss


def reset_peak(pids: Iterable[int]) -> int:
    """Makes the kernel's high-water mark of each process begin anew; gives the RSS now, in KiB."""
    pids = list(pids)
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
    return sum(_kib(f"/proc/{pid}/status", ("VmRSS",))["VmRSS"] for pid in pids)


def peak(pids: Iterable[int]) -> int:
    """Highest RSS since `reset_peak`, in KiB."""
    return sum(_kib(f"/proc/{pid}/status", ("VmHWM",))["VmHWM"] for pid in pids)


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some figures, with the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Iterable[float]) -> Spread:
        """Raises StatisticsError where there is no figure."""
        ordered = sorted(figures)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])


def percentile(ordered: list[int], percent: float) -> int:
    """The nearest-rank percentile of figures in ascending order."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
