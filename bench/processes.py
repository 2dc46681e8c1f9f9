"""Programs that the benchmark starts: pinned to cores, silent, and ended with it whatever happens."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from bench.front import Front, connected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class BenchError(Exception):
    """Something of the run did not work; the text says what, with the end of the program's log."""


def free_port() -> int:
    """A port that nobody listens on, from below the range that outgoing connections take theirs from.

    The servers under test can't all be given a bound socket. A number that the kernel hands out to nobody
    can be bound, closed and bound again by the server without a race against the connections of the load.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    top = lowest if lowest > 12_000 else 65_000
    for _ in range(200):
        port = random.randrange(10_000, top)  # noqa: S311 - no secret
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise BenchError("no free port found")


def prefer(pid: int) -> None:
    """Gives the session of a process this program's priority.

    Where the kernel groups sessions to share the cores among them (autogroup, sched(7)), nice ranks the processes
    of one session alone, and each started program is one of its own.
    """
    with contextlib.suppress(OSError):  # no such groups here, or not allowed
        Path(f"/proc/{pid}/autogroup").write_text(str(os.nice(0)), encoding="ascii")


class Child:
    """A started program; its output goes to `log`."""

    def __init__(
        self, name: str, command: list[str], log: Path, cores: Iterable[int], pass_fds: tuple[int, ...] = ()
    ) -> None:
        self.name = name
        self.log = log
        pinned = ["taskset", "-c", ",".join(map(str, sorted(cores))), *command]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                pinned,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=log.parent,
                pass_fds=pass_fds,
                start_new_session=True,  # Ctrl-C reaches the benchmark alone, which ends its children
            )
        self.pid = self._process.pid
        prefer(self.pid)

    def wait(self, ready: Callable[[], bool], seconds: float = 15.0, interval: float = 0.01) -> None:
        """Returns when `ready()` is true.

        Raises:
            BenchError: the program ended, or it took longer than `seconds`.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if (code := self._process.poll()) is not None:
                raise BenchError(f"{self.name} ended with {code}: {self._tail()}")
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name} was not ready after {seconds:g} s: {self._tail()}")
            time.sleep(interval)

    def stop(self) -> None:
        """Asks it to end, by its process id; after 5 s ends its process group by force."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
                self._process.wait()

    def _tail(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n  ".join(["", *lines[-12:]]) if lines else "it said nothing"


def get(port: int, path: str, front: Front = Front.PLAIN) -> tuple[int, bytes]:
    """Status and body of one GET on a connection of its own; status 0 where there was no answer."""
    try:
        connection = connected(port, front, timeout=5)
    except OSError:
        return 0, b""
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, HTTPException):
        return 0, b""
    finally:
        connection.close()
