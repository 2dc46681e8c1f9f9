"""Payloads as prox sends them, under the keys of the wire."""

from __future__ import annotations

from typing import Any

from prox.wire import HookType

ROUTE = "check:0"
_CLIENT = "192.0.2.1:50000"

REQUEST: dict[str, Any] = {
    "r": ROUTE,
    "m": "GET",
    "p": "/check",
    "q": "a=1",
    "d": "example.com",
    "ho": "example.com:8080",
    "pr": "HTTP/1.1",
    "a": _CLIENT,
    "cl": 0,
    "h": {"Accept": "*/*", "User-Agent": "prox plugin check"},
    "mp": "/*",
    "v": {"tier": "free"},
    "tg": "10.0.0.1:80",
}
BARE_REQUEST: dict[str, Any] = {
    "r": ROUTE,
    "m": "GET",
    "p": "/check",
    "d": "example.com",
    "a": _CLIENT,
    "h": {},
}
"""Only what is never left out."""
LEFT_OUT = ("q", "ho", "pr", "cl", "bd", "md", "mg", "mp", "v", "tg")
"""What may be left out of a request."""

PAYLOADS: dict[HookType, dict[str, Any]] = {
    HookType.ON_REQUEST: REQUEST,
    HookType.ON_RESPONSE: {
        "req": REQUEST,
        "resp": {"s": 200, "h": {"Content-Type": "text/html", "Server": "check"}},
    },
    HookType.ON_CONNECT: {"r": ROUTE, "d": "example.com", "a": _CLIENT, "md": "www", "mg": "a.b"},
    HookType.ON_DISCONNECT: {"r": ROUTE, "tg": "10.0.0.1:80", "a": _CLIENT, "rx": 10, "tx": 70000, "ms": 20},
}
BARE: dict[HookType, dict[str, Any]] = {
    HookType.ON_REQUEST: BARE_REQUEST,
    HookType.ON_RESPONSE: {"req": BARE_REQUEST, "resp": {"s": 200, "h": {}}},
    HookType.ON_CONNECT: {"r": ROUTE, "d": "example.com", "a": _CLIENT},
    HookType.ON_DISCONNECT: {"r": ROUTE, "a": _CLIENT, "rx": 0, "tx": 0, "ms": 0},
}

REQUESTS: dict[str, dict[str, Any]] = {
    "a GET": REQUEST,
    "a GET with next to nothing": BARE_REQUEST,
    "a POST with a body": REQUEST | {"m": "POST", "cl": 5, "bd": b"a=1&b"},
    "a PUT of unknown length": REQUEST | {"m": "PUT", "cl": -1},
    "an unusual method": REQUEST | {"m": "PROPFIND"},
    "a HTTP/1.0 request": REQUEST | {"pr": "HTTP/1.0", "h": {}},
    "a client by IPv6": REQUEST | {"a": "[2001:db8::1]:0", "d": "2001:db8::2", "ho": "[2001:db8::2]"},
    "credentials of no one": REQUEST
    | {"h": {"Authorization": "Bearer none", "Cookie": "session=none", "X-Api-Key": "none"}},
}
"""Requests as clients send them, and what is special about each."""

RESPONSES: dict[str, dict[str, Any]] = {
    f"an answer with status {status}": {"req": REQUEST, "resp": {"s": status, "h": headers}}
    for status, headers in (
        (200, {"Content-Type": "text/html", "Set-Cookie": "a=b"}),
        (204, {}),
        (304, {"Etag": '"x"'}),
        (404, {"Content-Length": "9"}),
        (503, {"Retry-After": "5"}),
    )
}
