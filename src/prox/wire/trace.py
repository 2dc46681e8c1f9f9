"""W3C Trace Context (Recommendation, level 1): read strictly, continued under a span of prox's own. No randomness in here.

A `traceparent` that is malformed, or there more than once, is none: a new trace begins and `tracestate` is dropped with it
(section 4.2). A malformed `tracestate` is dropped alone (section 3.3.1).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from .messages import TraceContext

if TYPE_CHECKING:
    from collections.abc import Sequence

TRACE_BYTES: Final = 24
"""Bytes of randomness that `continue_trace` takes: a trace id and the id of a span."""

_PARENT: Final = re.compile("([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_TRACE_ID: Final = 16
_SAMPLED: Final = 1
_MEMBERS: Final = 32
_KEY: Final = r"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
_MEMBER: Final = re.compile(
    "(" + _KEY + r")=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)


def read_trace(parents: Sequence[str], states: Sequence[str]) -> TraceContext | None:
    """What the `traceparent` and `tracestate` fields of a request say; None where there is no valid trace.

    A `traceparent` of a later version is read as far as version 00 goes, and given as one of that (section 4.3).
    Of its flags `sampled` is kept: the others have no meaning in version 00 (section 3.2.2.5.1).
    """
    if len(parents) != 1:
        return None
    match = _PARENT.fullmatch(parents[0])
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    if not int(trace_id, 16) or not int(span_id, 16):
        return None
    sampled = int(flags, 16) & _SAMPLED
    return TraceContext(traceparent=f"00-{trace_id}-{span_id}-{sampled:02x}", tracestate=_state(states))


def continue_trace(trace: TraceContext | None, random: bytes) -> TraceContext:
    """The trace with a new span as the parent, or a new trace.

    A new one is sampled: it is made for a plugin that asks for it, and a server that leaves sampling to its caller would
    record nothing otherwise.

    Args:
        trace: what `read_trace` gave.
        random: TRACE_BYTES of them.
    """
    span_id = _nonzero(random[_TRACE_ID:TRACE_BYTES])
    if trace is None:
        return TraceContext(traceparent=f"00-{_nonzero(random[:_TRACE_ID])}-{span_id}-01")
    _, trace_id, _, flags = trace.traceparent.split("-")
    return TraceContext(traceparent=f"00-{trace_id}-{span_id}-{flags}", tracestate=trace.tracestate)


def _nonzero(random: bytes) -> str:
    """Bytes as an id; all zeros are none."""
    return (random if any(random) else random[:-1] + b"\1").hex()


def _state(states: Sequence[str]) -> str:
    """The members of all `tracestate` fields as one list; empty where any of them is malformed."""
    members: dict[str, str] = {}
    for part in ",".join(states).split(","):
        member = part.strip(" \t")
        if not member:
            continue
        match = _MEMBER.fullmatch(member)
        if match is None or match[1] in members or len(members) == _MEMBERS:
            return ""
        members[match[1]] = member
    return ",".join(members.values())
