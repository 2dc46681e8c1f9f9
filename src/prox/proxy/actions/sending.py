"""A file's way into an answer: read piece by piece in a thread, never further than the client takes it.

The reader is the source of the answer. Between two pieces it looks whether it was paused or stopped, so no more than one
piece waits in memory whatever the size of the file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from prox.flow import Completion
from prox.http.exchange import Answer

from .files import THREADS, OpenFile

PIECE = 256 * 1024
"""Bytes read at once: as many as the client's connection buffers before it pauses its source."""


class Span(NamedTuple):
    """A part of the file."""

    offset: int
    length: int


class FileChangedError(Exception):
    """The file ended before the bytes that the answer's head had promised."""

    kind = "file_changed"


class FileReader:
    """Sends literal bytes and spans of a file, in order.

    Args:
        file: open; the caller closes it.
        parts: what to send.
        ahead: the first bytes of the first span, which were read already.
    """

    def __init__(self, file: OpenFile, parts: Sequence[bytes | Span], ahead: bytes = b"") -> None:
        self._file = file
        self._parts = parts
        self._ahead = ahead
        self._paused = False
        self._stopped = False
        self._waiter: Completion | None = None

    def pause(self) -> None:
        """See Source."""
        self._paused = True

    def resume(self) -> None:
        """See Source."""
        self._paused = False
        self._wake()

    def stop(self) -> None:
        """See Source."""
        self._stopped = True
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            waiter.set()

    async def _may_go_on(self) -> bool:
        """Wait while the client is slow. Whether anybody still wants the rest."""
        while self._paused and not self._stopped:
            self._waiter = Completion()
            await self._waiter
        return not self._stopped

    async def send(self, answer: Answer) -> None:
        """Write everything and end the answer, or break it off where the file does not hold what was promised."""
        last = len(self._parts) - 1
        try:
            for index, part in enumerate(self._parts):
                if not await self._may_go_on():
                    return
                if isinstance(part, Span):
                    if not await self._send_span(answer, part, last=index == last):
                        return
                elif index == last:
                    answer.end(part)
                else:
                    answer.write(part)
        except (OSError, FileChangedError) as error:
            answer.fail(error)
            return
        if not self._parts:
            answer.end()

    async def _send_span(self, answer: Answer, span: Span, *, last: bool) -> bool:
        """Send a part of the file; `last`: it ends the answer. Whether anybody still wants more."""
        loop = asyncio.get_running_loop()
        offset, left = span
        data, self._ahead = self._ahead[:left], b""
        while True:
            if not data:
                size = min(left, PIECE)
                data = await loop.run_in_executor(THREADS, self._file.read, offset, size)
                if len(data) < size:
                    raise FileChangedError(f"{self._file.name} became shorter while it was sent")
                if not await self._may_go_on():
                    return False
            left -= len(data)
            if not left:
                if last:
                    answer.end(data)
                else:
                    answer.write(data)
                return True
            answer.write(data)
            offset += len(data)
            data = b""
            if not await self._may_go_on():
                return False
