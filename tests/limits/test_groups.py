"""Groups come with their first connection and go with their last; limits of one connection do not pile up."""

from __future__ import annotations

from prox.limits import MBPS, Gate, Groups, OwnLimits, Rates, lowest, megabits
from support.virtual_clock import VirtualClock


def test_the_lowest_that_is_one() -> None:
    assert lowest(megabits(0, 5), megabits(3, 7)) == megabits(3, 5)
    assert lowest(Rates(), Rates()) == Rates()
    assert not Rates()
    assert megabits(0, 1)
    assert repr(megabits(8, 0.5)) == "Rates(8 Mbps down, 0.5 Mbps up)"
    assert len({megabits(1, 2), Rates(MBPS, 2 * MBPS)}) == 1


def test_a_group_is_made_with_the_first_connection_and_ends_with_the_last() -> None:
    clock, groups = VirtualClock(), Groups()
    first = groups.enter("g", megabits(10, 0), megabits(4, 3), clock)
    assert (first.pair.download.rate, first.pair.upload.rate) == (4 * MBPS, 3 * MBPS)
    assert groups.enter("g", megabits(1, 1), Rates(), clock) is first
    assert (first.pair.download.rate, first.pair.upload.rate) == (4 * MBPS, 3 * MBPS)
    assert len(groups) == 1
    groups.leave(first)
    assert groups.find("g") is first
    groups.leave(first)
    assert groups.find("g") is None
    assert len(groups) == 0
    again = groups.enter("g", megabits(1, 1), Rates(), clock)
    assert (again.pair.download.rate, again.pair.upload.rate) == (MBPS, MBPS)


def test_a_push_changes_live_rates_and_a_zero_takes_it_back() -> None:
    clock, groups = VirtualClock(), Groups()
    groups.push("g", megabits(9, 9))  # nobody is in it
    group = groups.enter("g", megabits(10, 0), Rates(), clock)
    groups.push("g", megabits(20, 5))
    assert (group.pair.download.rate, group.pair.upload.rate) == (20 * MBPS, 5 * MBPS)
    groups.push("g", megabits(0, 2))
    assert (group.pair.download.rate, group.pair.upload.rate) == (10 * MBPS, 2 * MBPS)
    groups.push("g", Rates())
    assert (group.pair.download.rate, group.pair.upload.rate) == (10 * MBPS, 0)


def test_coming_and_going_is_no_way_around_a_limit() -> None:
    clock, groups = VirtualClock(), Groups()
    passed = 0
    for _ in range(1000):
        group = groups.enter("g", megabits(1, 0), Rates(), clock)
        gate = Gate([group.pair.download], lambda: None)
        passed += gate.take(512)
        gate.close()
        groups.leave(group)
        clock.go_on(0.001)
    assert passed <= 1 * MBPS * 1 + 0.06 * MBPS


def test_groups_that_have_gone_are_forgotten() -> None:
    clock, groups = VirtualClock(), Groups()
    for number in range(5000):
        group = groups.enter(f"g{number}", megabits(1, 1), Rates(), clock)
        gate = Gate([group.pair.download], lambda: None)
        assert gate.take(100)
        gate.close()
        groups.leave(group)
        clock.go_on(0.01)
    assert len(groups._groups) < 10
    assert len(groups._left) < 10


def test_a_connection_has_one_limit_for_each_rate_under_a_route() -> None:
    clock, own = VirtualClock(), OwnLimits()
    one = own.get(clock, ("route", "down"), MBPS)
    assert own.get(clock, ("route", "down"), MBPS) is one
    assert own.get(clock, ("route", "up"), MBPS) is not one
    assert own.get(clock, ("other", "down"), MBPS) is not one
    gate = Gate([one], lambda: None)
    for rate in range(2, 500):
        own.get(clock, ("route", "down"), rate * MBPS)
    assert len(own._pacers) <= 9
    assert own.get(clock, ("route", "down"), MBPS) is one  # which is in use
    gate.close()
