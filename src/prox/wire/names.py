"""Names, numbers and limits of the plugin protocol, as they stand on the wire."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

METHOD_CONFIGURE: Final = "configure"
METHOD_READY: Final = "ready"
METHOD_SET_TARGETS: Final = "set_targets"
METHOD_SET_SPEED: Final = "set_speed"
METHOD_LOG: Final = "log"

HOOK_ON_REQUEST: Final = "on_request"
HOOK_ON_RESPONSE: Final = "on_response"
HOOK_ON_CONNECT: Final = "on_connect"
HOOK_ON_DISCONNECT: Final = "on_disconnect"

FEATURE_HEADERS_MULTI: Final = "headers.multi"
FEATURE_RESPONSE_ALLOW: Final = "response.allow"
FEATURE_TLS_CLIENT: Final = "tls.client"
FEATURE_TRACE: Final = "trace"

FEATURES: Final = frozenset(
    {FEATURE_HEADERS_MULTI, FEATURE_RESPONSE_ALLOW, FEATURE_TLS_CLIENT, FEATURE_TRACE}
)
"""What a plugin may name in `ready` as known to it beyond the base protocol."""

ALL_ROUTES: Final = "*"
"""The `route_id` of a push that addresses every route with a balancer."""

FRAME_LIMIT: Final = 1024 * 1024
"""Bytes of one frame, its length prefix not counted."""

LINE_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of one JSON line, its line end not counted."""

BODY_LIMIT: Final = 64 * 1024
"""Bytes of a request's body that on_request is shown at most."""

LOG_LEVELS: Final = ("debug", "info", "warn", "error")


class HookType(IntEnum):
    """The number of a hook in a frame's envelope."""

    ON_REQUEST = 1
    ON_RESPONSE = 2
    ON_CONNECT = 3
    ON_DISCONNECT = 4

    @property
    def hook_name(self) -> str:
        """The name under which a plugin lists the hook in `ready`."""
        return HOOK_NAMES[self]


HOOK_NAMES: Final[dict[HookType, str]] = {
    HookType.ON_REQUEST: HOOK_ON_REQUEST,
    HookType.ON_RESPONSE: HOOK_ON_RESPONSE,
    HookType.ON_CONNECT: HOOK_ON_CONNECT,
    HookType.ON_DISCONNECT: HOOK_ON_DISCONNECT,
}

HOOK_TYPES: Final[dict[str, HookType]] = {name: hook for hook, name in HOOK_NAMES.items()}
