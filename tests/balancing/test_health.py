"""Targets that can't be reached are left out for a growing while, and come back by one request."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from prox.balancing import KINDS, Balancer, HealthBook, Kind, Target, make

A, B, C = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"


def balancer(kind: Kind, *targets: str, book: HealthBook | None = None, fallback: bool = False) -> Balancer:
    return make(kind, targets, random=random.Random(1).random, book=book, fallback=fallback)


def pick(source: Balancer, now: float, key: str = "") -> Target:
    target = source.pick(key, now)
    assert target is not None
    return target


def fail(source: Balancer, address: str, now: float) -> None:
    """Let a request meet a target that can't be reached."""
    others = []
    while (target := pick(source, now)).address != address:
        others.append(target)
        assert len(others) < 100, f"{address} is not chosen"
    target.failed(now)
    for used in (target, *others):
        used.release()


def chosen(source: Balancer, now: float, times: int = 30, key: str = "") -> set[str]:
    """What so many requests get at a time."""
    targets = [pick(source, now, key) for _ in range(times)]
    for target in targets:
        target.release()
    return {target.address for target in targets}


@pytest.mark.parametrize("kind", KINDS)
class TestAnyStrategy:
    def test_left_out_then_tried_by_one_request_then_back(self, kind: Kind) -> None:
        source = balancer(kind, A, B, C)
        fail(source, B, 100.0)
        assert chosen(source, 100.9) == {A, C}
        tried = pick(source, 101.0)
        assert tried.address == B
        assert {pick(source, 101.0).address for _ in range(4)} == {A, C}
        tried.reached()
        assert chosen(source, 101.0, 90) == {A, B, C}

    def test_the_time_doubles_up_to_the_longest(self, kind: Kind) -> None:
        book = HealthBook(1, 5)
        source = balancer(kind, A, B, book=book)
        fail(source, A, 0.0)
        now = 0.0
        for delay in (1, 2, 4, 5, 5):
            assert chosen(source, now + delay - 0.01) == {B}
            now += delay
            fail(source, A, now)

    def test_after_a_success_it_begins_anew(self, kind: Kind) -> None:
        source = balancer(kind, A, B)
        for now in (0.0, 1.0, 3.0):
            fail(source, A, now)
        tried = pick(source, 7.0)
        tried.reached()
        tried.release()
        fail(source, A, 8.0)
        assert chosen(source, 8.9) == {B}
        assert pick(source, 9.0).address == A

    def test_those_that_were_under_way_count_as_one_failure(self, kind: Kind) -> None:
        source = balancer(kind, A, B)
        under_way = [target for target in (pick(source, 0.0) for _ in range(40)) if target.address == A]
        assert len(under_way) > 1
        for target in under_way:
            target.failed(0.5)
            target.release()
        assert pick(source, 1.5).address == A

    def test_a_request_that_did_not_get_so_far_lets_the_next_try(self, kind: Kind) -> None:
        source = balancer(kind, A, B)
        fail(source, A, 0.0)
        cancelled = pick(source, 1.0)
        assert cancelled.address == A
        cancelled.release()
        assert pick(source, 1.0).address == A

    def test_the_only_target_is_never_left_out(self, kind: Kind) -> None:
        source = balancer(kind, A)
        for now in range(5):
            fail(source, A, now)
        assert chosen(source, 5.0) == {A}
        source.set_targets([A, B])
        assert chosen(source, 5.0) == {B}
        source.set_targets([A])
        assert chosen(source, 5.0) == {A}

    def test_all_left_out(self, kind: Kind) -> None:
        source = balancer(kind, A, B)
        fail(source, A, 0.0)
        fail(source, B, 0.5)
        assert source.pick("", 0.9) is None
        assert source.wait("", 0.9) == pytest.approx(0.1)
        assert pick(source, 1.0).address == A  # and tries it
        assert source.pick("", 1.0) is None
        assert source.wait("", 1.0) == 0

    def test_none_at_all_is_another_thing(self, kind: Kind) -> None:
        source = balancer(kind)
        assert source.pick("", 0.0) is None
        assert source.wait("", 0.0) is None
        source.set_groups({"a": [A, B]})
        assert source.wait("unknown", 0.0) is None

    def test_a_push_keeps_what_is_known(self, kind: Kind) -> None:
        source = balancer(kind, A, B)
        fail(source, A, 0.0)
        source.set_targets([C])
        source.set_targets([A, C])
        assert chosen(source, 0.5) == {C}
        source.reset(kind, [A, B], fallback=False)
        assert chosen(source, 0.5) == {B}

    def test_groups(self, kind: Kind) -> None:
        source = balancer(kind, A, B)
        source.set_groups({"one": [A, B], "only": [A]})
        fail(source, A, 0.0)
        assert chosen(source, 0.5, key="one") == {B}
        assert chosen(source, 0.5, key="only") == {A}

    def test_a_random_target_of_all_groups_is_one_that_is_well(self, kind: Kind) -> None:
        source = balancer(kind, fallback=True)
        source.set_groups({"one": [A, B], "two": [C]})
        for target in [pick(source, 0.0, "one"), pick(source, 0.0, "one")]:
            if target.address == A:
                target.failed(0.0)
                target.release()
        if not source.book.failing:
            source.book.failed(A, 0.0)
        assert chosen(source, 0.5, 60, key="unknown") == {B, C}
        source.book.failed(B, 0.0)
        source.book.failed(C, 0.0)
        assert source.pick("unknown", 0.5) is None
        assert source.wait("unknown", 0.5) == 0.5

    def test_another_strategy_knows_it_too(self, kind: Kind) -> None:
        source = balancer(kind, A, B)
        fail(source, A, 0.0)
        for other in KINDS:
            source.reconfigure(other, fallback=False)
            assert chosen(source, 0.5) == {B}


def test_a_book_holds_for_all_who_use_it() -> None:
    book = HealthBook()
    one, other = balancer("roundrobin", A, B, book=book), balancer("leastconn", B, A, book=book)
    fail(one, A, 0.0)
    assert chosen(other, 0.5) == {B}
    assert pick(other, 1.0).address == A
    assert chosen(one, 1.0) == {B}


def test_other_times_hold_from_the_next_failure_on() -> None:
    book = HealthBook()
    source = balancer("roundrobin", A, B, book=book)
    fail(source, A, 0.0)
    book.configure(10, 60)
    fail(source, A, 1.0)
    assert chosen(source, 10.9) == {B}
    assert pick(source, 11.0).address == A


def test_it_is_shown() -> None:
    source = balancer("roundrobin", A, B)
    assert "left_out" not in source.snapshot()
    fail(source, B, 0.0)
    assert source.snapshot() == {"type": "roundrobin", "targets": [A, B], "left_out": [B]}


def test_roundrobin_goes_on_in_turn_among_the_others() -> None:
    source = balancer("roundrobin", A, B, C)
    fail(source, A, 0.0)
    assert [pick(source, 0.5).address for _ in range(4)] == [B, C, B, C]


def test_leastconn_comes_back_with_its_count() -> None:
    source = balancer("leastconn", A, B)
    held = [pick(source, 0.0) for _ in range(4)]
    assert Counter(target.address for target in held) == {A: 2, B: 2}
    fail(source, A, 0.0)
    assert [pick(source, 0.5).address for _ in range(3)] == [B, B, B]
    tried = pick(source, 1.0)
    assert tried.address == A
    tried.reached()
    assert [pick(source, 1.0).address for _ in range(3)] == [A, A, A]  # which has 3 of B's 5


def test_addresses_that_come_and_go_are_forgotten() -> None:
    book = HealthBook()
    for number in range(10_000):
        book.failed(f"10.{number >> 8}.{number & 255}.1:80", float(number))
    assert len(book.failing) <= 1024


class Model(RuleBasedStateMachine):
    """Requests to three targets that go up and down, at any times, against what is known of them."""

    @initialize(kind=st.sampled_from(KINDS), count=st.integers(1, 3))
    def begin(self, kind: Kind, count: int) -> None:
        self.book = HealthBook(1, 8)
        self.addresses = [A, B, C][:count]
        self.source = balancer(kind, *self.addresses, book=self.book)
        self.now = 0.0
        self.requests: list[Target] = []
        self.out_since: dict[str, float] = {}

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 2.5, 9.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def request(self) -> None:
        before = {address: failing.trying for address, failing in self.book.failing.items()}
        target = self.source.pick("", self.now)
        if target is None:
            assert len(self.addresses) > 1
            assert set(self.addresses) <= self.book.failing.keys()  # those that were pushed away are kept too
            assert self.source.wait("", self.now) is not None
            return
        if target.address in before and len(self.addresses) > 1:
            assert not before[target.address]  # one at a time
            assert self.now >= self.out_since[target.address] + 1  # and not before its time
        self.requests.append(target)

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), verdict=st.sampled_from(["failed", "reached", "cancelled"]))
    def end(self, data: st.DataObject, verdict: str) -> None:
        target = self.requests.pop(data.draw(st.integers(0, len(self.requests) - 1)))
        if verdict == "failed":
            target.failed(self.now)
            self.out_since.setdefault(target.address, self.now)
        elif verdict == "reached":
            target.reached()
            self.out_since.pop(target.address, None)
        target.release()

    @rule(data=st.data())
    def push(self, data: st.DataObject) -> None:
        self.addresses = data.draw(st.lists(st.sampled_from([A, B, C]), unique=True, min_size=1))
        self.source.set_targets(self.addresses)

    @invariant()
    def counts_and_times_are_right(self) -> None:
        if not hasattr(self, "book"):
            return
        assert self.out_since.keys() == self.book.failing.keys()
        for failing in self.book.failing.values():
            assert failing.delay in {1, 2, 4, 8}
            assert failing.until <= self.now + failing.delay
        open_now = Counter(target.address for target in self.requests)
        for target in self.source._known.values():
            assert target.open == open_now[target.address]


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=30)


@given(st.lists(st.floats(0, 100), min_size=2, max_size=30))
def test_failures_at_any_times_never_shorten_the_delay(times: list[float]) -> None:
    book = HealthBook(1, 30)
    last = 0.0
    for now in sorted(times):
        book.failed(A, now)
        assert book.failing[A].delay >= last
        last = book.failing[A].delay
        assert book.failing[A].until > now or last == 0
