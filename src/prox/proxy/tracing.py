"""The trace of a request (W3C Trace Context), where a plugin of its route asks for it.

prox is a span of the trace: plugins and upstream get the client's trace id with prox's span as the parent, or a new
trace where the client sends none that is valid. What the client sent under these names does not go on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from prox.http.codec import fields
from prox.wire import TraceContext, continue_trace, read_trace

from .route import Routed

RandomBytes: TypeAlias = Callable[[int], bytes]
"""Gives so many random bytes."""

_PARENT: Final = b"traceparent"
_STATE: Final = b"tracestate"
_NAMES: Final = frozenset({_PARENT, _STATE})


def start_trace(routed: Routed, random: bytes) -> TraceContext:
    """The trace under prox's own span; the upstream's request gets it.

    Args:
        routed: the request.
        random: `prox.wire.TRACE_BYTES` of them.
    """
    hidden = routed.route.own_headers
    parents: list[str] = []
    states: list[str] = []
    for name, value in routed.exchange.head.headers:
        folded = fields.folded_name(name)
        if folded in _NAMES and folded not in hidden:
            (parents if folded == _PARENT else states).append(value.strip(b" \t").decode("latin-1"))
    trace = continue_trace(read_trace(parents, states), random)
    routed.trace = trace
    routed.replaced |= _NAMES
    routed.headers = [*routed.headers, (_PARENT, trace.traceparent.encode())]
    if trace.tracestate:
        routed.headers.append((_STATE, trace.tracestate.encode()))
    return trace
