"""Checks of `ready` and of the socket that it names."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from prox.wire import HOOK_TYPES

from .model import CheckFailedError, Group
from .subject import Subject

group = Group("ready", needs="ready.said")

_LONGEST = 107
"""Bytes of a socket's path (unix(7))."""


@group.check("said", "ready", needs="lines.configure-acknowledged")
def said(subject: Subject) -> None:
    """After a configure the plugin says ready, or pushes."""
    plugin = subject.plugin
    inbox = plugin.inbox
    plugin.until(lambda: inbox.ready or inbox.pushes, subject.patience.ready)
    if inbox.ready is None and not inbox.pushes:
        raise CheckFailedError(
            f"neither came within {subject.patience.ready:g} s, and prox refuses the requests of its routes. A plugin "
            "that serves no hook needs `hooks: []` in its settings, or a push."
        )


@group.check("hooks", "ready")
def hooks(subject: Subject) -> None:
    """The hooks in ready are hooks of the protocol, each once."""
    ready = _ready(subject)
    if unknown := [name for name in ready if name not in HOOK_TYPES]:
        raise CheckFailedError(f"prox knows no hook {unknown[0]!r}, only {', '.join(HOOK_TYPES)}")
    if len(set(ready)) < len(ready):
        raise CheckFailedError(f"one is there twice: {', '.join(ready)}")


@group.check("listening", "ready")
def listening(subject: Subject) -> None:
    """When ready is said, the socket is listened on."""
    with subject.fresh() as plugin:
        _ready(subject)
        path = plugin.ready().socket
        if not Path(path).is_absolute():
            raise CheckFailedError(f"the path of the socket is not absolute: {path!r}")
        if len(os.fsencode(path)) > _LONGEST:
            raise CheckFailedError(f"the path of the socket has more than {_LONGEST} bytes: {path}")
        try:
            plugin.connection().close()
        except OSError as error:
            raise CheckFailedError(
                f"can't connect to {path}: {error}. Listen first, then say ready."
            ) from None


@group.check("private", "the-process")
def private(subject: Subject) -> None:
    """Nobody but its user can connect to the socket."""
    _ready(subject)
    path = Path(subject.plugin.ready().socket)
    try:
        if not path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return
        if any(not folder.stat().st_mode & (stat.S_IXGRP | stat.S_IXOTH) for folder in path.parents):
            return
    except OSError as error:
        raise CheckFailedError(f"{path}: {error.strerror}") from None
    raise CheckFailedError(
        f"every user can connect to {path}: put it into PROX_PLUGIN_DIR, or set its mode to 0600"
    )


@group.check("after-configure", "ready")
def after_configure(subject: Subject) -> None:
    """After a further configure, calls are answered on old connections and on new ones."""
    plugin, frame = subject.plugin, subject.frame()
    with subject.connection() as connection:
        subject.send(connection, frame)
        subject.answer(connection)
        subject.configure(plugin)
        plugin.until(lambda: None, subject.patience.quiet)  # a `ready` that may follow
        subject.send(connection, frame)
        subject.answer(connection, "a call on a connection that was opened before the configure")
    subject.ask(frame, "a call on a connection that was opened after the configure")


def _ready(subject: Subject) -> list[str]:
    """The hooks that it names; skips the check where it has none."""
    assert subject.ready_hooks is not None
    ready = subject.plugin.inbox.ready
    return (ready.hooks if ready else None) or []
