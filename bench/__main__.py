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

from bench import envoy, latency, machine, memory, start, throughput, unhooked
from bench.load import Wrk
from bench.origin import origin
from bench.peers import BASELINE, HOOKED, PEERS, running
from bench.processes import BenchError, prefer
from bench.report import machine_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.report import Section

PARTS = {
    "small": "CPU time and rate of a GET with a 2-byte body",
    "64k": "the same with a 64 KiB body",
    "hook": "the same with a Python plugin, what it adds to latency, and what others pay for it",
    "idle": "memory of an idle process",
    "conns": "memory of an idle keep-alive connection",
    "gib": "memory and CPU time while 1 GiB passes",
    "start": "time from start to first answer",
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="script/bench",
        description="Measures prox beside nginx, HAProxy and Envoy, each on one core.",
        epilog="Parts: " + "; ".join(f"{name} - {text}" for name, text in PARTS.items()),
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="what to measure (default: all)")
    parser.add_argument("--only", default="", metavar="PART,PART", help="the same, as one argument")
    parser.add_argument(
        "--peers",
        metavar="NAME,NAME",
        help=f"proxies (default {','.join(PEERS)}; without envoy where it is not installed)",
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
    if not all(map(_there, args.peers)):
        parser.error(f"{envoy.PROGRAM} is missing; script/bench installs it where there is a wheel")
    if args.peers[0] != BASELINE:
        args.peers = [BASELINE, *(name for name in args.peers if name != BASELINE)]
    args.rounds = args.rounds or (2 if args.quick else 5)
    args.seconds = args.seconds or (1 if args.quick else 2)
    return args


def _there(name: str) -> bool:
    return name != "envoy" or envoy.available()


def _renice(wanted: int | None) -> int:
    """Sets the priority of this process, which its children inherit, and gives the one in force."""
    try:
        return os.nice(-10 if wanted is None and os.geteuid() == 0 else wanted or 0)
    except PermissionError:
        if wanted is not None:
            raise SystemExit(f"bench: not allowed to take priority {wanted}") from None
        return os.nice(0)


def _sections(args: argparse.Namespace, folder: Path, cores: machine.Cores) -> Iterator[Section]:
    parts, names = args.parts, args.peers
    hooked = [name for name in names if name in HOOKED]
    with ExitStack() as all_of_it:
        behind = all_of_it.enter_context(
            origin(folder / "origin", cores, (256 if args.quick else 1024) << 20)
        )
        if works := [throughput.WORKS[part] for part in parts if part in throughput.WORKS]:
            with ExitStack() as stack:
                peers = [stack.enter_context(running(name, folder, behind, cores)) for name in names]
                wrk = Wrk(folder)
                for work in works:
                    section = throughput.measured(work, peers, wrk, args.rounds, args.seconds)
                    if "envoy" in work.against and not _there("envoy"):
                        section.notes.append("Envoy is left out: there is no wheel of it for this machine")
                    yield section
                    if work.hooked:
                        yield latency.measured(peers, wrk, args.rounds, args.seconds)
        others: dict[str, Callable[[], Section]] = {
            "hook": lambda: unhooked.measured(folder, behind, cores, Wrk(folder), 2 * args.rounds),
            "idle": lambda: memory.idle(names, folder, behind, cores),
            "conns": lambda: memory.connections(names, folder, behind, cores),
            "gib": lambda: memory.large(names, folder, behind, cores, 1 if args.quick else 3),
            "start": lambda: start.measured(hooked, folder, behind, cores, args.rounds),
        }
        for part, measured in others.items():
            if part in parts:
                yield measured()


def _terminated(_signal: int, _frame: object) -> NoReturn:
    raise SystemExit(143)


def main() -> int:
    """Measures what the command line names; 0, or 1 where something of the run did not work."""
    args = _arguments()
    signal.signal(signal.SIGTERM, _terminated)
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [tool for tool in ("nginx", "haproxy", "wrk", "taskset") if shutil.which(tool) is None]
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
