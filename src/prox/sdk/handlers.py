"""The types of a plugin's handlers: each may be a plain function or a coroutine function."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

from prox.wire import ConnResult

from .calls import Connection, Disconnect, Request, Response
from .pushes import Route
from .verdicts import Changes, Verdict

RequestAnswer: TypeAlias = Verdict | bool | None
ResponseAnswer: TypeAlias = Changes | None
ConnectAnswer: TypeAlias = ConnResult | bool | None

RequestHandler = TypeVar(
    "RequestHandler", bound=Callable[[Request], RequestAnswer | Awaitable[RequestAnswer]]
)
ResponseHandler = TypeVar(
    "ResponseHandler", bound=Callable[[Response], ResponseAnswer | Awaitable[ResponseAnswer]]
)
ConnectHandler = TypeVar(
    "ConnectHandler", bound=Callable[[Connection], ConnectAnswer | Awaitable[ConnectAnswer]]
)
DisconnectHandler = TypeVar("DisconnectHandler", bound=Callable[[Disconnect], Awaitable[None] | None])
ConfigureHandler = TypeVar("ConfigureHandler", bound=Callable[[Route], Awaitable[None] | None])
BackgroundTask = TypeVar("BackgroundTask", bound=Callable[[], Coroutine[Any, Any, None]])
