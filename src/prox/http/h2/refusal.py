"""The answer to a request that is not worth an exchange."""

from __future__ import annotations

from prox.http.codec.errors import BadMessageError
from prox.http.codec.h2.errors import NO_ERROR
from prox.http.codec.h2.session import Session
from prox.http.dates import http_date

from .heads import made_fields


def refuse(session: Session, stream: int, error: BadMessageError, *, without_body: bool, end: bool) -> int:
    """Answer with the error's status and text, and end the stream on both sides.

    Args:
        session: of the connection.
        stream: the request's.
        error: what is wrong with it.
        without_body: it is a HEAD.
        end: the client has ended its side.

    Returns:
        Bytes of the body: none where the client's window is shut.
    """
    text = f"{error}\n".encode()
    said = made_fields(
        error.status,
        [
            (b"date", http_date()),
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
        ],
    )
    told = b"" if without_body else text
    if len(told) > session.sendable(stream):
        told = b""
        said.pop()
    session.send_headers(stream, said, not told)
    if told:
        session.send_data(stream, told, True)
    if not end:
        session.reset(stream, NO_ERROR)
    return len(told)
