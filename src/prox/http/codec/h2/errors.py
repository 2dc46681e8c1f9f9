"""Error codes of HTTP/2 and what is raised where a peer breaks its rules (RFC 9113 sections 5.4 and 7)."""

from __future__ import annotations

from typing import Final

NO_ERROR: Final = 0x0
PROTOCOL_ERROR: Final = 0x1
INTERNAL_ERROR: Final = 0x2
FLOW_CONTROL_ERROR: Final = 0x3
SETTINGS_TIMEOUT: Final = 0x4
STREAM_CLOSED: Final = 0x5
FRAME_SIZE_ERROR: Final = 0x6
REFUSED_STREAM: Final = 0x7
CANCEL: Final = 0x8
COMPRESSION_ERROR: Final = 0x9
CONNECT_ERROR: Final = 0xA
ENHANCE_YOUR_CALM: Final = 0xB
INADEQUATE_SECURITY: Final = 0xC
HTTP_1_1_REQUIRED: Final = 0xD

_NAMES: Final = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
]


def code_name(code: int) -> str:
    """The name of an error code as logs have it; an unknown one is its number."""
    return _NAMES[code] if 0 <= code < len(_NAMES) else hex(code)


class Http2Error(Exception):
    """What ends a connection: GOAWAY with `code` is written, then it is closed (RFC 9113 section 5.4.1).

    Attributes:
        code: the error code.
        reason: a token for counters and logs: `malformed`, `compression`, or the name of the abuse, like `rapid_reset`.
    """

    def __init__(self, code: int, message: str, reason: str = "malformed") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class StreamError(Exception):
    """What ends one stream by RST_STREAM with `code`; the connection goes on (RFC 9113 section 5.4.2).

    Attributes:
        code: the error code.
    """

    def __init__(self, message: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.code = code
