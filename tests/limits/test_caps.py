"""Counting connections: by service and by client, whatever order they come and go in."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from prox.limits import ConnectionCaps

CONNECTIONS, PER_CLIENT = "max_connections", "max_connections_per_client"
IPS = ["10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", ""]


def client(ip: str) -> str:
    return "2001:db8::/64" if ip in {"2001:db8::1", "2001:db8::2"} else ip


def capped(most: int = 0, most_per_client: int = 0) -> ConnectionCaps:
    caps = ConnectionCaps()
    caps.configure(most, most_per_client)
    return caps


def test_without_limits_everything_is_counted_and_nothing_refused() -> None:
    caps = capped()
    assert [caps.take("10.0.0.1") for _ in range(1000)] == [""] * 1000
    assert caps.open == caps.of("10.0.0.1") == 1000


def test_the_limit_of_a_service() -> None:
    caps = capped(most=2)
    assert [caps.take(ip) for ip in IPS[:3]] == ["", "", CONNECTIONS]
    caps.release(IPS[0])
    assert caps.take(IPS[2]) == ""


def test_the_limit_of_a_client() -> None:
    caps = capped(most_per_client=1)
    assert [caps.take("10.0.0.1"), caps.take("10.0.0.1"), caps.take("10.0.0.2")] == ["", PER_CLIENT, ""]


def test_a_client_of_ipv6_is_its_network() -> None:
    caps = capped(most_per_client=1)
    assert [caps.take("2001:db8::1"), caps.take("2001:db8::2"), caps.take("2001:db8:0:1::1")] == [
        "",
        PER_CLIENT,
        "",
    ]


def test_unix_sockets_and_trusted_proxies_are_no_clients() -> None:
    caps = ConnectionCaps()
    caps.configure(5, 1, lambda ip: ip == "10.0.0.1")
    assert [caps.take("10.0.0.1"), caps.take("10.0.0.1"), caps.take(""), caps.take("")] == [""] * 4
    assert [caps.take("10.0.0.2"), caps.take("10.0.0.1")] == ["", CONNECTIONS]


def test_a_limit_that_comes_later_knows_what_is_open() -> None:
    caps = capped()
    for _ in range(3):
        caps.take("10.0.0.1")
    caps.configure(0, 2)
    assert caps.take("10.0.0.1") == PER_CLIENT
    caps.release("10.0.0.1")
    assert caps.take("10.0.0.1") == PER_CLIENT
    caps.release("10.0.0.1")
    assert caps.take("10.0.0.1") == ""


@given(
    st.lists(
        st.tuples(st.sampled_from(["come", "go", "configure"]), st.sampled_from(IPS), st.integers(0, 4)),
        max_size=60,
    )
)
def test_any_order(steps: list[tuple[str, str, int]]) -> None:
    caps = ConnectionCaps()
    most, most_per_client = 0, 0
    here: list[str] = []
    for step, ip, number in steps:
        by_client = Counter(map(client, here))
        if step == "configure":
            most, most_per_client = number, 4 - number
            caps.configure(most, most_per_client)
        elif step == "go":
            if ip in here:
                here.remove(ip)
                caps.release(ip)
        else:
            full = bool(most) and len(here) >= most
            full_for_client = bool(ip and most_per_client) and by_client[client(ip)] >= most_per_client
            expected = CONNECTIONS if full else PER_CLIENT if full_for_client else ""
            assert caps.take(ip) == expected
            if not expected:
                here.append(ip)
        assert caps.open == len(here)
        assert all(caps.of(ip) == Counter(map(client, here))[client(ip)] for ip in IPS)
