"""Groups, swaps, and counts that survive whatever is replaced."""

from __future__ import annotations

import gc
import random
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from prox.balancing import KINDS, Balancer, Kind, Target, make

A, B, C, D = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"


def balancer(kind: Kind = "roundrobin", *targets: str, fallback: bool = False) -> Balancer:
    return make(kind, targets, fallback=fallback, random=random.Random(1).random)


def picks(source: Balancer, key: str, times: int = 1) -> list[str | None]:
    found = [source.pick(key) for _ in range(times)]
    return [None if target is None else target.address for target in found]


class TestGroups:
    def test_before_any_are_pushed_the_key_does_not_matter(self) -> None:
        assert picks(balancer("roundrobin", A, B), "eu", 2) == [A, B]

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_key_chooses_its_group(self, kind: Kind) -> None:
        source = balancer(kind, D)
        source.set_groups({"eu": [A, B], "us": [C]})
        assert set(picks(source, "eu", 20)) == {A, B}
        assert set(picks(source, "us", 3)) == {C}

    def test_each_group_has_its_own_turn(self) -> None:
        source = balancer()
        source.set_groups({"eu": [A, B], "us": [C, D]})
        assert picks(source, "eu") + picks(source, "us") + picks(source, "eu") + picks(source, "us") == [
            A,
            C,
            B,
            D,
        ]

    @pytest.mark.parametrize("key", ["asia", "empty"])
    def test_unknown_or_empty_gives_none(self, key: str) -> None:
        source = balancer("roundrobin", D)
        source.set_groups({"eu": [A], "empty": []})
        assert source.pick(key) is None

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("key", ["asia", "empty"])
    def test_with_fallback_a_random_one_of_all_groups(self, kind: Kind, key: str) -> None:
        source = balancer(kind, D, fallback=True)
        source.set_groups({"eu": [A, B], "us": [B, C], "empty": []})
        counts = Counter(picks(source, key, 3000))
        assert set(counts) == {A, B, C}
        assert all(900 < count < 1100 for count in counts.values())

    def test_fallback_of_empty_groups_is_none(self) -> None:
        source = balancer("roundrobin", D, fallback=True)
        source.set_groups({"empty": []})
        assert source.pick("empty") is None
        assert source.pick("asia") is None

    def test_the_empty_key_uses_the_flat_list(self) -> None:
        source = balancer("roundrobin", D)
        source.set_groups({"eu": [A], "": [B]})
        assert picks(source, "", 2) == [D, D]

    def test_the_empty_key_with_an_empty_flat_list_is_none_even_with_fallback(self) -> None:
        source = balancer(fallback=True)
        source.set_groups({"eu": [A]})
        assert source.pick() is None

    def test_a_push_replaces_the_whole_map(self) -> None:
        source = balancer()
        source.set_groups({"eu": [A], "us": [C]})
        source.set_groups({"us": [D]})
        assert picks(source, "eu") == [None]
        assert picks(source, "us") == [D]

    def test_an_empty_map_leaves_no_key_known(self) -> None:
        source = balancer("roundrobin", D)
        source.set_groups({})
        assert picks(source, "eu") == [None]
        assert picks(source, "") == [D]

    def test_groups_and_the_flat_list_are_apart(self) -> None:
        source = balancer("roundrobin", A)
        source.set_groups({"eu": [B]})
        source.set_targets([C])
        assert picks(source, "eu") == [B]
        assert picks(source, "") == [C]

    def test_the_same_push_again_keeps_the_turn(self) -> None:
        source = balancer()
        seen: list[str | None] = []
        for _ in range(4):
            source.set_groups({"eu": [A, B]})
            seen += picks(source, "eu")
        assert seen == [A, B, A, B]

    def test_leastconn_sees_connections_of_all_lists(self) -> None:
        source = balancer("leastconn", A, B)
        source.set_groups({"eu": [A, C]})
        assert picks(source, "") == [A]
        assert picks(source, "eu") == [C]
        assert picks(source, "") == [B]


class TestSwaps:
    @pytest.mark.parametrize("kind", KINDS)
    def test_counted_down_where_it_was_opened(self, kind: Kind) -> None:
        source = balancer(kind, A)
        held = source.pick()
        assert held is not None
        source.set_targets([B])
        source.set_targets([A, B])
        again = source._flat.targets[0]
        assert again is held
        assert again.open == 1
        source.release(held)
        assert again.open == 0

    def test_a_target_that_is_gone_is_forgotten_after_its_last_connection(self) -> None:
        source = balancer("leastconn", A)
        held = source.pick()
        assert held is not None
        source.set_targets([])
        held.release()
        del held
        gc.collect()
        assert not list(source._known)

    def test_one_bad_address_changes_nothing(self) -> None:
        source = balancer("roundrobin", A)
        source.set_groups({"eu": [B]})
        before = source.snapshot()
        with pytest.raises(ValueError, match="no-port:x"):
            source.set_targets([C, "no-port:x"])
        with pytest.raises(ValueError, match="no-port:x"):
            source.set_groups({"eu": [C], "us": ["no-port:x"]})
        assert source.snapshot() == before

    def test_an_address_that_stands_twice_counts_once(self) -> None:
        source = balancer("roundrobin", A, B, A)
        assert picks(source, "", 4) == [A, B, A, B]

    def test_another_strategy_under_the_same_counts(self) -> None:
        source = balancer("roundrobin", A, B)
        source.set_groups({"eu": [A, C]})
        assert picks(source, "", 3) == [A, B, A]
        assert source.pick("us") is None
        source.reconfigure("leastconn", fallback=True)
        assert picks(source, "") == [B]
        assert picks(source, "eu") == [C]
        assert source.pick("us") is not None
        assert source.snapshot() == {"type": "leastconn", "targets": [A, B], "groups": {"eu": [A, C]}}
        source = balancer("leastconn", A, B)
        held = [source.pick() for _ in range(3)]
        source.reconfigure("roundrobin", fallback=False)
        for target in held:
            assert target is not None
            target.release()
            assert not target.watchers
        assert [target and target.open for target in held] == [0, 0, 0]
        assert picks(source, "", 2) == [A, B]


def test_snapshot() -> None:
    source = balancer("random", A, B)
    assert source.snapshot() == {"type": "random", "targets": [A, B]}
    source.set_groups({"eu": [C], "none": []})
    assert source.snapshot() == {"type": "random", "targets": [A, B], "groups": {"eu": [C], "none": []}}


ADDRESSES = st.lists(st.sampled_from([A, B, C, D]), max_size=4, unique=True)
KEYS = st.sampled_from(["", "eu", "us", "asia"])


class Counts(RuleBasedStateMachine):
    """Picks, releases, pushes and changes of strategy in any order; a plain model keeps the books."""

    source: Balancer

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Target] = []
        self.open: Counter[str] = Counter()
        self.flat: list[str] = []
        self.groups: dict[str, list[str]] | None = None

    @initialize(kind=st.sampled_from(KINDS), flat=ADDRESSES, fallback=st.booleans(), seed=st.integers(0, 99))
    def begin(self, kind: Kind, flat: list[str], fallback: bool, seed: int) -> None:
        self.source = make(kind, flat, fallback=fallback, random=random.Random(seed).random, start=seed)
        self.flat = flat

    @rule(key=KEYS)
    def pick(self, key: str) -> None:
        candidates = self.flat
        grouped = self.groups is not None and bool(key)
        if grouped:
            candidates = (self.groups or {}).get(key, [])
        kind = self.source.kind
        if not candidates and grouped and self.source.fallback:
            candidates = sorted({address for group in (self.groups or {}).values() for address in group})
            kind = "random"
        target = self.source.pick(key)
        assert (target is None) == (not candidates)
        if target is None:
            return
        assert target.address in candidates
        if kind == "leastconn":
            assert target.address == min(candidates, key=self.open.__getitem__)
        self.held.append(target)
        self.open[target.address] += 1

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        target = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.open[target.address] -= 1
        self.source.release(target)

    @rule(flat=ADDRESSES)
    def push(self, flat: list[str]) -> None:
        self.source.set_targets(flat)
        self.flat = flat

    @rule(groups=st.dictionaries(KEYS, ADDRESSES, max_size=3))
    def push_groups(self, groups: dict[str, list[str]]) -> None:
        self.source.set_groups(groups)
        self.groups = groups

    @rule(kind=st.sampled_from(KINDS), fallback=st.booleans())
    def reload(self, kind: Kind, fallback: bool) -> None:
        self.source.reconfigure(kind, fallback=fallback)

    @invariant()
    def counts_agree(self) -> None:
        known = {target.address: target for target in self.held}
        lists = [self.source._flat, *(self.source._groups or {}).values()]
        for targets in lists:
            for target in targets.targets:
                assert known.setdefault(target.address, target) is target
        for address, target in known.items():
            assert target.open == self.open[address]

    @invariant()
    def lists_agree(self) -> None:
        shown = self.source.snapshot()
        assert shown["targets"] == self.flat
        assert shown.get("groups") == self.groups


TestCounts = Counts.TestCase
TestCounts.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
