from __future__ import annotations

import pytest

from prox.observe.counters import BOUNDS, Counters


def test_requests_by_class_with_bytes_and_latency() -> None:
    counters = Counters()
    counters.request(200, 0.0001, 10, 100)
    counters.request(204, 0.0005, 0, 0)
    counters.request(503, 60.0, 1, 2)
    counters.request(0, 0.3, 0, 0)
    assert counters.statuses == [1, 0, 2, 0, 0, 1]
    assert counters.requests == 4
    assert (counters.bytes_in, counters.bytes_out) == (11, 102)
    assert counters.latency.counts[0] == 2
    assert counters.latency.counts[BOUNDS.index(0.5)] == 1
    assert counters.latency.counts[-1] == 1
    assert counters.latency.sum == pytest.approx(60.3006)


def test_connections() -> None:
    counters = Counters()
    counters.opened()
    counters.opened()
    counters.closed()
    assert (counters.active, counters.connections) == (1, 2)


def test_sum_of_workers() -> None:
    one, two = Counters(), Counters()
    for counters in (one, two):
        counters.opened()
        counters.request(404, 0.002, 1, 2)
        counters.upstream_failed("refused")
    two.upstream_failed("reset")
    one.add(two)
    assert (one.active, one.connections, one.requests, one.bytes_in, one.bytes_out) == (2, 2, 2, 2, 4)
    assert one.statuses[4] == one.latency.count == 2
    assert one.latency.sum == pytest.approx(0.004)
    assert {fault: count for fault, count in one.upstream_faults.items() if count} == {
        "refused": 2,
        "reset": 1,
    }
    assert two.requests == 1
