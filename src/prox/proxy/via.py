"""The mark of a proxy on the messages that it passes on: Via (RFC 9110 section 7.6.3), where a service asks for it."""

from __future__ import annotations

from typing import TypeAlias

from prox.http.codec.fields import line_of
from prox.http.codec.response import ResponseHead
from prox.http.exchange import Answer
from prox.http.streams import Sink

Lines: TypeAlias = tuple[bytes, bytes, bytes]


def via_lines(name: str) -> Lines:
    """The lines of a proxy of this name for a message of HTTP/1.0, of HTTP/1.1 and of HTTP/2, in the order of `minor`."""
    made = [line_of(b"Via", b"%b %b" % (version, name.encode())) for version in (b"1.0", b"1.1", b"2.0")]
    return made[0], made[1], made[2]


class MarkedAnswer:
    """Stands between an upstream and an answer (see prox.http.upstream.Receiver).

    Args:
        answer: takes the head with its Via, and all the rest.
        lines: see `via_lines`.
    """

    __slots__ = ("_answer", "_lines")

    def __init__(self, answer: Answer, lines: Lines) -> None:
        self._answer = answer
        self._lines = lines

    def take_interim(self, head: ResponseHead) -> None:
        """See Receiver."""
        self._answer.take_interim(head)

    def take(self, head: ResponseHead) -> Sink:
        """See Receiver."""
        head.plain += self._lines[head.minor]
        return self._answer.take(head)

    def flush(self) -> None:
        """See Receiver."""
        self._answer.flush()
