from __future__ import annotations

from prox.remembered import remembered


def test_short_questions_are_asked_once_and_long_ones_each_time() -> None:
    asked: list[bytes] = []

    @remembered(maxsize=2, longest=3)
    def length(name: bytes) -> int:
        asked.append(name)
        return len(name)

    assert [length(name) for name in (b"abc", b"abc", b"abcd", b"abcd")] == [3, 3, 4, 4]
    assert asked == [b"abc", b"abcd", b"abcd"]
    length(b"1")
    length(b"2")
    length(b"abc")
    assert asked[2:] == [b"abcd", b"1", b"2", b"abc"]
