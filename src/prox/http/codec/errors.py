"""What a peer did wrong, with the answer that its fault deserves."""

from __future__ import annotations


class BadMessageError(Exception):
    """A message that RFC 9110 and 9112 tell a recipient to refuse.

    Attributes:
        status: what a server answers (400, 413, 414, 431, 501, 505); for an upstream's message it is always
            502 to the client, whatever this says.
        reason: the token of the access log.
    """

    def __init__(self, message: str, status: int = 400, reason: str = "malformed") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
