"""W3C Trace Context: which headers are a trace, and how it goes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prox.wire import TRACE_BYTES, TraceContext, continue_trace, read_trace

ID, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
RANDOM = bytes(range(1, TRACE_BYTES + 1))


def read(parent: str, *states: str) -> TraceContext | None:
    return read_trace([parent], states)


@pytest.mark.parametrize(
    ("parent", "expected"),
    [
        (f"00-{ID}-{SPAN}-01", f"00-{ID}-{SPAN}-01"),
        (f"00-{ID}-{SPAN}-00", f"00-{ID}-{SPAN}-00"),
        (f"00-{ID}-{SPAN}-ff", f"00-{ID}-{SPAN}-01"),
        (f"00-{ID}-{SPAN}-02", f"00-{ID}-{SPAN}-00"),
        (f"01-{ID}-{SPAN}-01", f"00-{ID}-{SPAN}-01"),
        (f"cc-{ID}-{SPAN}-01-what-the-future-brings", f"00-{ID}-{SPAN}-01"),
        (f"fe-{ID}-{SPAN}-00-", f"00-{ID}-{SPAN}-00"),
    ],
)
def test_a_trace(parent: str, expected: str) -> None:
    assert read(parent) == TraceContext(traceparent=expected)


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "00",
        ID,
        f"ff-{ID}-{SPAN}-01",
        f"0-{ID}-{SPAN}-01",
        f"0x-{ID}-{SPAN}-01",
        f"00-{ID.upper()}-{SPAN}-01",
        f"00-{ID}-{SPAN.upper()}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{ID}-{'0' * 16}-01",
        f"00-{ID[:-1]}-{SPAN}-01",
        f"00-{ID}0-{SPAN}-01",
        f"00-{ID}-{SPAN}",
        f"00-{ID}-{SPAN}-",
        f"00-{ID}-{SPAN}-1",
        f"00-{ID}-{SPAN}-0A",
        f"00-{ID}-{SPAN}-010",
        f"00-{ID}-{SPAN}-01-",
        f"00-{ID}-{SPAN}-01-more",
        f"cc-{ID}-{SPAN}-01.more",
        f"cc-{ID}-{SPAN}-0102",
        f" 00-{ID}-{SPAN}-01",
        f"00-{ID}-{SPAN}-01\n",
        f"00_{ID}_{SPAN}_01",
        f"00-{ID}-{SPAN}-01,00-{ID}-{SPAN}-01",
        f"00-{chr(0xFF10)}{ID[1:]}-{SPAN}-01",
    ],
)
def test_no_trace(parent: str) -> None:
    assert read(parent, "a=1") is None


def test_none_or_two_are_no_trace() -> None:
    good = f"00-{ID}-{SPAN}-01"
    assert read_trace([], ["a=1"]) is None
    assert read_trace([good, good], []) is None


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], ""),
        (["a=1"], "a=1"),
        (["a=1,b=2", "c=3"], "a=1,b=2,c=3"),
        ([" a=1 ,\t, b=2 x ,"], "a=1,b=2 x"),
        (["tenant@system=x", "1@a=y"], "tenant@system=x,1@a=y"),
        (["a-b_c*d/e=!~"], "a-b_c*d/e=!~"),
        (["a=" + "x" * 256], "a=" + "x" * 256),
        ([",".join(f"k{n}=1" for n in range(32))], ",".join(f"k{n}=1" for n in range(32))),
        ([",".join(f"k{n}=1" for n in range(33))], ""),
        (["a=1,a=2"], ""),
        (["a=1", "a=1"], ""),
        (["a=1,b"], ""),
        (["A=1"], ""),
        (["1=1"], ""),
        (["a="], ""),
        (["=1"], ""),
        (["a=1=2"], ""),
        (["a =1"], ""),
        (["a=\xe4"], ""),
        (["a@=1"], ""),
        (["@a=1"], ""),
        (["a@b@c=1"], ""),
        (["a" * 257 + "=1"], ""),
        (["a=" + "x" * 257], ""),
    ],
)
def test_its_state(states: list[str], expected: str) -> None:
    trace = read_trace([f"00-{ID}-{SPAN}-01"], states)
    assert trace == TraceContext(traceparent=f"00-{ID}-{SPAN}-01", tracestate=expected)


def test_it_goes_on_under_a_new_span() -> None:
    trace = TraceContext(traceparent=f"00-{ID}-{SPAN}-00", tracestate="a=1")
    span = RANDOM[16:].hex()
    assert continue_trace(trace, RANDOM) == TraceContext(traceparent=f"00-{ID}-{span}-00", tracestate="a=1")
    new = continue_trace(None, RANDOM)
    assert new == TraceContext(traceparent=f"00-{RANDOM[:16].hex()}-{span}-01")
    assert read(new.traceparent) == new


def test_ids_are_never_zero() -> None:
    trace = continue_trace(None, bytes(TRACE_BYTES))
    assert read(trace.traceparent) == trace


@given(st.binary(min_size=TRACE_BYTES, max_size=TRACE_BYTES))
def test_what_is_made_is_read(random: bytes) -> None:
    trace = continue_trace(None, random)
    assert read(trace.traceparent) == trace
    onward = continue_trace(trace, random[::-1])
    assert onward.traceparent[:36] == trace.traceparent[:36]


@given(st.text(max_size=70), st.lists(st.text(max_size=30), max_size=3))
def test_anything_is_read_or_refused(parent: str, states: list[str]) -> None:
    trace = read(parent, *states)
    assert trace is None or read(trace.traceparent, trace.tracestate) == trace
