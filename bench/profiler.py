"""Where prox spends its time under load, for those who tune the hot path.

Run from the checkout as `.venv/bin/python -m bench.profiler small` (or `64k`, `hook`). Two tools:

- `py-spy` (the default; `.venv/bin/pip install py-spy`, no dependency of the project) samples the running process
  from outside, the C code of uvloop and httptools included. It slows the process, but all of it alike: believe its
  shares. `--flame FILE` draws a flame graph. It needs the right to trace: root, or kernel.yama.ptrace_scope 0.
- `--tool cprofile` counts each call. Its times are inflated for Python code, but it says how often what is called
  for a request.
"""

from __future__ import annotations

import argparse
import os
import pstats
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from bench import machine
from bench.load import Wrk
from bench.origin import origin
from bench.peers import running
from bench.processes import BenchError
from bench.throughput import WORKS, Sample, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.peers import Peer

_RATE = 100  # samples a second; each stops the process for some ms while its C stack is read

_ALL = 0.97  # functions with a larger share lead to the loop and say nothing


def _said(one: Sample) -> str:
    spent = f"{one.spent.user / one.requests * 1e6:.1f} + {one.spent.system / one.requests * 1e6:.1f}"
    each = f"{one.micros:.1f} μs of CPU each (user + system: {spent})"
    return f"{one.requests:,} requests, {each}, profiler included"


def _spied(peer: Peer, load: Callable[[], Sample], args: argparse.Namespace, folder: Path) -> None:
    spy = shutil.which("py-spy")
    if spy is None:
        raise BenchError("py-spy is missing: .venv/bin/pip install py-spy, or --tool cprofile")
    stacks = folder / "stacks"
    command = [spy, "record", "--native", "--threads", "--pid", str(peer.child.pid), "--rate", str(_RATE)]
    command += ["--duration", str(args.seconds), "--format", "raw", "--output", str(stacks)]
    if args.flame:
        command[command.index("raw")] = "flamegraph"
        command[-1] = str(args.flame.resolve())
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as recorder:
        one = load()
        _, errors = recorder.communicate(timeout=60)
    print(_said(one))
    if args.flame:
        print(f"flame graph: {args.flame}")
        return
    if not stacks.exists():
        raise BenchError(f"py-spy failed: {errors}")
    _print_shares(stacks.read_text(encoding="utf-8"), args.lines)


def _print_shares(stacks: str, lines: int) -> None:
    """Prints shares of collapsed stacks: `frame;frame;frame COUNT` a line, the outermost frame first."""
    own: Counter[str] = Counter()
    below: Counter[str] = Counter()
    total = 0
    for line in stacks.splitlines():
        stack, _, number = line.rpartition(" ")
        count = int(number)
        thread, *stack_frames = stack.split(";")
        if not thread.endswith("MainThread"):
            continue  # sleeps; a native stack hides that
        # Without the line number: a function is looked for, not a line of it.
        frames = [frame.rpartition(":")[0] + ")" if ":" in frame else frame for frame in stack_frames]
        total += count
        own[frames[-1]] += count
        below.update(dict.fromkeys(frames, count))
    for title, counter in (("itself", own), ("with all that it called", below)):
        print(f"\n% of {total:,} samples, {title}")
        shares = [(frame, count / total) for frame, count in counter.most_common()]
        for frame, share in [one for one in shares if one[1] < _ALL][:lines]:
            print(f"{share:6.1%}  {frame}")


def _counted(stats: Path, one: Sample, lines: int) -> None:
    print(_said(one))
    pstats.Stats(str(stats)).sort_stats("tottime").print_stats(lines)


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.profiler", description="Profiles prox under load.")
    parser.add_argument("work", choices=list(WORKS), help="kind of request")
    parser.add_argument("--tool", choices=["py-spy", "cprofile"], default="py-spy")
    parser.add_argument("--seconds", type=int, default=10, help="how long (default 10)")
    parser.add_argument("--lines", type=int, default=35, help="length of each table (default 35)")
    parser.add_argument("--flame", type=Path, metavar="FILE", help="py-spy: draw a flame graph (SVG) instead")
    return parser.parse_args(given)


def main() -> int:
    """Starts prox before the benchmark's origin, loads it and prints where the time went."""
    args = _arguments(sys.argv[1:])
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"
    cores = machine.cores()
    os.sched_setaffinity(0, cores.others)
    work = WORKS[args.work]
    with tempfile.TemporaryDirectory(prefix="prox-profile-") as name, ExitStack() as stack:
        folder = Path(name)
        stats = folder / "stats"
        under = [sys.executable, "-m", "cProfile", "-o", str(stats)] if args.tool == "cprofile" else []
        wrk = Wrk(folder)
        try:
            behind = stack.enter_context(origin(folder / "origin", cores, 1 << 20))
            with running("prox", folder, behind, cores, under) as peer:
                wrk(peer.port, work.path, 1)

                def load(seconds: int = args.seconds) -> Sample:
                    return sample(peer, wrk, work.path, seconds)

                if args.tool == "py-spy":
                    _spied(peer, load, args, folder)
                else:
                    one = load()
            if args.tool == "cprofile":
                _counted(stats, one, args.lines)
        except BenchError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
