"""The recorded traffic of tests/vectors, ready for parametrised tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prox.wire import HOOK_TYPES, HookType

VECTORS = Path(__file__).parent.parent / "vectors"

_proxy: dict[str, Any] = json.loads((VECTORS / "proxy-to-plugin.json").read_text())
_plugin: dict[str, Any] = json.loads((VECTORS / "plugin-to-proxy.json").read_text())


def with_bytes(value: Any) -> Any:
    """Put bytes in place of `{"bin_hex": …}`."""
    match value:
        case {"bin_hex": str(digits)}:
            return bytes.fromhex(digits)
        case dict():
            return {key: with_bytes(item) for key, item in value.items()}
    return value


@dataclass(frozen=True)
class ProxyCall:
    """A call that the Go proxy made."""

    hook: HookType
    frame: bytes
    payload: dict[str, Any]


@dataclass(frozen=True)
class PluginCall:
    """A call that the Go SDK answered."""

    hook: HookType
    subject: str
    """The path or the domain that the plugin decided by."""
    call: bytes
    answer: bytes
    decoded: dict[str, Any]


PROXY_LINES: list[bytes] = [line.encode() for line in _proxy["stdin_lines"]]
PROXY_CALLS = [
    ProxyCall(HookType(call["type"]), bytes.fromhex(call["frame"]), with_bytes(call["payload"]))
    for call in _proxy["calls"]
]
PLUGIN_LINES: list[str] = _plugin["stdout_after_configure"]
PLUGIN_CALLS = [
    PluginCall(
        HOOK_TYPES[call["hook"]],
        call.get("path") or call["domain"],
        bytes.fromhex(call["call"]),
        bytes.fromhex(call["answer"]),
        with_bytes(call["decoded"]),
    )
    for call in _plugin["calls"]
]
