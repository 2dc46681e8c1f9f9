"""What a plugin's processes say on stdout, held to the protocol: answers, `ready`, pushes, log records.

All of it is kept with the process that said it. A line that is none, or that comes at the wrong time, is logged
with the plugin's name and changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol

from prox.tasks import spawn
from prox.wire import (
    FEATURES,
    HOOK_TYPES,
    METHOD_LOG,
    METHOD_READY,
    METHOD_SET_SPEED,
    METHOD_SET_TARGETS,
    DecodeError,
    DisconnectInfo,
    OversizeLine,
    Push,
    PushParams,
    Response,
    decode_line,
)

from .caller import Caller
from .complaints import Complaints
from .life import Life
from .logline import log_from_plugin
from .model import Delays, PluginSpec
from .notifications import NotificationQueue
from .process import printable

_log = logging.getLogger("prox.plugin")

_SHOWN: Final = 120
"""Bytes of a line that a warning shows."""


class Speaker(Protocol):
    """The plugin whose processes speak.

    Attributes:
        spec: its settings.
        complaints: writes warnings about it.
        notifications: what its process in charge is told of ends.
    """

    spec: PluginSpec
    complaints: Complaints
    notifications: NotificationQueue[DisconnectInfo]

    def heard(self, life: Life) -> None:
        """Something is known of a process that was not before."""

    def pushed(self, life: Life, push: Push) -> None:
        """A process has sent `set_targets` or `set_speed`."""


class Hearing:
    """Takes the lines of all processes of one plugin."""

    def __init__(self, speaker: Speaker, delays: Delays) -> None:
        self._speaker = speaker
        self._delays = delays

    def line(self, life: Life, line: bytes | OversizeLine) -> None:
        """Take a line."""
        speaker = self._speaker
        warn = speaker.complaints.warn
        if isinstance(line, OversizeLine):
            warn("a line above %d bytes is dropped: %s …", line.limit, _shown(line.head))
            return
        try:
            message = decode_line(line)
        except DecodeError as error:
            warn("%s: %s", error, _shown(line))
            return
        if isinstance(message, Response):
            self._acknowledged(life, message)
        elif message.method == METHOD_READY:
            self._ready(life, message.params)
        elif message.method in {METHOD_SET_TARGETS, METHOD_SET_SPEED}:
            if not life.pushed:
                life.pushed = True
                speaker.heard(life)
            speaker.pushed(life, message)
        elif message.method == METHOD_LOG:
            log_from_plugin(speaker.spec.name, message.params)
        else:
            warn("unknown method %r", message.method)

    def _acknowledged(self, life: Life, answer: Response) -> None:
        speaker = self._speaker
        route = life.acknowledged(answer.error)
        if route is None:
            speaker.complaints.warn(
                "an answer, but no configure is open: %s", printable(str(answer.error or answer.result))
            )
            return
        if answer.error:
            _log.error(
                "plugin %s does not accept route %s, it is refused: %s",
                speaker.spec.name,
                route[0] or "(none)",
                printable(answer.error),
            )
        if life.outstanding:
            return
        speaker.heard(life)
        if life.hooks is None and not life.grace_over:
            asyncio.get_running_loop().call_later(self._delays.ready_grace, self._grace_over, life)

    def _grace_over(self, life: Life) -> None:
        life.grace_over = True
        self._speaker.heard(life)

    def _ready(self, life: Life, params: PushParams) -> None:
        spec, warn = self._speaker.spec, self._speaker.complaints.warn
        named = frozenset(params.hooks or ())
        unknown = named - HOOK_TYPES.keys()
        hooks = named - unknown
        said = frozenset(params.features or ())
        features = said & FEATURES
        if life.hooks == hooks and life.socket == params.socket and life.features == features:
            return
        if said != features:
            _log.debug(
                "plugin %s: its features %s are not known and ignored",
                spec.name,
                printable(", ".join(sorted(said - features))),
            )
        if unknown:
            warn("ready names unknown hooks: %s", printable(", ".join(sorted(unknown))))
        if hooks and not params.socket:
            warn("ready names hooks and no socket: they can't be called")
        must = spec.hooks
        if must is not None and hooks != frozenset(must):
            warn(
                "its setting hooks is [%s], its ready says [%s]: the setting decides",
                ", ".join(sorted(must)),
                ", ".join(sorted(hooks)),
            )
        self._new_caller(life, params.socket)
        life.hooks = hooks
        life.features = features
        if life.caller is not None:
            life.caller.features = features
        self._speaker.heard(life)

    def _new_caller(self, life: Life, socket: str) -> None:
        if socket == life.socket and life.caller is not None:
            return
        before, life.caller, life.socket = life.caller, None, socket
        if socket:
            spec = self._speaker.spec
            life.caller = Caller(
                socket,
                max_concurrency=spec.max_concurrency,
                max_frame=spec.max_frame,
                uid=life.process.uid,
                notifications=self._speaker.notifications if life.in_charge else None,
            )
            life.caller.warm()
        if before is not None:
            spawn(
                _close_after_calls(before, self._delays.retire),
                f"old socket of plugin {self._speaker.spec.name}",
            )


async def _close_after_calls(caller: Caller, seconds: float) -> None:
    await caller.drain(seconds)
    caller.close()


def _shown(line: bytes) -> str:
    return printable(line[:_SHOWN].decode("utf-8", "replace"))
