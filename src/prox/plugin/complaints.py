"""Warnings about one plugin, so many of a kind in a time: a plugin that misbehaves must not flood the log.

Those above the limit are counted, and the last of them is told with their number when the time is over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final

from prox.observe.event import Event

_log = logging.getLogger("prox.plugin")
_BURST: Final = 10
"""Warnings of a kind that are written in a window."""
_WINDOW: Final = 10.0
"""Seconds."""
_NONE: Final[dict[str, object]] = {}


class _Kind:
    """What was said of one kind in the present window; `text` and `values` are the last that was left out."""

    __slots__ = ("began", "left_out", "text", "values", "written")

    def __init__(self, began: float) -> None:
        self.began = began
        self.written = self.left_out = 0
        self.text = ""
        self.values: Mapping[str, object] = _NONE


class Complaints:
    """Logs warnings with a plugin's name as a field.

    Args:
        name: of the plugin.
        window: seconds in which so many warnings of a kind are written.
        clock: gives the time in seconds.
    """

    def __init__(self, name: str, *, window: float = _WINDOW, clock: Callable[[], float] = monotonic) -> None:
        self.name = name
        self._window = window
        self._clock = clock
        self._kinds: dict[str, _Kind] = {}  # as many as there are texts in the code: plugins choose none

    def warn(self, text: str, *args: object) -> None:
        """Log a warning, `text % args`; the same `text` is the same kind."""
        self.tell(text, text % args if args else text, _NONE)

    def tell(self, kind: str, text: str, values: Mapping[str, object]) -> None:
        """Log a warning with values beside it. There must be few kinds, which no plugin and no client chooses."""
        now = self._clock()
        found = self._kinds.get(kind)
        if found is None or now - found.began >= self._window:
            if found is not None:
                self._sum_up(found)
            found = self._kinds[kind] = _Kind(now)
        if found.written < _BURST:
            found.written += 1
            self._log(text, values)
            return
        found.left_out += 1
        found.text, found.values = text, values
        if found.left_out == 1:
            self._sum_up_later(found, found.began + self._window - now)

    def _sum_up_later(self, kind: _Kind, seconds: float) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # the next warning of the kind sums up
            return
        loop.call_later(seconds, self._sum_up, kind)

    def _sum_up(self, kind: _Kind) -> None:
        count, kind.left_out = kind.left_out, 0
        if count:
            more = f", and {count - 1} more like this in the last {self._window:g} s" if count > 1 else ""
            self._log(kind.text + more, kind.values)

    def _log(self, text: str, values: Mapping[str, object]) -> None:
        _log.warning(Event(text, {"plugin": self.name, **values}))
