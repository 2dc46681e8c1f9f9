"""The plugin that is checked: how it is started, one process that checks share, and how it is asked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from prox.authoring.running import RunningPlugin
from prox.sdk.testing import PluginTestError
from prox.sdk.testing.frames import FrameConnection
from prox.wire import ConfigureParams, HookType, MatchInfo, Request, encode_line

from .model import CheckFailedError, CheckSkippedError
from .packing import call, pack
from .samples import PAYLOADS, ROUTE

_DYING = 0.2
"""Seconds in which a plugin exits after its connections and pipes were closed by that."""
_ANSWERED = (HookType.ON_REQUEST, HookType.ON_RESPONSE, HookType.ON_CONNECT)


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that are waited for what must come, and for what must not.

    Attributes:
        start: for the answer to the first `configure`.
        ready: for `ready`, or a push, after that.
        answer: for any answer later.
        eof: for the end after that of stdin.
        sigterm: for the end after SIGTERM.
        quiet: in which nothing must come.
    """

    start: float = 10
    ready: float = 5
    answer: float = 5
    eof: float = 5
    sigterm: float = 2
    quiet: float = 0.2


class Subject:
    """A plugin under check.

    Args:
        command: the program and its arguments.
        env: variables for it.
        patience: how long is waited.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.patience = patience or Patience()
        self.lines: list[list[bytes]] = []
        """What each process that has ended wrote to its stdout."""
        self._command = list(command)
        self._env = dict(env or {})
        self._shared: RunningPlugin | None = None

    # Processes

    @contextlib.contextmanager
    def fresh(self, route_id: str | None = ROUTE, *, keep: bool = True) -> Iterator[RunningPlugin]:
        """A process of its own, told of one route unless that is None; ended by whoever takes it, or killed.

        What it writes is kept for the checks of output, unless `keep` says otherwise.
        """
        plugin = self._start(route_id)
        try:
            yield plugin
        finally:
            self._end(plugin)
            if not keep:
                self.lines.pop()

    @property
    def plugin(self) -> RunningPlugin:
        """The process that checks share; another one where that has ended."""
        if self._shared is not None and not self._shared.running:
            self.discard()
        if self._shared is None:
            self._shared = self._start(ROUTE)
        return self._shared

    @property
    def fallen(self) -> str:
        """How the shared process has ended; empty where it runs or there is none."""
        shared = self._shared
        if shared is None or shared.running:
            return ""
        return ended(shared)

    def discard(self) -> None:
        """End the shared process: the next check gets another one."""
        shared, self._shared = self._shared, None
        if shared is not None:
            self._end(shared)

    def _start(self, route_id: str | None) -> RunningPlugin:
        plugin = RunningPlugin(
            self._command, env=self._env, route_id=route_id, path="/*", timeout=self.patience.start
        )
        plugin.__enter__()
        plugin.timeout = self.patience.answer
        return plugin

    def _end(self, plugin: RunningPlugin) -> None:
        with contextlib.suppress(PluginTestError):
            plugin.end()
        self.lines.append(plugin.inbox.lines)

    # Lines

    def configure(self, plugin: RunningPlugin, line: bytes = b"", *, bytewise: bool = False) -> None:
        """Send a `configure`, or another line that must be answered once, and wait for its answer."""
        data = line or configure_line()
        answers = plugin.inbox.answers
        before = len(answers)
        if bytewise:
            plugin.send_bytewise(data)
        else:
            plugin.send(data)
        patience = self.patience.answer if plugin.inbox.lines else self.patience.start
        if plugin.until(lambda: len(answers) > before, patience):
            return
        if plugin.exited(_DYING):
            raise CheckFailedError(ended(plugin))
        if plugin.inbox.ended:
            raise CheckFailedError("the plugin has closed its stdout, and runs")
        shown = data.decode("utf-8", "replace").rstrip()
        shown = shown if len(shown) < 300 else f"{shown[:300]}…"
        raise CheckFailedError(f"no answer within {patience:g} s to\n{shown}")

    # Hooks

    def serves(self, hook: HookType) -> bool:
        """Whether it serves a hook; skips the check where it has none."""
        return hook.hook_name in self.ready_hooks

    @property
    def ready_hooks(self) -> frozenset[str]:
        """Names of the hooks that it serves; skips the check where it has none."""
        plugin = self.plugin
        inbox = plugin.inbox
        plugin.until(lambda: inbox.ready or inbox.pushes, self.patience.ready)
        if inbox.ready is None:
            raise CheckSkippedError("the plugin serves no hooks")
        return frozenset(inbox.ready.hooks or ())

    @property
    def hook(self) -> HookType:
        """A hook that it serves and that is answered; skips the check where there is none."""
        for hook in _ANSWERED:
            if self.serves(hook):
                return hook
        raise CheckSkippedError("the plugin serves no hook that is answered")

    def need(self, hook: HookType) -> None:
        """Skip the check where the plugin does not serve this hook."""
        if not self.serves(hook):
            raise CheckSkippedError(f"the plugin does not serve {hook.hook_name}")

    def frame(self, hook: HookType | None = None, payload: Mapping[str, Any] | None = None) -> bytes:
        """The frame of a call as prox writes it."""
        hook = hook or self.hook
        return call(hook, pack(payload or PAYLOADS[hook]))

    @contextlib.contextmanager
    def connection(self) -> Iterator[FrameConnection]:
        """A connection to the shared process."""
        try:
            connection = self.plugin.connection()
        except OSError as error:
            if self.plugin.exited(self.patience.quiet):  # its socket goes first
                raise CheckFailedError(ended(self.plugin)) from error
            raise CheckFailedError(f"can't connect to {self.plugin.ready().socket}: {error}") from error
        try:
            yield connection
        finally:
            connection.close()

    def answer(self, connection: FrameConnection, what: str = "a call") -> bytes:
        """The answer that must come on a connection, without its length prefix."""
        try:
            return connection.answer()
        except TimeoutError:
            raise CheckFailedError(f"{what} is not answered within {self.patience.answer:g} s") from None
        except EOFError as error:
            raise CheckFailedError(f"{what} is not answered: {error}{self._said()}") from None

    def ask(self, frame: bytes, what: str = "a call") -> bytes:
        """Send a frame on a new connection: the answer that must come."""
        with self.connection() as connection:
            self.send(connection, frame)
            return self.answer(connection, what)

    def send(self, connection: FrameConnection, data: bytes) -> None:
        """Send bytes, also where the plugin does not want them any more: its answer tells."""
        with contextlib.suppress(ConnectionError):
            connection.send(data)

    def still_serves(self, after: str) -> None:
        """A new connection must be served, whatever was done to another one."""
        frame = self.frame()
        try:
            self.ask(frame)
        except CheckFailedError as error:
            raise CheckFailedError(f"after {after}: {error}") from None

    def survives(self, what: str) -> None:
        """New connections are served, and the process does not end a moment later either."""
        self.still_serves(what)
        if self.plugin.exited(self.patience.quiet):
            raise CheckFailedError(f"after {what}: {ended(self.plugin)}")

    def same_answer(self, send: Callable[[FrameConnection], None], what: str) -> None:
        """What is sent must be answered as the plain call is, unless that is answered differently each time."""
        plain = self.frame()
        before = decoded(self.ask(plain))
        with self.connection() as connection:
            send(connection)
            got = decoded(self.answer(connection, what))
        if got != before == decoded(self.ask(plain)):
            raise CheckFailedError(f"{what} is answered with {got!r}, and as prox writes it with {before!r}")

    def _said(self) -> str:
        """The plugin's last words, for a message about a connection that it has closed."""
        plugin = self._shared
        if plugin is None:
            return ""
        if plugin.exited(_DYING):
            return f"; {ended(plugin)}"
        errors = [record for record in plugin.logs if record.level == "error"][-1:]
        logged = "".join(f"\nit logged: {r.message} {r.fields.get('error', '')}".rstrip() for r in errors)
        stderr = plugin.stderr.rstrip().splitlines()[-1:]
        return logged + "".join(f"\nits stderr ends with: {line}" for line in stderr)


def ended(plugin: RunningPlugin) -> str:
    """That a plugin has ended, and its last words."""
    return f"the plugin has ended{plugin.last_words()}".rstrip()


def configure_line(route_id: str = ROUTE, *, domain: str = "", path: str = "/*") -> bytes:
    """A `configure` as prox writes it."""
    match = MatchInfo(domain, path) if domain or path else None
    return encode_line(Request("configure", ConfigureParams(route_id, match)))


def decoded(body: bytes) -> Any:
    """What an answer holds."""
    try:
        return msgspec.msgpack.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CheckFailedError(f"the answer is no msgpack: {error}: {body[:80].hex(' ')}") from None
