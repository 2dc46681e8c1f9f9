"""What the model accepts and this version does not do yet.

`serve` refuses what matters to security or protocol ("error"); anything else that has no effect is said
("note"). Each row is a key; it is taken out when the key begins to act.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from .invalid import InvalidError
from .model import (
    Config,
    Model,
    PassAction,
    Plugin,
    ProxyAction,
    Route,
    Runtime,
    Service,
    Tuning,
)
from .model.base import NamedModel
from .problem import Problem, Severity, in_order, show_path
from .upstreams import TARGET, parse_upstream, render, template_names

if TYPE_CHECKING:
    from .document import Path_


class Finding(NamedTuple):
    """`path` leads from the root of the whole configuration, through the names of services and actions."""

    severity: Severity
    message: str
    path: Path_
    hint: str = ""


class _Row(NamedTuple):
    severity: Severity
    what: str
    acts: Callable[[Any], bool] = bool  # whether a value asks for anything
    ever: bool = True  # whether a later version will do it


def _more_than_one(value: int | None) -> bool:
    return value is not None and value > 1


def _set(_: Any) -> bool:
    return True


UNBUILT: dict[type[Model], dict[str, _Row]] = {
    Config: {"admin": _Row("error", "the admin API")},
    Runtime: {"workers": _Row("note", "several worker processes", _more_than_one)},
    Service: {
        "tls": _Row("error", "TLS listeners"),
        "tls_cert": _Row("error", "TLS listeners"),
        "tls_key": _Row("error", "TLS listeners"),
        "acme": _Row("error", "automatic certificates"),
        "h2": _Row("note", "HTTP/2"),
    },
    Tuning: {
        "tls_client_ca": _Row("error", "client certificates"),
        "tls_client_auth": _Row("error", "client certificates", lambda value: value != "off"),
        "proxy_protocol": _Row("error", "the PROXY protocol"),
        "h2c": _Row("error", "HTTP/2 without TLS"),
        "tls_min_version": _Row("note", "TLS listeners", _set),
        "tls_ciphers": _Row("note", "TLS listeners"),
        "tls_handshake_timeout": _Row("note", "TLS", _set),
        "h2_read_idle_timeout": _Row("note", "HTTP/2", _set),
        "h2_ping_timeout": _Row("note", "HTTP/2", _set),
        "disable_compression": _Row(
            "note", "asking upstreams for compressed answers", lambda value: not value
        ),
        "flush_interval": _Row("note", "answers are never held back", lambda value: value > 0, ever=False),
        "read_buffer_size": _Row("note", "sizes of buffers", _set),
        "write_buffer_size": _Row("note", "sizes of buffers", _set),
    },
    ProxyAction: {
        "tls": _Row("error", "TLS to upstreams"),
        "proto": _Row("error", "HTTP/2 to upstreams"),
        "send_proxy": _Row("error", "the PROXY protocol"),
    },
    PassAction: {"type": _Row("error", "passing TLS connections on unopened")},
}


_TLS = _Row("error", "TLS to upstreams")


def unbuilt(config: Config) -> list[Problem]:
    """What `serve` refuses (severity "error") and what has no effect (severity "note"), without positions."""
    return list(
        in_order(
            Problem(finding.severity, finding.message, path=show_path(finding.path), hint=finding.hint)
            for finding in findings(config)
        )
    )


def findings(config: Config) -> Iterator[Finding]:
    """The same with paths in parts, so that a caller who knows the files can place them."""
    for path, model in _walk(config, ()):
        rows = UNBUILT.get(type(model), {})
        for key in model.model_fields_set & rows.keys():
            row = rows[key]
            if row.acts(getattr(model, key)):
                yield _finding(row, (*path, key))
        if isinstance(model, ProxyAction) and _is_tls(model):
            yield _finding(_TLS, (*path, "upstream"))
        if isinstance(model, Route):
            yield from _tls_upstreams(model, path)


def _finding(row: _Row, path: Path_) -> Finding:
    if row.severity == "error":
        return Finding(row.severity, f"not available in this version: {row.what}", path)
    when = " in this version" if row.ever else ""
    return Finding(row.severity, f"has no effect{when}: {row.what}", path)


def _is_tls(action: ProxyAction) -> bool:
    return "upstream" in action.model_fields_set and action.upstream.startswith(("https://", "wss://"))


def _tls_upstreams(route: Route, path: Path_) -> Iterator[Finding]:
    """https:// and wss:// upstreams that are made from targets and variables."""
    if "action" not in route.model_fields_set:
        return
    action, at = route.action, (*path, "action")
    targets = route.balancer.targets if route.balancer is not None else ()
    while isinstance(action, ProxyAction) and "upstream" in action.model_fields_set:
        at = ("actions", action.name) if action.name else at
        names = template_names(action.upstream)
        for index, target in enumerate(targets if TARGET in names else ("target:80",)):
            try:
                upstream = parse_upstream(render(action.upstream, {**route.set, TARGET: target}))
            except InvalidError:  # reported already; this is a draft
                continue
            if upstream.tls and "://" in target:
                yield _finding(_TLS, (*path, "balancer", "targets", index))
            elif upstream.tls:
                yield _finding(_TLS, (*at, "upstream"))
        if action.fallback is None:
            return
        action, at = action.fallback, (*at, "fallback")


def _walk(value: Any, path: Path_) -> Iterator[tuple[Path_, Model]]:
    """Every model below `value`, named ones only where they are defined."""
    if isinstance(value, Model):
        if isinstance(value, NamedModel) and (value.name or isinstance(value, Plugin)) and len(path) != 2:
            return
        yield path, value
        for key in value.model_fields_set:
            yield from _walk(getattr(value, key), (*path, key))
    elif isinstance(value, tuple):
        for index, member in enumerate(value):
            if isinstance(member, Model):
                yield from _walk(member, (*path, index))
    elif isinstance(value, dict):
        for key, member in value.items():
            if isinstance(member, Model):
                yield from _walk(member, (*path, key))
