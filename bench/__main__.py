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

from bench import latency, machine, memory, start, throughput
from bench.load import Wrk
from bench.origin import origin
from bench.peers import BASELINE, HOOKED, RECIPES, running
from bench.processes import BenchError
from bench.report import machine_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.report import Section

PARTS = {
    "small": "CPU time and rate of a GET with a 2-byte body",
    "64k": "the same with a 64 KiB body",
    "hook": "the same with a Python plugin, and what it adds to latency",
    "idle": "memory of an idle process",
    "conns": "memory of an idle keep-alive connection",
    "gib": "memory and CPU time while 1 GiB passes",
    "start": "time from start to first answer",
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="script/bench",
        description="Measures prox beside nginx and HAProxy, each on one core.",
        epilog="Parts: " + "; ".join(f"{name} - {text}" for name, text in PARTS.items()),
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="what to measure (default: all)")
    parser.add_argument("--only", default="", metavar="PART,PART", help="the same, as one argument")
    parser.add_argument(
        "--peers",
        default=",".join(RECIPES),
        metavar="NAME,NAME",
        help=f"proxies (default {','.join(RECIPES)})",
    )
    parser.add_argument("--rounds", type=int, help="rounds for each proxy (default 5; quick 2)")
    parser.add_argument("--seconds", type=int, help="length of a round (default 2; quick 1)")
    parser.add_argument("--quick", action="store_true", help="shorter and rougher; 256 MiB for 1 GiB")
    parser.add_argument(
        "--nice",
        type=int,
        default=0,
        metavar="N",
        help="priority of all, against a busy machine (-10: root only)",
    )
    parser.add_argument(
        "--interpreted", action="store_true", help="prox from its sources, not as mypyc compiled it"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    if args.interpreted:
        os.environ.pop("PYTHONPATH", None)
    args.parts = [*args.parts, *filter(None, args.only.split(","))] or list(PARTS)
    args.peers = args.peers.split(",")
    for given, known in ((args.parts, PARTS), (args.peers, RECIPES)):
        for name in given:
            if name not in known:
                parser.error(f"{name!r} is none of {', '.join(known)}")
    if args.peers[0] != BASELINE:
        args.peers = [BASELINE, *(name for name in args.peers if name != BASELINE)]
    args.rounds = args.rounds or (2 if args.quick else 5)
    args.seconds = args.seconds or (1 if args.quick else 2)
    return args


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
                    yield throughput.measured(work, peers, wrk, args.rounds, args.seconds)
                    if work.hooked:
                        yield latency.measured(peers, wrk, args.rounds, args.seconds / 2)
        others: dict[str, Callable[[], Section]] = {
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
    if args.nice:
        described["nice"] = str(os.nice(args.nice))
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
