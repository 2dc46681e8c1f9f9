from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prox.proxy.actions.ranges import MAX_RANGES, ByteRange, parse_ranges


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"bytes=0-0", [(0, 0)]),
        (b"bytes=0-99", [(0, 99)]),
        (b"bytes=0-100", [(0, 99)]),
        (b"bytes=90-", [(90, 99)]),
        (b"bytes=99-", [(99, 99)]),
        (b"bytes=-1", [(99, 99)]),
        (b"bytes=-100", [(0, 99)]),
        (b"bytes=-101", [(0, 99)]),
        (b"bytes=00-0009", [(0, 9)]),
        (b"BYTES=5-6", [(5, 6)]),
        (b"bytes=0-1,5-6", [(0, 1), (5, 6)]),
        (b"bytes=5-6, 0-1", [(5, 6), (0, 1)]),
        (b"bytes=, 0-1 ,\t,-2,", [(0, 1), (98, 99)]),
        (b"bytes=0-1,100-", [(0, 1)]),
        (b"bytes=0-%d" % 10**30, [(0, 99)]),
        (b"bytes=-%d" % 10**30, [(0, 99)]),
        (b"bytes=0-" + b"9" * 5000, [(0, 99)]),
        (b"bytes=0-1,0-1", [(0, 1), (0, 1)]),
    ],
)
def test_satisfiable(value: bytes, expected: list[tuple[int, int]]) -> None:
    assert parse_ranges(value, 100) == expected


@pytest.mark.parametrize(
    "value",
    [
        b"bytes=100-",
        b"bytes=100-200",
        b"bytes=-0",
        b"bytes=500-600,-0",
        b"bytes=%d-" % 10**30,
        b"bytes=" + b"9" * 5000 + b"-",
    ],
)
def test_unsatisfiable(value: bytes) -> None:
    assert parse_ranges(value, 100) == []


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"bytes",
        b"bytes=",
        b"bytes=,",
        b"bytes=-",
        b"bytes=a-b",
        b"bytes=1-0",
        b"bytes=0-1,2-1",
        b"bytes=0-1;2-3",
        b"bytes=+1-2",
        b"bytes=0x1-2",
        b"bytes=1_0-20",
        b"bytes=1-2-3",
        b"bytes=--1",
        b"bytes = 0-1",
        b"bytes=0 - 1",
        b"bytes=\xb2-5",
        b"items=0-1",
        b"0-1",
        b"bytes=0-1, bytes=2-3",
    ],
)
def test_malformed_is_ignored(value: bytes) -> None:
    assert parse_ranges(value, 100) is None


def test_floods_are_ignored() -> None:
    many = b"bytes=" + b",".join(b"%d-%d" % (part, part) for part in range(0, 2 * MAX_RANGES, 2))
    assert len(parse_ranges(many, 1000) or []) == MAX_RANGES
    assert parse_ranges(many + b",999-999", 1000) is None, "too many"
    assert parse_ranges(b"bytes=0-,0-", 1000) is None, "more than the whole"
    assert parse_ranges(b"bytes=0-1,0-1,1-2", 1000) is not None
    assert parse_ranges(b"bytes=0-1,0-1,0-1,0-1", 1000) is None, "three overlaps"


def test_an_empty_file() -> None:
    assert parse_ranges(b"bytes=0-", 0) == []
    assert parse_ranges(b"bytes=0-0", 0) == []
    assert parse_ranges(b"bytes=-0", 0) == []
    assert parse_ranges(b"bytes=-5", 0) is None


def test_header() -> None:
    part = ByteRange(2, 4)
    assert part.length == 3
    assert part.header(10) == b"bytes 2-4/10"


_NUMBER = st.integers(0, 30) | st.integers(0, 2**70)
_SPEC = st.one_of(
    st.tuples(_NUMBER, _NUMBER).map(lambda pair: b"%d-%d" % pair),
    _NUMBER.map(lambda first: b"%d-" % first),
    _NUMBER.map(lambda suffix: b"-%d" % suffix),
)


@given(st.lists(_SPEC, max_size=6).map(lambda specs: b"bytes=" + b",".join(specs)), st.integers(0, 40))
@example(b"bytes=0-4,-5", 10)
def test_against_the_definition(value: bytes, size: int) -> None:
    """Each byte is asked of each specifier by itself."""
    ranges = parse_ranges(value, size)
    wanted: list[list[int]] = []
    for spec in value.removeprefix(b"bytes=").split(b","):
        first, _, last = spec.partition(b"-")
        if first and last and int(last) < int(first):
            assert ranges is None
            return
        if first:
            end = int(last) if last else size
            wanted.append([place for place in range(size) if int(first) <= place <= end])
        elif last:
            wanted.append([place for place in range(size) if place >= size - int(last)])
    wanted = [places for places in wanted if places]
    if ranges is None:
        wasteful = sum(map(len, wanted)) > size or len(wanted) > 2
        assert wasteful or value == b"bytes=" or not size
    else:
        assert [list(range(first, last + 1)) for first, last in ranges] == wanted


@given(st.binary(max_size=40).map(lambda rest: b"bytes=" + rest), st.integers(0, 2**63))
def test_any_bytes_give_parts_of_the_file_or_nothing(value: bytes, size: int) -> None:
    for part in parse_ranges(value, size) or []:
        assert 0 <= part.first <= part.last < size
