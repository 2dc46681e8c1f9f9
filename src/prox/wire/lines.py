"""The JSON lines on a plugin's stdin and stdout: what they hold, and how they are read and written.

A line from prox is a `Request`; a line from a plugin is a `Push`, or a `Response` when it has no method.
Only `configure` and the five methods that a plugin may use have typed parameters: a method that is not known
is still read, so that it can be named in a warning.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from .errors import DecodeError, EncodeError
from .names import METHOD_CONFIGURE, METHOD_LOG, METHOD_READY, METHOD_SET_SPEED, METHOD_SET_TARGETS

T = TypeVar("T")


class MatchInfo(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The route's domain and path patterns; several are joined by `,`."""

    domain: str = ""
    path: str = ""


class ConfigureParams(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A route that the plugin is bound to; `route_id` is empty for a plugin that runs without a route."""

    route_id: str
    match: MatchInfo | None = None


class Request(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A line to the plugin. `params` is there when the method is `configure`."""

    method: str
    params: ConfigureParams | None = None


class Response(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The answer to one `configure`: a result, or an error that refuses the route."""

    result: str = ""
    error: str = ""


class PushParams(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """The parameters of every push; which of them count depends on the method.

    Attributes:
        route_id: address of `set_targets` and `set_speed`: one route, or `*` for each with a balancer.
        action: address in place of `route_id`: every route that uses this action.
        targets: the whole new target list.
        groups: the keyed target lists, all of them.
        download_mbps: cap in megabits a second, 0 for none.
        upload_mbps: the same for the other direction.
        group_key: the bucket that the speeds belong to.
        socket: path that the plugin listens on (`ready`).
        hooks: names of the hooks that it serves (`ready`).
        features: names of what it knows beyond the base protocol (`ready`).
        level: `debug`, `info`, `warn` or `error` (`log`).
        message: text (`log`).
        args: keys and values in turn (`log`).
    """

    route_id: str = ""
    action: str = ""
    targets: list[str] | None = None
    groups: dict[str, list[str]] | None = None
    download_mbps: float = 0
    upload_mbps: float = 0
    group_key: str = ""
    socket: str = ""
    hooks: list[str] | None = None
    features: list[str] | None = None
    level: str = ""
    message: str = ""
    args: list[Any] | None = None


class Push(msgspec.Struct, frozen=True, gc=False):
    """A line from the plugin that asks for something."""

    method: str
    params: PushParams


class _FromProx(msgspec.Struct):
    method: str
    params: msgspec.Raw = msgspec.Raw(b"null")


class _FromPlugin(msgspec.Struct):
    method: str | None = None
    params: msgspec.Raw = msgspec.Raw(b"null")
    result: Any = msgspec.UNSET
    error: Any = None


_PUSHES = frozenset({METHOD_READY, METHOD_SET_TARGETS, METHOD_SET_SPEED, METHOD_LOG})
_NO_PARAMS = PushParams()

_encoder = msgspec.json.Encoder()
_from_prox = msgspec.json.Decoder(_FromProx)
_from_plugin = msgspec.json.Decoder(_FromPlugin)
_configure = msgspec.json.Decoder(ConfigureParams)
_push_params = msgspec.json.Decoder(PushParams | None)


def encode_line(message: Request | Response | Push) -> bytes:
    r"""One line, its `\n` included.

    Raises:
        EncodeError: the message holds what JSON or UTF-8 can't carry.
    """
    try:
        return _encoder.encode(message) + b"\n"
    except (UnicodeEncodeError, OverflowError, TypeError, RecursionError) as error:
        raise EncodeError(f"can't encode {type(message).__name__}: {error}") from error


def decode_request(line: bytes) -> Request:
    """A line from prox. `params` is `None` where the method is not `configure`.

    Raises:
        DecodeError: no JSON object with a method, or a `configure` of the wrong shape.
    """
    head = _decode(_from_prox, line)
    if head.method != METHOD_CONFIGURE:
        return Request(head.method)
    return Request(head.method, _decode(_configure, head.params))


def decode_line(line: bytes) -> Push | Response:
    """A line from a plugin. The parameters are empty where the method is not known.

    Raises:
        DecodeError: no JSON object, neither method nor result nor error, or parameters of the wrong shape.
    """
    head = _decode(_from_plugin, line)
    if not head.method:
        return _response(head)
    if head.method not in _PUSHES:
        return Push(head.method, _NO_PARAMS)
    return Push(head.method, _decode(_push_params, head.params) or _NO_PARAMS)


def _response(head: _FromPlugin) -> Response:
    if head.error:
        return Response(error=_as_text(head.error))
    if head.result is not msgspec.UNSET:
        return Response(result=_as_text(head.result))
    raise DecodeError("the line has neither method nor result nor error")


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else _encoder.encode(value).decode()


def _decode(decoder: msgspec.json.Decoder[T], line: bytes | msgspec.Raw) -> T:
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"not a line of the protocol: {error}") from error
