"""The launcher's program: takes limits and another user upon itself, then becomes the plugin.

It is run as a script by the bare interpreter and imports nothing of prox. Between fork and exec of a program with
threads nothing but plain system calls is safe; here, in a process of its own, everything is. The plugin's
environment comes in the order and not as this program's own, so that no LD_PRELOAD of the plugin acts before its
limits and its user do.

Arguments: the descriptor of the order, and that of the report. The order is a list of `key=value` that end in NUL.
The report stays empty where the plugin has taken this process over; else it is the step that failed, a blank, and
the number of the error.
"""

# As few imports as can be, since every start of a limited plugin waits for them.

import errno
import os
import signal
import sys

_PRIVILEGED = b"CapPrm:"


def main() -> None:
    """Follow the order."""
    order, report = int(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(report, False)
    _Launch().run(order, report)


class _Launch:
    def __init__(self) -> None:
        self.step = "order"
        self.status = -1

    def run(self, order: int, report: int) -> None:
        try:
            self.follow(order)
        except OSError as error:
            failed = f"{self.step} {error.errno}"
        except MemoryError:
            failed = f"memory {errno.ENOMEM}"
        except (ValueError, OverflowError):  # what `resource` makes of a refusal
            failed = f"{self.step} {errno.EPERM}"
        os.write(report, failed.encode())
        os._exit(127)

    def follow(self, order: int) -> None:
        """Become the plugin; it returns by an error only."""
        fields: dict[bytes, list[bytes]] = {}
        for record in _read(order).split(b"\0")[:-1]:
            key, _, value = record.partition(b"=")
            fields.setdefault(key, []).append(value)
        arguments = [fields[b"program"][0], *fields.get(b"arg", [])]
        environment = dict(variable.split(b"=", 1) for variable in fields[b"env"])
        # Opened now, read later: a limit of descriptors may leave none for it.
        self.status = os.open("/proc/self/status", os.O_RDONLY)
        self.limit(fields)
        if b"uid" in fields:
            self.change_user(fields)
        self.step = "directory"
        if not os.access(fields[b"directory"][0], os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "")
        self.step = "cwd"
        self.enter(fields)
        self.step = "exec"
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by the interpreter, and that outlives exec
            signal.signal(ignored, signal.SIG_DFL)
        os.execve(arguments[0], arguments, environment)  # noqa: S606 - the program that the configuration names

    def limit(self, fields: dict[bytes, list[bytes]]) -> None:
        """Before the user changes, who may not be allowed to; the memory last, because from then on there may be none."""
        import resource

        self.step = "nice"
        if b"nice" in fields:
            os.setpriority(os.PRIO_PROCESS, 0, int(fields[b"nice"][0]))
        for key, limit, grace in (
            (b"open_files", resource.RLIMIT_NOFILE, 0),
            (b"cpu_time", resource.RLIMIT_CPU, 1),
            (b"memory", resource.RLIMIT_AS, 0),
        ):
            self.step = key.decode()
            if key in fields:
                most = int(fields[key][0])
                resource.setrlimit(limit, (most, most + grace))

    def change_user(self, fields: dict[bytes, list[bytes]]) -> None:
        """For good: no way back by a saved id, and no capability that would be one."""
        self.step = "user"
        uid, gid = int(fields[b"uid"][0]), int(fields[b"gid"][0])
        groups = [int(group) for group in fields[b"group"]]
        before = os.geteuid()
        for pipe in range(3):  # else it could not open /dev/stderr and the like
            os.fchown(pipe, uid, gid)
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        if uid != before:
            if before != 0:  # only the way from root to another user clears capabilities, ambient ones too
                os.setresuid(0, 0, 0)
            os.setresuid(uid, uid, uid)
        self.step = "unchanged"
        if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid):
            raise PermissionError(errno.EPERM, "")
        if uid not in (0, before):
            for line in os.pread(self.status, 1 << 16, 0).splitlines():
                if line.startswith(_PRIVILEGED) and int(line.split()[1], 16) == 0:
                    return
            raise PermissionError(errno.EPERM, "")

    def enter(self, fields: dict[bytes, list[bytes]]) -> None:
        """Go to the working directory as the plugin's user, not by a right that it does not have."""
        if b"cwd" in fields:
            os.chdir(fields[b"cwd"][0])
        elif b"uid" in fields:
            try:
                os.chdir(os.getcwd())  # noqa: PTH109 - without pathlib
            except OSError:  # prox's own, which is closed to this user
                os.chdir("/")


def _read(order: int) -> bytes:
    pieces = []
    while piece := os.read(order, 1 << 20):
        pieces.append(piece)
    os.close(order)
    return b"".join(pieces)


if __name__ == "__main__":
    main()
