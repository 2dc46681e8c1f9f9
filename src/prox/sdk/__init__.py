"""For authors of plugins: a program that decides about requests, changes answers and pushes targets.

    from prox.sdk import Plugin, Request, Verdict

    plugin = Plugin()

    @plugin.on_request
    async def guard(request: Request) -> Verdict:
        if request.headers.get("authorization") != "Bearer secret":
            return request.deny(401, "who are you?")
        return request.allow(headers={"X-User": "u1"})

    plugin.run()

Needs nothing but msgspec beside Python, and uses uvloop where it is installed.
"""

from .calls import Connection, Disconnect, Request, Response
from .headers import Headers
from .log import PluginLog
from .plugin import Plugin
from .pushes import Route
from .tracing import Trace
from .verdicts import Changes, Verdict, allow, deny, drop, fallback, modify

__all__ = [
    "Changes",
    "Connection",
    "Disconnect",
    "Headers",
    "Plugin",
    "PluginLog",
    "Request",
    "Response",
    "Route",
    "Trace",
    "Verdict",
    "allow",
    "deny",
    "drop",
    "fallback",
    "modify",
]
