"""The guardian's program: ends the plugins' process groups when prox is gone, however it went.

It is run as a script by the bare interpreter and imports nothing of prox. Arguments: the runtime directory and
the seconds between SIGTERM and SIGKILL. On stdin: lines `+GROUP` and `-GROUP`. When stdin ends, it ends the
groups that are still listed, and every process that was started with a private directory of this prox in its
environment: those have left their group, or were started in the instant in which prox died.
"""

# Without pathlib, which would be most of what this program loads:
# ruff: noqa: PTH106, PTH123, PTH208

import contextlib
import os
import signal
import sys
import time


def main() -> None:
    """Wait for the end of stdin, then clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    directory, grace = sys.argv[1], float(sys.argv[2])
    groups = _listen()
    marker = os.fsencode(f"PROX_PLUGIN_DIR={directory}/")
    _end(groups, marker, signal.SIGTERM)
    limit = time.monotonic() + grace
    while _end(groups, marker, 0) and time.monotonic() < limit:
        time.sleep(0.02)
    limit = time.monotonic() + 2
    while _end(groups, marker, signal.SIGKILL) and time.monotonic() < limit:
        time.sleep(0.02)
    _remove(directory)


def _listen() -> set[int]:
    groups: set[int] = set()
    rest = b""
    while data := os.read(0, 65536):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
    return groups


def _end(groups: set[int], marker: bytes, number: int) -> bool:
    """Signal all that is left; tell whether there was anything."""
    for group in list(groups):
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            groups.discard(group)
        except PermissionError:  # what is left of the group has changed its user
            groups.discard(group)
    strays = [pid for pid in _marked(marker) if _alive(pid)]
    for pid in strays:
        with contextlib.suppress(OSError):
            os.kill(pid, number)
    return bool(strays) or any(_group_alive(group) for group in groups)


def _marked(marker: bytes) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
            data = file.read()
            if data.startswith(marker) or b"\0" + marker in data:
                found.append(int(name))
    return found


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in {b"Z", b"X"}
    except OSError:
        return False


def _group_alive(group: int) -> bool:
    """Whether a group has a member that is no zombie: where init does not reap, zombies stay."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
            state, _parent, member_of = file.read().rpartition(b")")[2].split()[:3]
            if int(member_of) == group and state not in {b"Z", b"X"}:
                return True
    return False


def _remove(directory: str) -> None:
    """Remove a folder by descriptors, so that no link that its owner puts there meanwhile leads elsewhere."""
    with contextlib.suppress(OSError, RecursionError):
        for _, folders, files, folder in os.fwalk(directory, topdown=False):
            for name in files:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=folder)
            for name in folders:
                with contextlib.suppress(OSError):
                    os.rmdir(name, dir_fd=folder)
                with contextlib.suppress(OSError):  # a link to a folder
                    os.unlink(name, dir_fd=folder)
    with contextlib.suppress(OSError):
        os.rmdir(directory)


if __name__ == "__main__":
    main()
