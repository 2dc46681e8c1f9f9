"""Checks of the process: how it ends, what it leaves, and that it can be started again and twice."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from prox.authoring.running import RunningPlugin

from .model import CheckFailedError, Group
from .subject import Subject, ended

group = Group("life", needs="lines.configure-acknowledged")

_EOF = "Read stdin to its end, then exit."


@group.check("end-of-stdin", "the-process")
def end_of_stdin(subject: Subject) -> None:
    """The plugin exits when stdin ends."""
    with subject.fresh() as plugin:
        _ready(subject, plugin)
        plugin.close_stdin()
        if not plugin.exited(subject.patience.eof):
            raise CheckFailedError(
                f"it runs {subject.patience.eof:g} s later; then prox sends SIGTERM. {_EOF}"
            )


@group.check("exit-status", "the-process", needs="life.end-of-stdin")
def exit_status(subject: Subject) -> None:
    """The plugin exits with status 0 when stdin ends."""
    with subject.fresh() as plugin:
        _ready(subject, plugin)
        plugin.close_stdin()
        if plugin.exited(subject.patience.eof) and plugin.returncode != 0:
            raise CheckFailedError(ended(plugin))


@group.check("end-with-connections", "the-process", needs="frames.answered")
def end_with_connections(subject: Subject) -> None:
    """The plugin exits when stdin ends, while prox has connections open."""
    with subject.fresh() as plugin, contextlib.ExitStack() as stack:
        frame = subject.frame()
        _ready(subject, plugin)
        for _ in range(3):
            connection = plugin.connection()
            stack.callback(connection.close)
            connection.send(frame)  # what is answered was accepted
            subject.answer(connection)
        plugin.close_stdin()
        if not plugin.exited(subject.patience.eof):
            raise CheckFailedError(
                f"it runs {subject.patience.eof:g} s later: don't wait for connections to be closed"
            )


@group.check("end-before-configure", "the-process")
def end_before_configure(subject: Subject) -> None:
    """The plugin exits when stdin ends before any line."""
    with subject.fresh(route_id=None) as plugin:
        plugin.close_stdin()
        if not plugin.exited(subject.patience.eof):
            raise CheckFailedError(f"it runs {subject.patience.eof:g} s later. {_EOF}")


@group.check("sigterm", "the-process")
def sigterm(subject: Subject) -> None:
    """SIGTERM ends the plugin."""
    with subject.fresh() as plugin:
        _ready(subject, plugin)
        plugin.signal(signal.SIGTERM)
        if not plugin.exited(subject.patience.sigterm):
            raise CheckFailedError(f"it runs {subject.patience.sigterm:g} s later; then prox kills it")


@group.check("nothing-left", "the-process", needs="life.end-of-stdin")
def nothing_left(subject: Subject) -> None:
    """No process and no socket outside of PROX_PLUGIN_DIR stay when the plugin has ended."""
    with subject.fresh() as plugin:
        ready = _ready(subject, plugin)
        plugin.close_stdin()
        if not plugin.exited(subject.patience.eof):
            raise CheckFailedError("it does not end")
        if children := _group(plugin.pid):
            raise CheckFailedError(f"processes that it started run on: {', '.join(children)}")
        path = Path(plugin.ready().socket) if ready else None
        if path is not None and path.exists() and path.parent != plugin.directory:
            raise CheckFailedError(
                f"{path} is still there: put it into PROX_PLUGIN_DIR, or remove it at the end"
            )


@group.check("again-after-a-kill", "the-process")
def again_after_a_kill(subject: Subject) -> None:
    """A plugin that was killed can be started again."""
    with subject.fresh() as plugin:
        _ready(subject, plugin)
        plugin.signal(signal.SIGKILL)
        plugin.exited(subject.patience.sigterm)
    with subject.fresh() as plugin:
        _usable(subject, plugin, "started again after a kill")


@group.check("two-at-once", "the-process")
def two_at_once(subject: Subject) -> None:
    """Two processes of it may run at the same time, as when a new version takes over."""
    with subject.fresh() as first, subject.fresh() as second:
        _usable(subject, second, "the second")
        if not _ready(subject, first):
            return
        _usable(subject, first, "the first, while another one runs")
        if first.ready().socket == second.ready().socket:
            raise CheckFailedError(
                f"both listen on {first.ready().socket}: put the socket into PROX_PLUGIN_DIR"
            )


def _ready(subject: Subject, plugin: RunningPlugin) -> bool:
    """Wait until it has said what it says after a configure; whether that was `ready`."""
    inbox = plugin.inbox
    plugin.until(lambda: inbox.ready or inbox.pushes, subject.patience.ready)
    return inbox.ready is not None


def _usable(subject: Subject, plugin: RunningPlugin, which: str) -> None:
    if not _ready(subject, plugin):
        if plugin.running:
            return
        raise CheckFailedError(f"{which}: {ended(plugin)}")
    try:
        connection = plugin.connection()
    except OSError as error:
        raise CheckFailedError(f"{which}: can't connect to {plugin.ready().socket}: {error}") from None
    connection.close()


def _group(leader: int) -> list[str]:
    """Commands of the processes in a group, without its leader and without those that have ended."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == leader:
            continue
        with contextlib.suppress(OSError):
            if os.getpgid(int(folder.name)) != leader:
                continue
            name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
            if rest.split()[0] != "Z":
                found.append(f"{name} ({folder.name})")
    return found
