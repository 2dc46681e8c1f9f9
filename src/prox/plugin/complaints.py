"""Warnings about one plugin, at most so many a second: a plugin that misbehaves must not flood the log."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Final

_log = logging.getLogger("prox.plugin")
_BURST: Final = 20
_WINDOW: Final = 1.0


class Complaints:
    """Logs warnings tagged with a plugin's name; those above the limit are counted and told of later."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._window = 0.0
        self._written = self._left_out = 0

    def warn(self, text: str, *args: object) -> None:
        """Log a warning, `text % args`."""
        now = monotonic()
        if now - self._window >= _WINDOW:
            if self._left_out:
                _log.warning("plugin %s: %d more warnings were left out", self.name, self._left_out)
            self._window, self._written, self._left_out = now, 0, 0
        if self._written >= _BURST:
            self._left_out += 1
            return
        self._written += 1
        _log.warning("plugin %s: " + text, self.name, *args)
