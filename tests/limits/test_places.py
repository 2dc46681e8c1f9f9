"""Places at a target: never more than allowed, in the order of coming, none lost."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from prox.limits import Places

A, B = "10.0.0.1:80", "10.0.0.2:80"


def places(most: int, most_waiting: int = 0) -> Places[str]:
    made: Places[str] = Places()
    assert made.configure(most, most_waiting) == []
    return made


def test_so_many_and_no_more() -> None:
    here = places(2)
    assert [here.take(A) for _ in range(3)] == [True, True, False]
    assert here.take(B)
    assert here.is_full(A)
    assert not here.is_full(B)
    assert not here.wait(A, "late")
    assert here.release(A) is None
    assert here.take(A)


def test_without_a_limit() -> None:
    here = places(0)
    assert all(here.take(A) for _ in range(100))
    assert not here.is_full(A)


def test_who_waits_goes_first_and_in_order() -> None:
    here = places(1, 2)
    assert here.take(A)
    assert [here.wait(A, who) for who in ("first", "second", "third")] == [True, True, False]
    assert here.release(A) == "first"
    assert not here.take(A)
    assert here.release(A) == "second"
    assert here.release(A) is None
    assert here.figures() == {}


def test_who_gives_up_is_not_called() -> None:
    here = places(1, 2)
    here.take(A)
    here.wait(A, "first")
    here.wait(A, "second")
    here.give_up(A, "first")
    here.give_up(A, "nobody")
    here.give_up(B, "nobody")
    assert here.release(A) == "second"


def test_other_limits() -> None:
    here = places(3, 5)
    for _ in range(3):
        here.take(A)
    for who in ("first", "second", "third"):
        here.wait(A, who)
    assert here.configure(1, 5) == []
    assert [here.release(A) for _ in range(3)] == [None, None, "first"]
    assert here.figures() == {A: (1, 2)}
    assert here.configure(2, 0) == ["second"]
    assert not here.wait(A, "fourth")
    assert here.configure(0, 0) == ["third"]
    assert [here.release(A) for _ in range(3)] == [None] * 3
    assert here.figures() == {}


class Model(RuleBasedStateMachine):
    """Two targets and a model of them: lists."""

    @initialize(most=st.integers(1, 3), most_waiting=st.integers(0, 3))
    def begin(self, most: int, most_waiting: int) -> None:
        self.most, self.most_waiting = most, most_waiting
        self.places = Places[int]()
        self.places.configure(most, most_waiting)
        self.inside: dict[str, int] = defaultdict(int)
        self.waiting: dict[str, list[int]] = defaultdict(list)
        self.number = 0

    @rule(address=st.sampled_from([A, B]))
    def come(self, address: str) -> None:
        room = not self.most or self.inside[address] < self.most
        assert self.places.is_full(address) is not room
        assert self.places.take(address) is room
        if room:
            assert not self.waiting[address]
            self.inside[address] += 1
            return
        self.number += 1
        may_wait = len(self.waiting[address]) < self.most_waiting
        assert self.places.wait(address, self.number) is may_wait
        if may_wait:
            self.waiting[address].append(self.number)

    @rule(address=st.sampled_from([A, B]))
    def go(self, address: str) -> None:
        if not self.inside[address]:
            return
        called = self.places.release(address)
        self.inside[address] -= 1
        if self.waiting[address] and (not self.most or self.inside[address] < self.most):
            assert called == self.waiting[address].pop(0)
            self.inside[address] += 1
        else:
            assert called is None

    @rule(address=st.sampled_from([A, B]), place=st.integers(0, 3))
    def give_up(self, address: str, place: int) -> None:
        if place < len(self.waiting[address]):
            self.places.give_up(address, self.waiting[address].pop(place))

    @rule(most=st.integers(0, 4), most_waiting=st.integers(0, 3))
    def configure(self, most: int, most_waiting: int) -> None:
        self.most, self.most_waiting = most, most_waiting
        called = set(self.places.configure(most, most_waiting))
        for address, waiting in self.waiting.items():
            while waiting and (not most or self.inside[address] < most):
                called.remove(waiting.pop(0))
                self.inside[address] += 1
        assert not called

    @invariant()
    def it_knows_those_who_are_here_and_nobody_else(self) -> None:
        if hasattr(self, "places"):
            expected = {
                address: (self.inside[address], len(self.waiting[address]))
                for address in (A, B)
                if self.inside[address] or self.waiting[address]
            }
            assert self.places.figures() == expected


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=40)
