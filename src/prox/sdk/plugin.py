"""`Plugin`: what a plugin's author writes handlers on, pushes with, and runs."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextvars import ContextVar
from typing import Any

from prox.wire import HookType, Push, encode_line

from .endpoint import Endpoint
from .features import Feature, known_features
from .handlers import (
    BackgroundTask,
    ConfigureHandler,
    ConnectHandler,
    DisconnectHandler,
    RequestHandler,
    ResponseHandler,
)
from .hooks import Hook, make_hook
from .log import ForwardingHandler, PluginLog, dropped_logs_line
from .outbox import Outbox
from .pushes import Route, speed_push, targets_push
from .runtime import FLUSH, Runtime, end_in, take_stdio

taking: ContextVar[bool] = ContextVar("taking", default=False)
"""Whether a test is loading a plugin's script to run it by itself."""


class PluginTaken(BaseException):
    """Raised by `Plugin.run` while a test loads the script; its argument is the plugin."""


class Plugin:
    """A prox plugin.

    Register handlers with the decorators, then call `run()`. A handler is a plain function or a coroutine
    function; a plain one must be quick, because it holds up all others. There is one handler for each hook,
    and only hooks that have one are announced to prox.

    A handler that raises answers nothing: the exception is logged with its traceback, and prox does what its
    `on_error` says (refuse, unless configured otherwise). An async handler is cancelled when prox no longer
    waits for it.

    Args:
        features: names of what the plugin wants beyond the base protocol: `headers.multi`, `response.allow`, `trace`.

    Attributes:
        log: structured log of the plugin, kept by prox.
        features: as they were given.

    Raises:
        ValueError: there is no such feature.
    """

    def __init__(self, *, features: Iterable[Feature] = ()) -> None:
        self.features = known_features(features)
        self._outbox = Outbox(dropped_logs_line)
        self.log = PluginLog(self._outbox)
        self._hooks: dict[HookType, Hook] = {}
        self._on_configure: Callable[[Route], Any] | None = None
        self._background: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._ran = False

    # Handlers

    def on_request(self, handler: RequestHandler) -> RequestHandler:
        """Decide about each request of the routes that the plugin is bound to.

        The handler takes a `Request` and answers `allow(…)`, `deny(…)`, `drop()` or `fallback()`. `None` and
        `True` allow, `False` denies with 403; anything else is an error.
        """
        self._add(HookType.ON_REQUEST, handler)
        return handler

    def on_response(self, handler: ResponseHandler) -> ResponseHandler:
        """Change answers of upstreams.

        The handler takes a `Response` and answers `modify(…)`, or `None` for no change.
        """
        self._add(HookType.ON_RESPONSE, handler)
        return handler

    def on_connect(self, handler: ConnectHandler) -> ConnectHandler:
        """Decide about each TLS connection that is to be relayed unread.

        The handler takes a `Connection`; `None` and `True` let it pass, `False` closes it.
        """
        self._add(HookType.ON_CONNECT, handler)
        return handler

    def on_disconnect(self, handler: DisconnectHandler) -> DisconnectHandler:
        """Learn of the end of each exchange and of each relayed connection; the handler takes a `Disconnect`."""
        self._add(HookType.ON_DISCONNECT, handler)
        return handler

    def on_configure(self, handler: ConfigureHandler) -> ConfigureHandler:
        """Learn of each bound `Route`, at the start and after each reload of prox's configuration.

        What the handler raises refuses the route until a later `configure` of it succeeds. Pushes that it
        makes follow its acknowledgement; those of a handler that raised are void.
        """
        if self._on_configure is not None:
            raise TypeError("on_configure has a handler already")
        self._on_configure = handler
        return handler

    def background(self, function: BackgroundTask) -> BackgroundTask:
        """Run a coroutine function beside the hooks, from the first `configure` on; cancelled at the end."""
        self._background.append(function)
        return function

    def _add(self, hook: HookType, handler: Callable[[Any], Any]) -> None:
        if hook in self._hooks:
            raise TypeError(f"{hook.hook_name} has a handler already")
        self._hooks[hook] = make_hook(hook, handler, self.features)

    # Pushes

    def set_targets(
        self,
        route_id: str | None = None,
        targets: Iterable[str] | None = None,
        *,
        action: str | None = None,
        all_routes: bool = False,
        groups: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        """Replace the targets of routes; may be called from any task and any thread.

        Args:
            route_id: the one route; or
            action: every route that uses this action; or
            all_routes: every route with a balancer.
            targets: the whole new list of `host:port`; empty for none.
            groups: in place of `targets`, the lists by key; all keys that are not in it go.

        Raises:
            TypeError: not exactly one address, or not exactly one of `targets` and `groups`.
        """
        self._push(targets_push(route_id, targets, action=action, all_routes=all_routes, groups=groups))

    def set_speed(
        self,
        route_id: str | None = None,
        *,
        action: str | None = None,
        all_routes: bool = False,
        download_mbps: float = 0,
        upload_mbps: float = 0,
        group_key: str = "",
    ) -> None:
        """Set the bandwidth caps for new connections of routes; may be called from any task and any thread.

        Args:
            route_id: the one route; or
            action: every route that uses this action; or
            all_routes: every route with a balancer.
            download_mbps: megabits a second towards the client; 0 for no cap.
            upload_mbps: the same from the client.
            group_key: the group that shares one cap; its open connections get the new rates too.

        Raises:
            TypeError: not exactly one address.
            ValueError: a speed is negative or not finite.
        """
        self._push(
            speed_push(
                route_id,
                action=action,
                all_routes=all_routes,
                download_mbps=download_mbps,
                upload_mbps=upload_mbps,
                group_key=group_key,
            )
        )

    def _push(self, push: Push) -> None:
        self._outbox.push(encode_line(push))

    # Running

    def run(self, *, log_level: int | str | None = logging.INFO) -> None:
        """Serve prox until it closes stdin (or sends SIGTERM), then return.

        From here on stdout belongs to the protocol: what the plugin prints goes to stderr, which prox logs
        too. The process ends 4 seconds after the end of stdin at the latest, whatever still runs in it.

        Args:
            log_level: records of Python's `logging` from this level on are forwarded to prox; `None` leaves
                `logging` alone.

        Raises:
            RuntimeError: the plugin has run already.
            OSError: the socket can't be made.
        """
        if taking.get():
            raise PluginTaken(self)
        if self._ran:
            raise RuntimeError("a plugin runs once")
        self._ran = True
        lines_in, lines_out = take_stdio()
        if log_level is not None:
            root = logging.getLogger()
            root.addHandler(ForwardingHandler(self._outbox))
            root.setLevel(log_level)
        self._serve(lines_in, lines_out, end_in)

    def _serve(self, lines_in: int, lines_out: int, end_in: Callable[[float], None]) -> None:
        """Serve prox on two descriptors, which are closed at its end."""
        try:
            endpoint = Endpoint.open() if self._hooks else None
        except OSError:
            os.close(lines_in)
            os.close(lines_out)
            raise
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                try:
                    runner.run(self._main(lines_in, lines_out, endpoint, end_in))
                finally:  # before the runner waits for the loop's threads, which may be stuck
                    if endpoint:
                        endpoint.close()
        finally:
            self._outbox.close(FLUSH)

    async def _main(
        self, lines_in: int, lines_out: int, endpoint: Endpoint | None, end_in: Callable[[float], None]
    ) -> None:
        runtime = Runtime(
            hooks=list(self._hooks.values()),
            features=self.features,
            on_configure=self._on_configure,
            background=self._background,
            outbox=self._outbox,
            log=self.log,
            endpoint=endpoint,
            end_in=end_in,
        )
        await runtime.main(lines_in, lines_out)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The event loop of uvloop where that is installed. It is never required."""
    try:
        return importlib.import_module("uvloop").new_event_loop  # type: ignore[no-any-return] # imported by name
    except ImportError:
        return None
