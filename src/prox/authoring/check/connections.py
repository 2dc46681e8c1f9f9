"""Checks of connections: many at a time, slow ones, broken ones."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from prox.sdk.testing.frames import FrameConnection

from .model import CheckFailedError, CheckSkippedError, Group
from .subject import Subject

group = Group("connections", needs="frames.answered")

_MANY = 256
"""Connections that prox opens at most, unless configured otherwise."""
_TURNS = 100


@group.check("many", "frames")
def many(subject: Subject) -> None:
    """256 connections are served at the same time."""
    data = subject.frame()
    with contextlib.ExitStack() as stack:
        opened: list[FrameConnection] = []
        for number in range(_MANY):
            try:
                opened.append(stack.enter_context(subject.connection()))
            except CheckFailedError as error:
                raise CheckFailedError(f"with {number} connections open: {error}") from None
        for connection in opened:
            subject.send(connection, data)
        for number, connection in enumerate(opened):
            subject.answer(connection, f"with {_MANY} connections open, a call on number {number + 1}")


@group.check("stalled", "frames")
def stalled(subject: Subject) -> None:
    """A connection on which half a frame came does not hold up others."""
    data = subject.frame()
    for cut in (2, len(data) // 2):
        with subject.connection() as connection:
            subject.send(connection, data[:cut])
            subject.still_serves(f"{cut} bytes of a frame on another connection")
            subject.send(connection, data[cut:])
            subject.answer(connection, f"a frame of which {cut} bytes came earlier")


@group.check("broken-off", "frames")
def broken_off(subject: Subject) -> None:
    """A connection that ends within a frame does no harm to others."""
    data = subject.frame()
    for cut in (0, 2, 4, len(data) // 2):
        with subject.connection() as connection:
            subject.send(connection, data[:cut])
        subject.still_serves(f"a connection that ended after {cut} bytes of a frame")


@group.check("gone-before-answer", "frames")
def gone_before_answer(subject: Subject) -> None:
    """A connection that is closed before its call is answered, as after a deadline, does no harm to others."""
    data = subject.frame()
    for _ in range(20):
        with subject.connection() as connection:
            subject.send(connection, data)
    subject.still_serves("connections that were closed before their answer")


@group.check("end-of-file", "frames")
def end_of_file(subject: Subject) -> None:
    """The plugin closes a connection when prox has."""
    with subject.connection() as connection:
        subject.send(connection, subject.frame())
        subject.answer(connection)
        connection.end()
        try:
            connection.rest()
        except TimeoutError:
            raise CheckFailedError(
                f"it is open {subject.patience.answer:g} s after the end of file: descriptors run out"
            ) from None


@group.check("no-leak", "frames")
def no_leak(subject: Subject) -> None:
    """A hundred connections that came and went leave no descriptors open."""
    data = subject.frame()
    folder = Path(f"/proc/{subject.plugin.pid}/fd")

    def open_now() -> int:
        try:
            return len(list(folder.iterdir()))
        except OSError as error:
            raise CheckSkippedError(f"can't look into the process: {error}") from None

    subject.ask(data)
    before = open_now()
    for _ in range(_TURNS):
        subject.ask(data)
    end = time.monotonic() + subject.patience.answer
    while (now := open_now()) > before + _TURNS // 2:
        if time.monotonic() > end:
            raise CheckFailedError(f"before there were {before} descriptors, now there are {now}")
        time.sleep(0.01)
