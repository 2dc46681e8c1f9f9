"""The four invariants of the security page, over generated and broken conversations: both directions, message for message.

Judged by a reader that has nothing in common with prox, and by h11.
"""

from __future__ import annotations

from collections.abc import Iterator

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.invariants import converse
from support.mutations import ANSWERS, REQUESTS, SPLINTERS, Change, changed, changes, cuts
from support.wires import Reply, Wires
from support.wires import wires as open_wires

common = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
requests = st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=4)
replies = st.lists(
    st.builds(
        lambda data, edits, cuts, early, ends: Reply(changed(data, edits), cuts, early, ends),
        st.sampled_from(ANSWERS),
        changes,
        cuts,
        st.booleans(),
        st.booleans(),
    ),
    max_size=4,
).map(tuple)


@pytest.fixture(name="wires", scope="module")
def _wires() -> Iterator[Wires]:
    with open_wires() as wires:
        yield wires


@common
@given(requests, cuts)
def test_what_is_sent_arrives(wires: Wires, sent: list[bytes], cuts: tuple[int, ...]) -> None:
    converse(wires, b"".join(sent), cuts)


@common
@given(requests, changes, cuts, st.booleans())
def test_broken_requests(
    wires: Wires, sent: list[bytes], edits: list[Change], cuts: tuple[int, ...], leaves: bool
) -> None:
    converse(wires, changed(b"".join(sent), edits), cuts, leaves=leaves)


@common
@given(requests, cuts, replies)
def test_broken_answers(
    wires: Wires, sent: list[bytes], cuts: tuple[int, ...], replies: tuple[Reply, ...]
) -> None:
    converse(wires, b"".join(sent), cuts, replies)


@common
@given(requests, changes, cuts, replies, st.booleans())
def test_broken_on_both_sides(
    wires: Wires,
    sent: list[bytes],
    edits: list[Change],
    cuts: tuple[int, ...],
    replies: tuple[Reply, ...],
    leaves: bool,
) -> None:
    converse(wires, changed(b"".join(sent), edits), cuts, replies, leaves=leaves)


@common
@given(st.lists(st.one_of(st.sampled_from(SPLINTERS), st.binary(max_size=8)), max_size=12), cuts)
def test_splinters(wires: Wires, pieces: list[bytes], cuts: tuple[int, ...]) -> None:
    converse(wires, b"".join(pieces), cuts)


@common
@given(requests, changes)
def test_h11_reads_what_goes_upstream(wires: Wires, sent: list[bytes], edits: list[Change]) -> None:
    data = changed(b"".join(sent), edits)
    converse(wires, data)
    for asked in wires.asked:
        if asked.message.whole:
            assert _read_by_h11(asked.raw) == (asked.message.method, asked.message.target, asked.message.body)


def test_a_refused_head_has_no_content(wires: Wires) -> None:
    converse(wires, b"HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n")
    assert wires.client is not None
    assert b"\r\nContent-Length: 13\r\n" in wires.client.sent
    assert wires.client.sent.endswith(b"\r\n\r\n")


def _read_by_h11(raw: bytes) -> tuple[bytes, bytes, bytes]:
    """Method, target and content of one whole request."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(raw)
    head = connection.next_event()
    assert isinstance(head, h11.Request)
    body = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data)
        body += bytes(event.data)
    assert connection.trailing_data == (b"", False)
    return head.method, head.target, body
