"""What a match costs in tables of 10,000 routes, by shape of the table. Prints microseconds a match.

Run: python bench/routing.py
"""

from __future__ import annotations

import time
import timeit
from dataclasses import dataclass

from prox import routing

ROUTES = 10_000
CALLS = 20_000
REPEATS = 5


@dataclass(frozen=True)
class Rule:
    """What a route matches."""

    domain: str | None = None
    path: str | None = None
    methods: tuple[str, ...] | None = None
    forward_proxy: bool | None = None


TABLES: dict[str, tuple[list[Rule], str, str]] = {
    "exact domains": (
        [Rule(f"h{i}.example.com") for i in range(ROUTES)],
        f"h{ROUTES - 1}.example.com",
        "/index.html",
    ),
    "exact domains, ten prefixes each": (
        [Rule(f"h{i // 10}.example.com", f"/api{i % 10}/*") for i in range(ROUTES)],
        f"h{ROUTES // 10 - 1}.example.com",
        "/api9/users/7/orders",
    ),
    "one domain, prefixes": (
        [Rule("api.example.com", f"/svc{i}/v1/*") for i in range(ROUTES)],
        "api.example.com",
        f"/svc{ROUTES - 1}/v1/users/7",
    ),
    "one domain, exact paths": (
        [Rule("api.example.com", f"/svc{i}/v1") for i in range(ROUTES)],
        "api.example.com",
        f"/svc{ROUTES - 1}/v1",
    ),
    "* for a label": (
        [Rule(f"*.customer{i}.example.com") for i in range(ROUTES)],
        f"app.customer{ROUTES - 1}.example.com",
        "/index.html",
    ),
    "* for part of a label": (
        [Rule(f"app{i}-*.example.com", "/v1/*") for i in range(ROUTES)],
        f"app{ROUTES - 1}-eu.example.com",
        "/v1/users/7",
    ),
    "** at the end": (
        [Rule(f"*.customer{i}.**") for i in range(ROUTES)],
        f"app.customer{ROUTES - 1}.example.com",
        "/index.html",
    ),
    "all shapes mixed": (
        [
            (
                Rule(f"h{i}.example.com"),
                Rule(f"*.customer{i}.example.com", "/v1/*,/v2/*"),
                Rule(f"app{i}-*.example.com", methods=("GET",)),
                Rule(None, f"/svc{i}/*"),
                Rule(f"customer{i}.**", f"/svc{i}/a,/svc{i}/b/*"),
            )[i % 5]
            for i in range(ROUTES)
        ],
        f"app.customer{ROUTES - 4}.example.com",
        "/v2/users/7",
    ),
}


def main() -> None:
    """Time each table: the last route that it can find, and a host that it does not know."""
    print(f"{'table of 10,000 routes':34}{'hit':>8}{'miss':>8}  microseconds a match; built in")
    for name, (rules, host, path) in TABLES.items():
        began = time.perf_counter()
        table = routing.compile((rule, None) for rule in rules)
        built = time.perf_counter() - began
        found = table.match(host, path, "GET")
        assert found is not None
        assert found.index >= ROUTES - 5
        assert table.match("app.nobody.example.org", "/none", "GET") is None
        hit = timeit.repeat(lambda: table.match(host, path, "GET"), number=CALLS, repeat=REPEATS)  # noqa: B023 - called now
        miss = timeit.repeat(
            lambda: table.match("app.nobody.example.org", "/none", "GET"),  # noqa: B023 - called now
            number=CALLS,
            repeat=REPEATS,
        )
        print(f"{name:34}{min(hit) / CALLS * 1e6:8.2f}{min(miss) / CALLS * 1e6:8.2f}  {built * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
