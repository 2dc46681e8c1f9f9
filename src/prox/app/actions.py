"""From configured actions to those that serve: one for each, however many routes of a service name it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TypeAlias

from prox.config import model
from prox.http.negotiation import ALWAYS, NEVER, OFFERED, PROTOCOLS
from prox.http.pool import OriginSettings, Pools
from prox.http.secure import TlsSettings
from prox.observe.counters import Counters
from prox.proxy.actions.drop import DropAction
from prox.proxy.actions.passing import PassAction, PassSettings
from prox.proxy.actions.proxy import ProxyAction
from prox.proxy.actions.queued import Queue, QueuedAction
from prox.proxy.actions.serve import ServeAction
from prox.proxy.actions.static import StaticAction
from prox.proxy.client import ClientAddresses
from prox.proxy.route import Action
from prox.tls.client import ClientContexts, ClientFiles, TlsFileError

from .errors import StartError

ActionKey: TypeAlias = tuple[object, ...]
"""What an action without a name is over reloads: its route, and which fallback it is there."""


class Actions:
    """The actions of one service.

    Attributes:
        is_trusted: whether an address is a trusted proxy's.
        files: what was read to make them.
        tell_clients: any of them tells its upstreams whose connection it is.
    """

    def __init__(
        self,
        service: model.Service,
        pools: Pools,
        counters: Counters,
        contexts: ClientContexts,
        queue: Callable[[model.ProxyAction | model.PassAction, ActionKey], Queue | None],
    ) -> None:
        tuning = service.config
        self._settings = OriginSettings(
            connect_timeout=tuning.dial_timeout,
            response_header_timeout=tuning.response_header_timeout,
            idle_timeout=tuning.idle_timeout,
            keep_alive=tuning.keep_alive,
            max_header_bytes=tuning.max_response_header_bytes,
            max_idle=tuning.max_idle_conns_per_host,
            max_idle_in_all=tuning.max_idle_conns,
            h2_read_idle_timeout=tuning.h2_read_idle_timeout,
            h2_ping_timeout=tuning.h2_ping_timeout,
        )
        self._via = tuning.via
        self._relay_idle_timeout = tuning.relay_idle_timeout
        self._pools = pools
        self._contexts = contexts
        self._handshake_timeout = tuning.tls_handshake_timeout
        self._queue = queue
        self._counters = counters
        self.is_trusted = ClientAddresses(service.trusted_proxies).is_trusted
        self._made: dict[int, Action] = {}  # by identity: the configuration outlives this
        self.files: set[Path] = set()
        self.tell_clients = False

    def get(self, config: model.Action, key: ActionKey) -> Action:
        """The action of a configured one.

        Args:
            config: the action.
            key: what it is over reloads where it has no name.

        Raises:
            StartError: it can't be served.
            OSError: a file can't be read.
        """
        action = self._made.get(id(config))
        if action is None:
            action = self._made[id(config)] = self._make(config, key)
        return action

    def _make(self, config: model.Action, key: ActionKey) -> Action:
        match config:
            case model.ProxyAction():
                return self._proxy(config, key)
            case model.StaticAction():
                try:
                    action = StaticAction(config)
                except ValueError as error:
                    raise StartError(f"the body of a static action: {error}") from error
                if action.source:
                    self.files.add(Path(action.source))
                return action
            case model.ServeAction():
                return ServeAction(config)
            case model.DropAction():
                return DropAction()
            case model.PassAction():
                return self._pass(config, key)

    def _pass(self, config: model.PassAction, key: ActionKey) -> Action:
        if config.send_proxy is not None:
            self.tell_clients = True
        settings = PassSettings(
            self._settings.connect_timeout if config.timeout is None else config.timeout,
            self._settings.keep_alive,
            config.send_proxy,
        )
        return PassAction(config.upstream, settings, self._queue(config, key))

    def _proxy(self, config: model.ProxyAction, key: ActionKey) -> Action:
        settings = self._settings
        if config.timeout is not None:
            settings = replace(settings, connect_timeout=config.timeout)
        if config.send_proxy is not None:
            self.tell_clients = True
            settings = replace(settings, max_idle=0)  # a connection that names a client is nobody else's
        fallback = config.fallback
        action = ProxyAction(
            config.upstream,
            self._pools,
            settings,
            self._tls(config),
            proto=config.proto,
            headers=config.headers,
            fallback=None if fallback is None else self.get(fallback, (*key, "fallback")),
            stream=config.stream,
            via=self._via,
            is_trusted=self.is_trusted,
            failed=self._counters.upstream_failed,
            relay_idle_timeout=self._relay_idle_timeout,
            send_proxy=config.send_proxy or 0,
        )
        queue = self._queue(config, key)
        return action if queue is None else QueuedAction(action, queue)

    def _tls(self, config: model.ProxyAction) -> Callable[[str], TlsSettings]:
        """How the action's TLS upstreams are reached: made now where there is one, later where a template may become one."""
        wanted = config.tls
        files = ClientFiles() if wanted is None else ClientFiles(wanted.ca, wanted.cert, wanted.key)

        @cache
        def settings(http2: str) -> TlsSettings:
            return TlsSettings(
                self._contexts.get(files, PROTOCOLS[http2]),
                None if wanted is None else wanted.server_name,
                self._handshake_timeout,
            )

        if wanted is not None or config.upstream.startswith(("https://", "wss://")):
            try:
                settings(OFFERED if config.proto is None else ALWAYS if config.proto == "h2" else NEVER)
                settings(NEVER)  # for tunnels
            except TlsFileError as error:
                where = f'action "{config.name}"' if config.name else "a proxy action"
                raise StartError(f'{where}: "tls.{error.key}": {error}') from error
        return settings
