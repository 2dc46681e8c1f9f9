"""One call of a plugin's hook, as `prox plugin call` makes it, and what is shown of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from prox.sdk.testing import LogRecord, PluginTestError
from prox.wire import (
    AuthorizeResult,
    ConnResult,
    HeaderChanges,
    HookType,
    Payload,
    Push,
    ResponseModResult,
    Result,
    Speed,
)

from .refused import refused_headers
from .running import RunningPlugin


@dataclass(frozen=True, slots=True)
class Answer:
    """What a plugin answered and said.

    Attributes:
        hook: that was called.
        result: its answer.
        milliseconds: that it took.
        logs: what the plugin logged from its start on.
        pushes: what it pushed.
        stderr: what it wrote there.
        warnings: what prox would leave out or complain about.
    """

    hook: str
    result: Result
    milliseconds: float
    logs: list[LogRecord] = field(default_factory=list)
    pushes: list[Push] = field(default_factory=list)
    stderr: str = ""
    warnings: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Everything, under readable names; bytes that are no text as Latin-1 characters."""
        return {
            "hook": self.hook,
            "verdict": verdict(self.result),
            "result": _readable(self.result),
            "milliseconds": round(self.milliseconds, 3),
            "logs": [
                {"level": record.level, "message": record.message, "fields": record.fields}
                for record in self.logs
            ],
            "pushes": [_pushed(push) for push in self.pushes],
            "stderr": self.stderr,
            "warnings": self.warnings,
        }

    def rows(self) -> Iterator[tuple[str, str]]:
        """A table for people: what, and its value."""
        yield self.hook, f"{verdict(self.result)}, after {self.milliseconds:.1f} ms"
        for name, value in _readable(self.result).items():
            if name in {"allow", "drop", "fallback"}:
                continue
            match value:
                case {"download_mbps": down, "upload_mbps": up, "group_key": group}:
                    rates = [
                        f"{way} {rate:g} Mbps" for way, rate in (("download", down), ("upload", up)) if rate
                    ]
                    yield name, ", ".join(rates + ([f"group {group}"] if group else []))
                case {"remove": _, "set": _, "append": _}:
                    yield from _change_rows(_OF_RESPONSE if name == "response" else "", value)
                case dict() as items:
                    yield from ((_ROWS.get(name, name), f"{key}: {item}") for key, item in items.items())
                case list() as items:
                    yield from ((_ROWS.get(name, name), str(item)) for item in items)
                case _:
                    lines = str(value).splitlines() or [""]
                    yield from (
                        (_ROWS.get(name, name) if at == 0 else "", line) for at, line in enumerate(lines)
                    )
        for push in self.pushes:
            yield "push", msgspec.json.encode(_pushed(push)).decode()
        for record in self.logs:
            values = "".join(f" {key}={value}" for key, value in record.fields.items())
            first, *more = f"{record.level.upper()} {record.message}{values}".splitlines()
            yield "log", first
            yield from (("", line) for line in more)
        for line in self.stderr.splitlines():
            yield "stderr", line
        for warning in self.warnings:
            yield "warning", warning


_OF_RESPONSE = "response "


def _change_rows(whose: str, changes: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield from ((f"{whose}remove", name) for name in changes["remove"])
    for name, values in changes["set"].items():
        yield from ((f"{whose}header", f"{name}: {value}") for value in values)
        if not values:
            yield f"{whose}remove", name
    for name, values in changes["append"].items():
        yield from ((f"{whose}append", f"{name}: {value}") for value in values)


_ROWS = {"headers": "header", "strip_query": "no query", "path": "to path"}


def call(plugin: RunningPlugin, hook: HookType, payload: Payload) -> Answer:
    """Start a plugin, ask one hook, and end the plugin.

    Raises:
        PluginTestError: it does not start, or has no valid answer.
        TimeoutError: it has none in time.
    """
    warnings: list[str] = []
    with contextlib.ExitStack() as ending:
        plugin.__enter__()
        ending.callback(_end, plugin, warnings)
        plugin.ready()
        began = time.perf_counter()
        result = plugin.ask(hook, payload)
        took = (time.perf_counter() - began) * 1000
    left_out = [f"prox leaves a header out: {reason}" for reason in refused_headers(result)]
    warnings += [*left_out, *plugin.warnings]
    return Answer(hook.hook_name, result, took, plugin.logs, plugin.pushes, plugin.stderr, warnings)


def _end(plugin: RunningPlugin, warnings: list[str]) -> None:
    try:
        plugin.stop()
    except PluginTestError as error:
        warnings.append(str(error))


def verdict(result: Result) -> str:
    """The result in one word: `allow`, `deny`, `drop`, `fallback`, `change` or `no change`."""
    match result:
        case AuthorizeResult(drop=True):
            return "drop"
        case AuthorizeResult(fallback=True):
            return "fallback"
        case AuthorizeResult(allow=True) | ConnResult(allow=True):
            return "allow"
        case ResponseModResult():
            return "no change" if result == ResponseModResult() else "change"
    return "deny"


def _readable(result: Result) -> dict[str, Any]:
    """The result's fields that say something, by their names."""
    shown: dict[str, Any] = {}
    for item in msgspec.structs.fields(result):
        value = getattr(result, item.name)
        if item.required or value not in (item.default, {}, []):
            shown[item.name] = _plain(value)
    if isinstance(result, AuthorizeResult) and verdict(result) == "deny":
        shown.setdefault("status", 403)
    return shown


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.decode("latin-1")
    if isinstance(value, Speed | HeaderChanges):
        return {item.name: getattr(value, item.name) for item in msgspec.structs.fields(value)}
    return value


def _pushed(push: Push) -> dict[str, Any]:
    params: dict[str, Any] = msgspec.to_builtins(push.params)
    return {"method": push.method, **params}
