"""`Harness`: a plugin in a thread of the test's process, with the SDK's own loop, pipes and socket around it."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from typing import Unpack

from prox.sdk.log import ForwardingHandler
from prox.sdk.plugin import Plugin
from prox.sdk.runtime import BACKGROUND_GRACE, FLUSH, GRACE

from .base import BaseHarness, HarnessOptions
from .errors import PluginTestError
from .inbox import Inbox

_END = GRACE + BACKGROUND_GRACE + FLUSH + 2


class Harness(BaseHarness):
    """Runs a plugin in this process, from entering the context to leaving it.

    A plugin may run several times, one after the other; handlers and module globals are those of the one
    `Plugin`, so a test that must begin with fresh ones takes `load(script)`. The handlers run in another thread
    than the test.

    Args:
        plugin: the plugin.
        log_level: as in `Plugin.run`: Python's `logging` from this level on is in `logs` too; None leaves it alone.
        options: `route_id`, the route that it is told of first (`None` for none), with `domain` and `path`, its
            patterns; `timeout`, seconds that each call waits at most, 5 unless given.
    """

    def __init__(
        self, plugin: Plugin, *, log_level: int | str | None = logging.INFO, **options: Unpack[HarnessOptions]
    ) -> None:
        super().__init__(**options)
        self._plugin = plugin
        self._log_level = log_level
        self._root_level = logging.root.level
        self._forwarding: ForwardingHandler | None = None
        self._stdin: int | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._failures: dict[str, BaseException] = {}

    def _begin(self) -> Inbox:
        outbox, log = self._plugin._outbox, self._plugin.log  # noqa: SLF001 - two halves of the SDK
        if outbox.started:
            raise RuntimeError("the plugin runs already")
        log._on_failure = self._failures.__setitem__  # noqa: SLF001 - the same
        if self._log_level is not None:
            self._forwarding = ForwardingHandler(outbox)
            self._root_level = logging.root.level
            logging.root.addHandler(self._forwarding)
            logging.root.setLevel(self._log_level)
        lines_in, self._stdin = os.pipe()
        stdout, lines_out = os.pipe()
        inbox = Inbox(stdout)
        self._thread = threading.Thread(
            target=self._run, args=(lines_in, lines_out), name="plugin", daemon=True
        )
        self._thread.start()
        return inbox

    def _run(self, lines_in: int, lines_out: int) -> None:
        try:
            self._plugin._serve(lines_in, lines_out, lambda _: None)  # noqa: SLF001 - two halves of the SDK
        except BaseException as error:
            self._error = error

    def _send(self, line: bytes) -> None:
        assert self._stdin is not None
        with contextlib.suppress(BrokenPipeError):  # whoever waits for the answer learns that it has ended
            os.write(self._stdin, line)

    def _end(self) -> None:
        if self._stdin is None or self._thread is None:
            return
        os.close(self._stdin)
        self._stdin = None
        self._thread.join(_END)
        self._lines.join(FLUSH)
        if self._forwarding is not None:
            logging.root.removeHandler(self._forwarding)
            logging.root.setLevel(self._root_level)
        self._plugin.log._on_failure = None  # noqa: SLF001 - two halves of the SDK
        if self._thread.is_alive():
            raise PluginTestError(
                f"the plugin goes on {_END:g} s after its stdin has ended: a handler blocks"
            )
        if self._error is not None:
            raise PluginTestError(f"the plugin has failed: {self._error!r}") from self._error

    def _why_ended(self) -> str:
        if self._thread is not None:
            self._thread.join(FLUSH)  # it closes its stdout before it has ended
        return f": {self._error!r}" if self._error is not None else ""

    def _cause(self, message: str) -> BaseException | None:
        return self._failures.get(message)
