"""A guard before any ASGI application: its requests are shown to plugins, as prox does it, without prox between.

What the plugins do not allow, the application never sees; neither does it while a plugin can't be asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import quote

from prox.plugin import Binding, HookError, Manager, RequestNotEncodable
from prox.wire import AuthorizeResult, HeaderChanges, RequestInfo, decode_text

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

ROUTE = "app:0"


class Guarded:
    """An ASGI application that asks plugins before it calls another one.

    They run from the server's startup to its shutdown: the server must speak ASGI's lifespan protocol, else all is refused.
    """

    def __init__(self, application: Application, *bindings: Binding) -> None:
        self._application = application
        self.manager = Manager()
        self.manager.configure(bindings, {})

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """What a server calls."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        try:
            verdict = await self.manager.on_request(ROUTE, shown(scope))
        except HookError:  # who is asked is in the log; the client learns no more than from prox
            verdict = AuthorizeResult(allow=False, status=503, body="Service Unavailable\n")
        except RequestNotEncodable as error:
            verdict = AuthorizeResult(allow=False, status=error.status, body="Bad Request\n")
        if verdict.allow:
            await self._application(self._passed(scope, verdict), receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await deny(verdict, send)

    async def _live(self, scope: Message, receive: Receive, send: Send) -> None:
        """The plugins start before the application and stop after it, whether it takes part in the lifespan or not."""
        begun = False

        async def received() -> Message:
            nonlocal begun
            message = await receive()
            if message["type"] == "lifespan.startup":
                begun = True
                await self.manager.start()
            return message

        async def sent(message: Message) -> None:
            if message["type"] != "lifespan.startup.complete":  # the end, or a start that failed
                await self.manager.stop()
            await send(message)

        try:
            await self._application(scope, received, sent)
        except Exception:
            if begun:
                raise
        if not begun:
            await received()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await sent({"type": "lifespan.shutdown.complete"})

    def _passed(self, scope: Message, verdict: AuthorizeResult) -> Message:
        """What the application is shown: nobody but a plugin sets the headers that belong to it."""
        given = encoded(verdict.headers)
        taken = self.manager.index.own_headers(ROUTE) | {folded(name) for name in verdict.headers}
        if verdict.changes is not None:  # what is to have several values, or none
            taken |= {folded(name) for name in (*verdict.changes.remove, *verdict.changes.set)}
            given += several(verdict.changes)
        kept = [(name, value) for name, value in scope["headers"] if name.replace(b"_", b"-") not in taken]
        passed = {**scope, "headers": [*kept, *given]}
        if verdict.path:
            passed |= {"path": verdict.path, "raw_path": quote(verdict.path).encode()}
        if verdict.strip_query:
            passed["query_string"] = b""
        return passed


def shown(scope: Message) -> RequestInfo:
    """The request as plugins are shown it: of each header the first value, and no body."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        canonical = "-".join(part.capitalize() for part in name.decode("latin-1").split("-"))
        headers.setdefault(canonical, decode_text(value))
    host = headers.pop("Host", "")
    client, port = scope.get("client") or ("", 0)
    return RequestInfo(
        route_id=ROUTE,
        method=scope.get("method", "GET"),
        path=scope["path"],
        query=scope["query_string"].decode("latin-1"),
        domain=host.rpartition(":")[0] or host,
        host=host,
        proto=f"HTTP/{scope['http_version']}",
        remote_addr=f"{client}:{port}",
        headers=headers,
    )


async def deny(verdict: AuthorizeResult, send: Send) -> None:
    """Answer in place of the application; a plugin's `drop` and `fallback` are denials here."""
    status = verdict.status or (503 if verdict.fallback else 403)
    body = verdict.body.encode() if isinstance(verdict.body, str) else verdict.body
    headers = [*encoded(verdict.headers), *several(verdict.changes)]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def folded(name: str) -> bytes:
    """A header's name as it is compared."""
    return name.lower().replace("_", "-").encode()


def several(changes: HeaderChanges | None) -> list[tuple[bytes, bytes]]:
    """What plugins set to several values, and what they append."""
    if changes is None:
        return []
    return [
        (name.lower().encode(), value.encode())
        for name, values in (*changes.set.items(), *changes.append.items())
        for value in values
    ]


def encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers in ASGI's form."""
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]
