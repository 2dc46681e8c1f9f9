"""How the C library hands out memory where TLS is spoken.

uvloop gives each TLS connection a buffer of 256 KiB, of which it uses a page or two. Mapped by itself, the rest of it costs
nothing. But once any large block was given back, glibc takes blocks of that size from its heap, among memory that was in
use: an idle connection was measured at 49 KiB then, and at 27 KiB with blocks of that size always mapped.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prox.config import model

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_MAPPED = 256 * 1024
"""Bytes from which a block is mapped by itself. What is read from a socket at once is smaller."""

_KEPT = 4 * 1024 * 1024
"""Bytes at the heap's end that are kept: glibc would give them back, and ask for them again, at every large answer."""


def settle(config: model.Config) -> None:
    """Keep the buffers of TLS connections apart, where a service has TLS."""
    if not any(service.tls for service in config.services.values()):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library than glibc
        return
    mallopt(_M_MMAP_THRESHOLD, _MAPPED)
    mallopt(_M_TRIM_THRESHOLD, _KEPT)
