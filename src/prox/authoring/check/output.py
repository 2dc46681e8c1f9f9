"""Checks of all that the plugin has written to stdout while it was checked. They come last."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from prox.config.addresses import check_target
from prox.wire import (
    LOG_LEVELS,
    METHOD_LOG,
    METHOD_READY,
    METHOD_SET_SPEED,
    METHOD_SET_TARGETS,
    DecodeError,
    decode_line,
)

from .model import CheckFailedError, CheckSkippedError, Group
from .subject import Subject

group = Group("output", needs="lines.configure-acknowledged")

_METHODS = {METHOD_READY, METHOD_SET_TARGETS, METHOD_SET_SPEED, METHOD_LOG}
_PUSHES = {METHOD_SET_TARGETS, METHOD_SET_SPEED}


@group.check("lines", "lines-from-the-plugin")
def lines(subject: Subject) -> None:
    """Every line is one of the protocol, with members of the right kinds."""
    for line in _all(subject):
        try:
            decode_line(line)
        except DecodeError as error:
            raise CheckFailedError(f"{_shown(line)}\nis {error}. Print to stderr.") from None
        method = msgspec.json.decode(line).get("method")
        if method and method not in _METHODS:
            raise CheckFailedError(f"{_shown(line)}\nhas a method that prox does not know")


@group.check("answers", "answers-to-configure")
def answers(subject: Subject) -> None:
    """Answers to configure are {"result": "ok"} or {"error": "why"}."""
    for line in _all(subject):
        answer = _decoded(line)
        if answer.get("method"):
            continue
        error = answer.get("error")
        if not (isinstance(error, str) and error if error else answer.get("result") == "ok"):
            raise CheckFailedError(f"{_shown(line)}\nis neither")


@group.check("pushes", "set_targets")
def pushes(subject: Subject) -> None:
    """Pushes have an address and valid targets or speeds."""
    found = [line for line in _all(subject) if _decoded(line).get("method") in _PUSHES]
    if not found:
        raise CheckSkippedError("the plugin has pushed nothing")
    for line in found:
        if problem := _push_problem(_decoded(line)):
            raise CheckFailedError(f"{_shown(line)}\nchanges nothing: {problem}")


@group.check("ready-before-pushes", "ready")
def ready_before_pushes(subject: Subject) -> None:
    """A plugin with hooks says ready before its first push: else prox takes it that it has none."""
    for process in _processes(subject):
        methods = [_decoded(line).get("method") for line in process]
        first_push = next((at for at, method in enumerate(methods) if method in _PUSHES), None)
        if METHOD_READY in methods and first_push is not None and first_push < methods.index(METHOD_READY):
            raise CheckFailedError(f"{_shown(process[first_push])}\ncomes before ready")


@group.check("logs", "log")
def logs(subject: Subject) -> None:
    """Log lines have a level of the protocol, a message, and names with values."""
    found = [line for line in _all(subject) if _decoded(line).get("method") == METHOD_LOG]
    if not found:
        raise CheckSkippedError("the plugin has logged nothing")
    for line in found:
        params = _decoded(line).get("params") or {}
        args = params.get("args") or []
        if params.get("level") not in LOG_LEVELS:
            raise CheckFailedError(
                f"{_shown(line)}\nhas the level {params.get('level')!r}, not one of {', '.join(LOG_LEVELS)}"
            )
        if not params.get("message"):
            raise CheckFailedError(f"{_shown(line)}\nhas no message")
        if len(args) % 2 or not all(isinstance(name, str) for name in args[::2]):
            raise CheckFailedError(f"{_shown(line)}\nhas args that are not names and values in turn")


def _processes(subject: Subject) -> list[list[bytes]]:
    """The lines of each process that there was, and of one that has been told of a route again."""
    plugin = subject.plugin
    for _ in range(2):  # what follows the answer to the first comes before the answer to the second
        subject.configure(plugin)
    plugin.until(lambda: None, subject.patience.quiet)
    return [*subject.lines, list(plugin.inbox.lines)]


def _all(subject: Subject) -> Iterator[bytes]:
    for process in _processes(subject):
        yield from process


def _decoded(line: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {"method": "none"}  # the business of the check of lines
    return value if isinstance(value, dict) else {"method": "none"}


def _push_problem(push: dict[str, Any]) -> str:
    params = push.get("params") or {}
    if not params.get("route_id") and not params.get("action"):
        return "it has neither route_id nor action"
    if push["method"] == METHOD_SET_SPEED:
        rates = [params.get(name) or 0 for name in ("download_mbps", "upload_mbps")]
        bad = [
            rate for rate in rates if not isinstance(rate, int | float) or not math.isfinite(rate) or rate < 0
        ]
        return f"{bad[0]} Mbps is no speed" if bad else ""
    keyed = params.get("groups")
    lists = keyed.values() if isinstance(keyed, dict) else [params.get("targets") or []]
    try:
        for targets in lists:
            for target in targets:
                check_target(target)
    except (ValueError, TypeError) as error:
        return str(error)
    return ""


def _shown(line: bytes) -> str:
    text = line.decode("utf-8", "backslashreplace")
    return text if len(text) < 300 else f"{text[:300]}…"
