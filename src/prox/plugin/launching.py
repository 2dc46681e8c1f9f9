"""The start of a plugin's program: its pipes, and what limits and another user need.

Where neither is configured, the program is started directly. Else `_launch.py` is, which takes them upon itself and
becomes the program, so that they hold from its first instruction, and tells where it can't. All of this blocks for
some milliseconds: run it in a thread.
"""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .accounts import Account
from .environment import DIRECTORY
from .errors import PluginStartError
from .guardian import Guardian
from .limits import PluginLimits
from .model import PluginSpec

_LAUNCHER: Final = Path(__file__).with_name("_launch.py")
_PATIENCE: Final = 10.0
"""Seconds that the launcher has; it takes some hundredths of one."""

_IN_SYSTEMD: Final = {"memory": "LimitAS", "open_files": "LimitNOFILE", "cpu_time": "LimitCPU"}
"""What raises these limits for prox itself."""


@dataclass(frozen=True, slots=True)
class Started:
    """A child that runs, and prox's ends of what leads to it.

    Attributes:
        child: the process; it leads a session and a group of its own.
        pidfd: tells of its exit.
        stdin: the end to write to; not blocking, as the others.
        stdout: the end to read from.
        stderr: the end to read from.
    """

    child: subprocess.Popen[bytes]
    pidfd: int
    stdin: int
    stdout: int
    stderr: int


def start_program(
    spec: PluginSpec,
    program: str,
    environment: Mapping[str, str],
    account: Account | None,
    guardian: Guardian | None,
) -> Started:
    """Start a plugin's program.

    Args:
        spec: how to start it.
        program: its absolute path, from `check_program`.
        environment: its variables, the directory among them.
        account: whom it runs as; None for the user that prox is.
        guardian: told of it before anything else happens.

    Raises:
        PluginStartError: it can't be started; the text says what to do about it.
    """
    with ExitStack() as theirs, ExitStack() as ours:
        ends: list[int] = []
        pipes: list[int] = []
        try:
            for write_end_is_ours in (True, False, False):
                reading, writing = os.pipe2(os.O_CLOEXEC)
                our_end, their_end = (writing, reading) if write_end_is_ours else (reading, writing)
                ours.callback(os.close, our_end)
                theirs.callback(os.close, their_end)
                os.set_blocking(our_end, False)
                ends.append(our_end)
                pipes.append(their_end)
            child, report = _spawn(spec, program, environment, account, pipes, theirs)
            if guardian is not None:
                guardian.add(child.pid)
            try:
                pidfd = os.pidfd_open(child.pid)
                ours.callback(os.close, pidfd)
                theirs.close()
                if report is not None:
                    _await_launch(spec, program, report)
            except BaseException:  # a child that nobody would see exit must not be
                os.killpg(child.pid, signal.SIGKILL)
                if guardian is not None:
                    guardian.remove(child.pid)
                child.wait()
                raise
        except (OSError, ValueError) as error:
            raise PluginStartError(_explain(program, error)) from error
        ours.pop_all()
    return Started(child, pidfd, *ends)


def _spawn(
    spec: PluginSpec,
    program: str,
    environment: Mapping[str, str],
    account: Account | None,
    pipes: list[int],
    theirs: ExitStack,
) -> tuple[subprocess.Popen[bytes], int | None]:
    """Fork and exec: the child, and where its launcher reports to, if it has one."""
    stdin, stdout, stderr = pipes
    if not spec.limits and account is None:
        child = subprocess.Popen(  # noqa: S603 - the program that the configuration names
            [program, *spec.args],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=spec.cwd,
            env=environment,
            start_new_session=True,
        )
        return child, None
    order = os.memfd_create("order", os.MFD_CLOEXEC)
    theirs.callback(os.close, order)
    with open(order, "wb", closefd=False) as file:
        file.writelines(_order(spec, program, environment, account))
    os.lseek(order, 0, os.SEEK_SET)
    report, told = os.pipe2(os.O_CLOEXEC)
    theirs.callback(os.close, told)
    try:
        child = subprocess.Popen(  # noqa: S603 - our own program
            [_interpreter(), "-I", "-S", str(_LAUNCHER), str(order), str(told)],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            # The directory's name lets a guardian know it for a plugin.
            env={DIRECTORY: environment[DIRECTORY]},
            pass_fds=(order, told),
            start_new_session=True,
        )
    except OSError as error:
        os.close(report)
        raise PluginStartError(f"{program} can't be started: its launcher can't ({error})") from error
    return child, report


def _order(
    spec: PluginSpec, program: str, environment: Mapping[str, str], account: Account | None
) -> Iterator[bytes]:
    limits = spec.limits or PluginLimits()
    values: list[tuple[str, object]] = [("program", program), ("directory", environment[DIRECTORY])]
    values += (("arg", argument) for argument in spec.args)
    values += (("env", f"{name}={value}") for name, value in environment.items())
    if spec.cwd is not None:
        values.append(("cwd", spec.cwd))
    numbers = (("nice", limits.nice), ("memory", limits.memory), ("open_files", limits.open_files))
    values += ((name, number) for name, number in numbers if number is not None)
    if limits.cpu_time is not None:
        values.append(("cpu_time", max(1, -int(-limits.cpu_time // 1))))
    if account is not None:
        values += [("uid", account.uid), ("gid", account.gid)]
        values += (("group", group) for group in account.groups)
    for name, value in values:
        record = os.fsencode(f"{name}={value}")
        if b"\0" in record:
            raise ValueError("its arguments and variables can't hold a NUL character")
        yield record + b"\0"


def _await_launch(spec: PluginSpec, program: str, report: int) -> None:
    """Wait until the launcher has become the program.

    Raises:
        PluginStartError: it could not.
    """
    with open(report, "rb") as pipe:
        waiting = select.poll()
        waiting.register(pipe, select.POLLIN)
        if not waiting.poll(_PATIENCE * 1000):
            raise PluginStartError(f"{program} can't be started: its launcher is stuck")
        failed = pipe.read().decode()
    if failed:
        step, _, number = failed.partition(" ")
        raise PluginStartError(_explain_launch(spec, program, step, int(number)))


def _explain_launch(spec: PluginSpec, program: str, step: str, number: int) -> str:
    limits = spec.limits or PluginLimits()
    reason = os.strerror(number)
    who = f"user {limits.user}" if limits.user is not None else f"group {limits.group}"
    as_whom = f" as {who}" if limits.user is not None or limits.group is not None else ""
    if step == "exec" and as_whom and number == errno.EACCES:
        return (
            f"{who} may not run {program}: it needs to read and execute the program and the interpreter that its first"
            " line names, and to pass through their folders"
        )
    if step == "exec":
        return _explain(program, OSError(number, reason))
    if step == "user":
        return cannot_change(limits)
    if step == "unchanged":
        return f"{program} can't be started{as_whom}: what prox may do can't be taken away from it"
    if step == "directory":
        return f"{who} can't reach the directory for its socket: all folders above it must be searchable"
    if step == "cwd":
        return f"its working directory {spec.cwd} can't be entered{as_whom}: {reason}"
    if step == "nice":
        return f"limits.nice {limits.nice}: only root, or who has CAP_SYS_NICE, may put it before prox ({reason})"
    if step == "memory" and number == errno.ENOMEM:
        return f"limits.memory {limits.memory}: that is too little to start anything"
    if step in _IN_SYSTEMD and number == errno.EPERM:
        return (
            f"limits.{step} {getattr(limits, step)} is above what prox itself may have: lower it, or raise that"
            f" ({_IN_SYSTEMD[step]} of a systemd unit, ulimit -H of a shell)"
        )
    return f"{program} can't be started{as_whom}: {step}: {reason}"


def cannot_change(limits: PluginLimits | None) -> str:
    """What to say where prox may not start a process as somebody else."""
    keys = [key for key in ("user", "group") if limits is not None and getattr(limits, key) is not None]
    wanted = " and ".join(f"limits.{key}" for key in keys)
    return (
        f"prox runs as user {os.geteuid()}, who may start nothing as somebody else: run prox as root, or take"
        f" {wanted} out"
    )


def _interpreter() -> str:
    return sys.executable or shutil.which("python3") or "python3"


def check_program(spec: PluginSpec) -> str:
    """The absolute path of a plugin's program.

    Raises:
        PluginStartError: it can't be started; the text says what to do about it.
    """
    path = Path(spec.path).absolute()
    source = path.with_name(path.name + ".go")
    if path.suffix == ".go" and path.is_file():
        raise PluginStartError(f"{path} is Go source: compile it with `prox build`")
    if path.is_dir():
        raise PluginStartError(f"{path} is a folder: if it is a Go package, compile it with `prox build`")
    if not path.exists():
        if source.is_file():
            raise PluginStartError(f"{path} is not there, but {source.name} is: compile it with `prox build`")
        if path.name == path.parent.name and any(path.parent.glob("*.go")):
            raise PluginStartError(f"{path} is not there, but its package is: compile it with `prox build`")
        raise PluginStartError(f"{path}: no such file")
    if not os.access(path, os.X_OK):
        raise PluginStartError(f"{path} is not executable: chmod +x {path}")
    if spec.cwd is not None and not Path(spec.cwd).is_dir():
        raise PluginStartError(f"its working directory {spec.cwd} is not there")
    return str(path)


def _explain(path: str, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path} is there, but not the interpreter that its first line names"
    if isinstance(error, OSError) and error.errno == errno.ENOEXEC:
        return (
            f"{path} is no program for this machine; a script needs a first line like #!/usr/bin/env python3"
        )
    return f"{path} can't be started: {error}"
