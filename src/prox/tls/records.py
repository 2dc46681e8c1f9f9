"""Reading from TLS by the record, and no further than there is something to read.

OpenSSL gives no more than one record at a time, 16 KiB at most, whatever it is asked for. uvloop asks for 256 KiB, so Python
makes room for as much, for each record, and gives the rest of it back: where blocks of that size are mapped by themselves,
that is three fourths of what an upload costs.

uvloop reads until OpenSSL says that it needs more, which costs as much as the reading of a small request did (5.6 µs both
together, 1.8 this way). Where nothing has come in and nothing is left, what it would say is known.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

RECORD: Final = 16384
"""Bytes of plain text that a record holds at most (RFC 8446, section 5.1)."""


class RecordObject(ssl.SSLObject):
    """A TLS object that makes room for a record."""

    _incoming: ssl.MemoryBIO
    _sslobj: Any
    _ending = False
    """One of both ends has said that it closes: only OpenSSL knows what to tell then."""

    @classmethod
    def _create(cls, incoming: ssl.MemoryBIO, *args: Any, **more: Any) -> Self:
        made: Self = super()._create(incoming, *args, **more)  # type: ignore[misc] # what SSLContext.wrap_bio calls
        made._incoming = incoming
        return made

    def read(self, len: int = RECORD, buffer: WriteableBuffer | None = None) -> bytes:  # noqa: A002 - as in ssl
        """See ssl.SSLObject."""
        incoming, tls = self._incoming, self._sslobj
        if not (incoming.pending or self._ending or incoming.eof or tls.pending()):
            raise ssl.SSLWantReadError
        size = len if len < RECORD else RECORD  # noqa: FURB136 - no call, at every read
        got: bytes = tls.read(size) if buffer is None else tls.read(size, buffer)
        if not got:
            self._ending = True
        return got

    def unwrap(self) -> None:
        """See ssl.SSLObject."""
        self._ending = True
        super().unwrap()
