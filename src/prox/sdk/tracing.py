"""The trace that a request belongs to, for plugins that make spans of their own or log its id."""

from __future__ import annotations

from prox.wire import TraceContext


class Trace:
    """The request's trace (W3C Trace Context); prox's own span is the parent of what a plugin does."""

    __slots__ = ("_context", "_parts")

    def __init__(self, context: TraceContext) -> None:
        self._context = context
        self._parts = context.traceparent.split("-")

    @property
    def id(self) -> str:
        """The trace's id, 32 hex digits: the client's, or a new one where the client sent none that is valid."""
        return self._parts[1]

    @property
    def parent_id(self) -> str:
        """The id of prox's span, 16 hex digits: the parent of a plugin's span, and of the upstream's."""
        return self._parts[2]

    @property
    def sampled(self) -> bool:
        """Whether the caller may record the trace; true of a new one."""
        return bool(int(self._parts[3], 16) & 1)

    @property
    def parent(self) -> str:
        """`traceparent` as the upstream gets it, for calls that the plugin makes itself."""
        return self._context.traceparent

    @property
    def state(self) -> str:
        """`tracestate` as the upstream gets it; empty for none."""
        return self._context.tracestate

    def __repr__(self) -> str:
        return f"<Trace {self.parent}>"


def trace_of(context: TraceContext | None) -> Trace | None:
    """The trace, where there is one."""
    return None if context is None else Trace(context)
