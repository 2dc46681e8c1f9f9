"""From a call's payload to the handler's argument, and from the handler's answer to a frame.

An answer of the wrong type is an error and never an allow: a guard that returns something by mistake
must not open the door.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from prox.wire import (
    AuthorizeResult,
    ConnResult,
    HookType,
    ResponseModResult,
    encode_result,
)

from .calls import Connection, Disconnect, Request, Response
from .features import check_features

_ALLOW = encode_result(AuthorizeResult(allow=True))
_DENY = encode_result(AuthorizeResult(allow=False))
_UNCHANGED = encode_result(ResponseModResult())
_ACCEPT = encode_result(ConnResult(allow=True))
_REFUSE = encode_result(ConnResult(allow=False))

PLAIN_ANSWERS = frozenset({type(None), bool, AuthorizeResult, ResponseModResult, ConnResult})
"""Types of answers that need not be awaited."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A served hook.

    Attributes:
        type: which one.
        handler: the author's function.
        wrap: makes its argument of the payload.
        frame: makes the frame to send of its answer; `None` where nothing is sent.
    """

    type: HookType
    handler: Callable[[Any], Any]
    wrap: Callable[[Any], Any]
    frame: Callable[[object], bytes | None]


_NO_FEATURES: frozenset[str] = frozenset()


def _request_frame(answer: object, features: frozenset[str] = _NO_FEATURES) -> bytes:
    if isinstance(answer, AuthorizeResult):
        if answer.changes is not None or answer.response is not None:
            check_features(answer, features)
        return encode_result(answer)
    if answer is None or answer is True:
        return _ALLOW
    if answer is False:
        return _DENY
    raise TypeError(f"on_request answers a verdict, True, False or None, not {type(answer).__name__}")


def _response_frame(answer: object, features: frozenset[str] = _NO_FEATURES) -> bytes:
    if answer is None:
        return _UNCHANGED
    if isinstance(answer, ResponseModResult):
        if answer.changes is not None:
            check_features(answer, features)
        return encode_result(answer)
    raise TypeError(f"on_response answers modify(…) or None, not {type(answer).__name__}")


def _connect_frame(answer: object) -> bytes:
    if isinstance(answer, ConnResult):
        answer = answer.allow
    if answer is None or answer is True:
        return _ACCEPT
    if answer is False:
        return _REFUSE
    raise TypeError(f"on_connect answers True, False or None, not {type(answer).__name__}")


def _no_frame(answer: object) -> None:
    """on_disconnect is not answered, whatever its handler returns."""


_SHAPES: dict[HookType, tuple[Callable[[Any], Any], Callable[[object], bytes | None]]] = {
    HookType.ON_REQUEST: (Request, _request_frame),
    HookType.ON_RESPONSE: (Response, _response_frame),
    HookType.ON_CONNECT: (Connection, _connect_frame),
    HookType.ON_DISCONNECT: (Disconnect, _no_frame),
}


def make_hook(hook: HookType, handler: Callable[[Any], Any], features: frozenset[str] = _NO_FEATURES) -> Hook:
    """The hook that `handler` serves, of a plugin with these features."""
    wrap, frame = _SHAPES[hook]
    if features and hook is HookType.ON_REQUEST:
        wrap, frame = partial(Request, features=features), partial(_request_frame, features=features)
    elif features and hook is HookType.ON_RESPONSE:
        wrap, frame = partial(Response, features=features), partial(_response_frame, features=features)
    return Hook(hook, handler, wrap, frame)
