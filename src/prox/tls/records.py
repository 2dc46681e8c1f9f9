"""Reading from TLS by the record.

OpenSSL gives no more than one record at a time, 16 KiB at most, whatever it is asked for. uvloop asks for 256 KiB, so Python
makes room for as much, for each record, and gives the rest of it back: where blocks of that size are mapped by themselves,
that is three fourths of what an upload costs.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

RECORD: Final = 16384
"""Bytes of plain text that a record holds at most (RFC 8446, section 5.1)."""


class RecordObject(ssl.SSLObject):
    """A TLS object that makes room for a record."""

    def read(self, len: int = RECORD, buffer: WriteableBuffer | None = None) -> bytes:  # noqa: A002 - as in ssl
        """See ssl.SSLObject."""
        return super().read(min(len, RECORD), buffer)
