"""Load as fast as the answers come, one thread, ten request headers.

By wrk over HTTP/1.1: 64 keep-alive connections. By h2load over HTTP/2: 16 connections of 8 streams.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bench.front import Front
from bench.processes import BenchError

if TYPE_CHECKING:
    from pathlib import Path

CONNECTIONS = 64
H2_CONNECTIONS = 16
H2_STREAMS = 8

# What a browser behind a login sends; with Host these are ten.
HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "application/json, text/plain, */*",
    "Accept-Language": "en-GB,en;q=0.7,de;q=0.3",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "https://shop.example.com/basket?step=2",
    "Authorization": "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1MSJ9.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg",
    "Cookie": "session=6f1d0c2b9a8e4f53; theme=dark; consent=1",
    "Cache-Control": "no-cache",
    "X-Request-Id": "0d3f7f0e-6b1c-4f4e-9a53-1d2b6f1f7a10",
}

_SCRIPT = """\
{headers}
done = function(summary, latency, requests)
  local e = summary.errors
  local errors = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format('RESULT {{"requests": %d, "microseconds": %d, "bytes": %d, "errors": %d}}\\n',
    summary.requests, summary.duration, summary.bytes, errors))
end
"""


@dataclass(frozen=True, slots=True)
class Driven:
    """What was counted: answers, seconds, bytes read."""

    requests: int
    seconds: float
    received: int

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


class Load(Protocol):
    """Drives a proxy with all that it can answer."""

    def __call__(self, port: int, path: str, seconds: int) -> Driven:
        """Drives 127.0.0.1:`port`.

        Raises:
            BenchError: the program failed, or an answer was missing or had a status of 400 or more.
        """


class Wrk:
    """Runs wrk with one script; it inherits the cores of this process, which are not the proxy's."""

    def __init__(self, folder: Path, front: Front = Front.PLAIN) -> None:
        self._scheme = front.scheme
        headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in HEADERS.items())
        self._script = folder / "wrk.lua"
        self._script.write_text(_SCRIPT.format(headers=headers), encoding="utf-8")

    def __call__(self, port: int, path: str, seconds: int) -> Driven:
        """See Load."""
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(self._script)]
        done = subprocess.run(
            [*command, f"{self._scheme}://127.0.0.1:{port}{path}"],
            capture_output=True,
            text=True,
            check=False,
        )
        for line in done.stdout.splitlines():
            if line.startswith("RESULT "):
                counted = json.loads(line.removeprefix("RESULT "))
                if counted["errors"] or not counted["requests"]:
                    raise BenchError(f"wrk met errors at {path}: {done.stdout}")
                return Driven(counted["requests"], counted["microseconds"] / 1e6, counted["bytes"])
        raise BenchError(f"wrk failed: {done.stdout}{done.stderr}")


_H2LOAD = re.compile(
    r"^finished in (?P<seconds>[0-9.]+)(?P<unit>us|ms|s|m), .*?"
    r"^requests: \d+ total, \d+ started, (?P<done>\d+) done, (?P<good>\d+) succeeded, .*?"
    r"^traffic: .*?\((?P<bytes>\d+)\) total",
    re.MULTILINE | re.DOTALL,
)
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


class H2Load:
    """Runs h2load over TLS; it inherits the cores of this process, which are not the proxy's."""

    def __call__(self, port: int, path: str, seconds: int) -> Driven:
        """See Load."""
        headers = [f"--header={name.lower()}: {value}" for name, value in HEADERS.items()]
        shape = [f"-c{H2_CONNECTIONS}", f"-m{H2_STREAMS}", "-t1", f"-D{seconds}"]
        done = subprocess.run(
            ["h2load", *shape, *headers, f"https://127.0.0.1:{port}{path}"],
            capture_output=True,
            text=True,
            check=False,
        )
        found = _H2LOAD.search(done.stdout)
        if found is None or "Application protocol: h2\n" not in done.stdout:
            raise BenchError(f"h2load failed: {done.stdout}{done.stderr}")
        if found["done"] != found["good"] or not int(found["done"]):
            raise BenchError(f"h2load met errors at {path}: {done.stdout}")
        return Driven(
            int(found["done"]), float(found["seconds"]) * _UNITS[found["unit"]], int(found["bytes"])
        )
