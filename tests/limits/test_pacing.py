"""Streams that share limits: the rate holds over any two seconds, shares are fair, nothing is left behind."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prox.limits import MBPS, Gate, Metered, Pacer
from support.virtual_clock import VirtualClock


class Stream:
    """Passes as much as it may; its source brings `chunk` bytes at a time, and more as soon as little is held."""

    def __init__(self, clock: VirtualClock, pacers: Sequence[Pacer], chunk: int = 64 * 1024) -> None:
        self._clock = clock
        self._chunk = chunk
        self._held = 0
        self.passed = 0
        self.log: deque[tuple[float, int]] = deque()
        self.gate = Gate(pacers, self.go)

    def go(self) -> None:
        for _ in range(10_000):
            while self._held < 4096:
                self._held += self._chunk
            size = self.gate.take(self._held)
            if not size:
                return
            self._held -= size
            self.passed += size
            self.log.append((self._clock.now, size))
        raise AssertionError("it is never told to wait")


def windows(log: Sequence[tuple[float, int]], start: float, end: float, width: float = 2.0) -> list[float]:
    """Bytes a second in windows of this width, one beginning each 10 ms."""
    found = []
    at = start
    while at + width <= end + 1e-9:
        found.append(sum(size for when, size in log if at <= when < at + width) / width)
        at += 0.05
    return found


@pytest.mark.parametrize("chunk", [100, 1500, 65536, 256_000])
@pytest.mark.parametrize("mbps", [0.1, 0.5, 1, 8, 50, 200, 500])
def test_within_5_percent_over_any_2_seconds(mbps: float, chunk: int) -> None:
    jitter = random.Random(int(mbps * 10) + chunk)
    clock = VirtualClock(lambda: jitter.choice([0, 0, 0.001, 0.002, 0.03]))
    stream = Stream(clock, [Pacer(clock, mbps * MBPS)], chunk)
    stream.go()
    clock.go_on(6)
    rates = windows(stream.log, 1000.0, 1006.0)
    assert len(rates) > 50
    assert max(rates) <= 1.05 * mbps * MBPS
    assert min(rates) >= 0.95 * mbps * MBPS
    if chunk > 0.02 * mbps * MBPS:
        assert len(stream.log) <= 6 * 60  # no more than one piece a tick


@pytest.mark.parametrize("mbps", [1, 10, 500])
def test_100_streams_share_fairly_whatever_they_bring(mbps: float) -> None:
    clock = VirtualClock(lambda: 0.001)
    pacer = Pacer(clock, mbps * MBPS)
    sizes = [100, 1000, 1500, 16 * 1024, 64 * 1024, 256_000]
    streams = [Stream(clock, [pacer], sizes[i % len(sizes)]) for i in range(100)]
    for stream in streams:
        stream.go()
    clock.go_on(5)
    total = sum(stream.passed for stream in streams)
    assert total == pytest.approx(mbps * MBPS * 5, rel=0.03)
    fair = total / 100
    assert all(abs(stream.passed - fair) <= max(0.05 * fair, 1024) for stream in streams)
    assert clock.pending == 1  # one timer, however many wait


def test_who_comes_and_goes_does_not_starve_the_others() -> None:
    clock = VirtualClock()
    pacer = Pacer(clock, 8 * MBPS)
    steady = Stream(clock, [pacer])
    steady.go()
    for _ in range(200):  # a stream of each 50 ms, that lives for 100 ms
        coming = [Stream(clock, [pacer]) for _ in range(2)]
        for stream in coming:
            stream.go()
        clock.go_on(0.05)
        for stream in coming:
            stream.gate.close()
    assert steady.passed >= 8 * MBPS * 10 / 3 * 0.8
    assert pacer.users == 1


def test_the_lowest_of_several_limits_holds() -> None:
    clock = VirtualClock(lambda: 0.001)
    group = Pacer(clock, 10 * MBPS)
    slow = [Stream(clock, [Pacer(clock, 1 * MBPS), group]) for _ in range(4)]
    fast = [Stream(clock, [Pacer(clock, 100 * MBPS), group]) for _ in range(2)]
    for stream in slow + fast:
        stream.go()
    clock.go_on(4)
    for stream in slow:
        assert stream.passed == pytest.approx(1 * MBPS * 4, rel=0.05)
    for stream in fast:  # what the slow ones leave
        assert stream.passed == pytest.approx(3 * MBPS * 4, rel=0.05)


def test_the_rate_changes_for_those_who_wait() -> None:
    clock = VirtualClock()
    pacer = Pacer(clock, 0.1 * MBPS)
    stream = Stream(clock, [pacer])
    stream.go()
    clock.go_on(2)
    before = stream.passed
    pacer.set_rate(50 * MBPS)
    clock.go_on(2)
    assert stream.passed - before == pytest.approx(50 * MBPS * 2, rel=0.05)
    before = stream.passed
    pacer.set_rate(1 * MBPS)
    clock.go_on(2)
    assert stream.passed - before == pytest.approx(1 * MBPS * 2, rel=0.05)
    assert pacer.rate == 1 * MBPS
    assert clock.pending == 1


def test_a_limit_that_is_lifted_lets_everybody_go() -> None:
    clock = VirtualClock()
    pacer = Pacer(clock, 0.1 * MBPS)
    woken: list[int] = []
    gates = [Gate([pacer], lambda: woken.append(1)) for _ in range(3)]
    for gate in gates:
        while gate.take(1 << 20):
            pass
    pacer.set_rate(0)
    clock.go_on(0.01)
    assert len(woken) == 3
    assert all(gate.take(1 << 20) for gate in gates)
    assert not clock.pending


def test_what_ends_leaves_nothing() -> None:
    clock = VirtualClock()
    pacer = Pacer(clock, 1 * MBPS)
    streams = [Stream(clock, [pacer]) for _ in range(5)]
    for stream in streams:
        stream.go()
    assert clock.pending == 1
    assert not pacer.is_new
    for stream in streams[:4]:
        stream.gate.close()
    assert clock.pending == 1
    clock.go_on(0.05)
    passed = [stream.passed for stream in streams]
    clock.go_on(1)
    assert [stream.passed for stream in streams[:4]] == passed[:4]
    assert streams[4].passed > passed[4]
    streams[4].gate.close()
    streams[4].gate.close()
    assert not clock.pending
    assert not pacer.users
    clock.go_on(0.1)
    assert pacer.is_new


def test_what_was_granted_and_did_not_pass_is_there_for_the_next() -> None:
    clock = VirtualClock()
    pacer = Pacer(clock, 8 * MBPS)
    gate = Gate([pacer], lambda: None)
    clock.go_on(1)
    assert gate.take(10_000) == 10_000
    gate.give_back(3000)
    assert gate.take(2000) == 2000
    gate.close()
    assert Gate([pacer], lambda: None).take(1000) == 1000


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0.1, 1.0, 8.0, 100.0]), min_size=1, max_size=2),
    st.lists(
        st.tuples(
            st.sampled_from(["open", "close", "rate", "wait", "wait"]),
            st.integers(0, 9),
            st.sampled_from([0.2, 2.0, 40.0]),
        ),
        max_size=40,
    ),
)
def test_any_life(limits: list[float], events: list[tuple[str, int, float]]) -> None:
    """Never more than rate x time + burst through a pacer; nobody who waits starves; no timer is left."""
    clock = VirtualClock()
    pacers = [Pacer(clock, mbps * MBPS) for mbps in limits]
    fastest = [pacer.rate for pacer in pacers]
    streams: list[Stream] = []
    passed: list[tuple[float, int]] = []
    for event, number, value in events:
        if event == "open":
            stream = Stream(clock, pacers, [100, 5000, 256_000][number % 3])
            streams.append(stream)
            stream.go()
        elif event == "close" and streams:
            stream = streams.pop(number % len(streams))
            stream.gate.close()
            passed += stream.log
        elif event == "rate":
            pacer = number % len(pacers)
            pacers[pacer].set_rate(value * MBPS)
            fastest[pacer] = max(fastest[pacer], value * MBPS)
        else:
            clock.go_on(value / 10)
    elapsed = clock.now - 1000.0
    total = sum(size for _, size in passed) + sum(stream.passed for stream in streams)
    slowest = min(fastest)
    # A rate that changes leaves no more than a burst behind, each time.
    assert total <= slowest * (elapsed + 0.06 * (1 + len(events))) + 512 * (1 + len(events))
    before = [stream.passed for stream in streams]
    clock.go_on(1 + 1024 * len(streams) / min(pacer.rate for pacer in pacers))
    assert all(stream.passed > old for stream, old in zip(streams, before, strict=True))
    for stream in streams:
        stream.gate.close()
    assert not clock.pending
    assert not any(pacer.users for pacer in pacers)


def test_one_who_reads_no_more_than_may_pass() -> None:
    clock = VirtualClock()
    group = Pacer(clock, 8 * MBPS)
    metered = [Metered([group]), Metered([Pacer(clock, 1 * MBPS), group])]
    passed = [0, 0]

    def go_on(number: int) -> None:
        one = metered[number]
        while size := one.allowed(1 << 20):
            taken = min(size, 3000)  # the rest is allowed again
            one.passed(taken)
            passed[number] += taken
            one.allowed(1 << 20)  # and nothing was there to read

    for number, one in enumerate(metered):
        one.tell(partial(clock.call_later, 0.001, partial(go_on, number)))
        go_on(number)
    clock.go_on(4)
    assert sum(passed) == pytest.approx(8 * MBPS * 4, rel=0.03)
    assert passed[1] == pytest.approx(1 * MBPS * 4, rel=0.05)
    for one in metered:
        one.close()
    assert not group.users
