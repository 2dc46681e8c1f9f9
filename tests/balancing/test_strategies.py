"""Each strategy's choice, as users can count it."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prox.balancing import KINDS, Balancer, HealthBook, Kind, Target, make

A, B, C, D = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"


def balancer(kind: Kind, *targets: str, start: int = 0) -> Balancer:
    return make(kind, targets, random=random.Random(1).random, start=start)


def take(source: Balancer, times: int) -> list[str]:
    """Picks, none of which is released."""
    return [picked.address for _ in range(times) if (picked := source.pick()) is not None]


@pytest.mark.parametrize("kind", KINDS)
def test_no_targets_no_target(kind: Kind) -> None:
    empty = balancer(kind)
    assert empty.pick() is None
    empty.set_targets([A])
    assert take(empty, 2) == [A, A]
    empty.set_targets([])
    assert empty.pick() is None


class TestRoundRobin:
    def test_strictly_in_turn_from_the_first(self) -> None:
        assert take(balancer("roundrobin", A, B, C), 7) == [A, B, C, A, B, C, A]

    @pytest.mark.parametrize(
        ("start", "expected"), [(1, [B, C, A]), (2, [C, A, B]), (3, [A, B, C]), (1000, [B, C, A])]
    )
    def test_a_worker_starts_elsewhere(self, start: int, expected: list[str]) -> None:
        assert take(balancer("roundrobin", A, B, C, start=start), 3) == expected

    def test_the_start_holds_for_a_list_that_comes_later(self) -> None:
        source = balancer("roundrobin", start=1)
        source.set_targets([A, B, C])
        assert take(source, 3) == [B, C, A]

    def test_the_same_list_again_changes_nothing(self) -> None:
        source = balancer("roundrobin", A, B, C)
        seen = []
        for _ in range(6):
            seen += take(source, 1)
            source.set_targets([A, B, C])
        assert seen == [A, B, C, A, B, C]

    def test_another_list_goes_on_with_the_one_whose_turn_it_is(self) -> None:
        source = balancer("roundrobin", A, B, C)
        take(source, 1)
        source.set_targets([C, D, B, A])
        assert take(source, 4) == [B, A, C, D]

    def test_after_the_last_the_first_has_its_turn(self) -> None:
        source = balancer("roundrobin", A, B)
        take(source, 2)
        source.set_targets([C, A, B])
        assert take(source, 3) == [A, B, C]

    def test_a_shorter_list_without_it_is_gone_through_too(self) -> None:
        source = balancer("roundrobin", A, B, C)
        take(source, 2)
        source.set_targets([A, B])
        assert sorted(take(source, 2)) == [A, B]


class TestRandom:
    def test_each_about_as_often(self) -> None:
        counts = Counter(take(balancer("random", A, B, C, D), 4000))
        assert set(counts) == {A, B, C, D}
        assert all(900 < count < 1100 for count in counts.values())

    @pytest.mark.parametrize(("number", "expected"), [(0.0, A), (0.4999, A), (0.5, B), (1 - 2**-53, B)])
    def test_the_number_given_decides(self, number: float, expected: str) -> None:
        assert take(make("random", [A, B], random=lambda: number), 1) == [expected]


class TestLeastConn:
    def test_the_fewest_and_the_first_of_equals(self) -> None:
        source = balancer("leastconn", A, B, C)
        first, second, third = (source.pick() for _ in range(3))
        assert [picked and picked.address for picked in (first, second, third)] == [A, B, C]
        assert take(source, 1) == [A]
        assert third is not None
        source.release(third)
        assert take(source, 2) == [C, B]

    def test_a_target_that_comes_new_is_filled_first(self) -> None:
        source = balancer("leastconn", A)
        take(source, 3)
        source.set_targets([A, B])
        assert take(source, 5) == [B, B, B, A, B]

    @given(st.lists(st.integers(-1, 40), max_size=60), st.integers(1, 5))
    def test_agrees_with_a_scan(self, steps: list[int], size: int) -> None:
        addresses = [f"10.0.0.{number}:80" for number in range(size)]
        source = balancer("leastconn", *addresses)
        counts = dict.fromkeys(addresses, 0)
        held: list[Target] = []
        for step in steps:
            if step >= 0 and held:
                ended = held.pop(step % len(held))
                source.release(ended)
                counts[ended.address] -= 1
                continue
            picked = source.pick()
            assert picked is not None
            assert picked.address == min(addresses, key=counts.__getitem__)
            counts[picked.address] += 1
            held.append(picked)


class TestTarget:
    @pytest.mark.parametrize(
        ("address", "host", "port"),
        [
            ("10.0.0.1:80", "10.0.0.1", 80),
            ("shop.internal:8080", "shop.internal", 8080),
            ("[::1]:80", "::1", 80),
            ("shop", "shop", 0),
            ("[::1]", "::1", 0),
            ("https://shop", "shop", 443),
            ("http://[::1]:8080", "::1", 8080),
        ],
    )
    def test_parts(self, address: str, host: str, port: int) -> None:
        target = Target(address, HealthBook())
        assert (target.address, target.host, target.port, target.open) == (address, host, port, 0)
        assert repr(target) == f"Target({address!r}, open=0)"

    @pytest.mark.parametrize("address", ["", "a:0", "a:65536", "::1:80", "a b:1", "http://a/path", "a:x"])
    def test_malformed(self, address: str) -> None:
        with pytest.raises(ValueError, match="target"):
            Target(address, HealthBook())
