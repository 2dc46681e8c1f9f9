"""The table: routes in, the first that matches out.

Each route becomes one candidate for each of its path patterns, with a rank that keeps the order of trying.
The candidates are indexed by domain, below that by path and method; a lookup asks the few domains that match
the host for their best and takes the lowest rank. What a match reports is made beforehand but for captures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from prox.routing.domains import DomainIndex, DomainPattern, canonical
from prox.routing.paths import PathIndex, PathPattern, parse

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

T = TypeVar("T")


class RouteMatch(Protocol):
    """What a route asks of a request: `match` in the configuration. What is None or empty asks nothing."""

    @property
    def domain(self) -> str | None:
        """A domain pattern."""
        ...

    @property
    def path(self) -> str | None:
        """Path patterns, separated by commas."""
        ...

    @property
    def methods(self) -> Collection[str] | None:
        """Methods in any case."""
        ...

    @property
    def forward_proxy(self) -> bool | None:
        """True: only requests with an absolute URL in the request line."""
        ...


class Match(Generic[T]):
    """The route that takes a request, and what its patterns stand for.

    It is shared between requests and not to be changed.
    """

    __slots__ = (
        "domain_pattern",
        "index",
        "key",
        "match_domain",
        "match_glob",
        "match_path",
        "prefix",
        "value",
    )

    def __init__(
        self,
        index: int,
        value: T,
        domain_pattern: str = "",
        match_path: str = "",
        prefix: str = "",
        match_domain: str = "",
        match_glob: str = "",
        key: str = "",
    ) -> None:
        self.index = index
        """The place of the route among the routes compiled, from 0."""
        self.value = value
        """What was compiled with the route."""
        self.domain_pattern = domain_pattern
        """The route's domain as it was written, or empty."""
        self.match_path = match_path
        """The one path pattern that matched, or empty."""
        self.prefix = prefix
        """What an action that strips the route's fixed prefix takes off the path: `/api` of `/api/*`."""
        self.match_domain = match_domain
        """What each `*` of the domain stands for, joined by dots, in lower case."""
        self.match_glob = match_glob
        """What the `**` of the domain stands for, in lower case."""
        self.key = key
        """The first capture, by which grouped targets are chosen."""

    def __repr__(self) -> str:
        return (
            f"Match(index={self.index}, match_path={self.match_path!r}, match_domain={self.match_domain!r}, "
            f"match_glob={self.match_glob!r}, prefix={self.prefix!r}, key={self.key!r})"
        )


class _Candidate(Generic[T]):
    """A route with one of its path patterns."""

    __slots__ = ("captures", "match", "rank")

    def __init__(self, rank: int, match: Match[T], captures: DomainPattern | None) -> None:
        self.rank = rank
        self.match = match
        self.captures = captures
        """The domain pattern if it captures anything."""

    def matched(self, host: str) -> Match[T]:
        pattern, match = self.captures, self.match
        if pattern is None:
            return match
        stars, glob = pattern.captures(host)
        return Match(
            match.index,
            match.value,
            match.domain_pattern,
            match.match_path,
            match.prefix,
            ".".join(stars),
            glob,
            stars[0] if stars else glob,
        )


class _Domain(Generic[T]):
    """The candidates of one domain pattern, or of the routes without one.

    `plain` is asked for usual requests and `absolute` for those with an absolute URL. They are one and the
    same where no route of the domain sets forward_proxy, which is nearly everywhere.
    """

    __slots__ = ("absolute", "plain")

    def __init__(self, *, apart: bool) -> None:
        self.plain: PathIndex[_Candidate[T]] = PathIndex()
        self.absolute: PathIndex[_Candidate[T]] = PathIndex() if apart else self.plain


class Table(Generic[T]):
    """Routes compiled by `compile`; immutable."""

    __slots__ = ("_domains", "_everywhere", "_tunnels")

    def __init__(
        self, domains: DomainIndex[_Domain[T]], everywhere: _Domain[T], tunnels: Table[T] | None = None
    ) -> None:
        self._domains = domains
        self._everywhere = everywhere
        self._tunnels = tunnels

    def match(self, host: str, path: str, method: str, absolute: bool = False) -> Match[T] | None:
        """The first route that takes the request, or None.

        Args:
            host: lower case, without port; empty when the request names none (then only routes without a
                domain match). For a request with an absolute URL the host of that URL (RFC 9112 §3.2.2).
            path: decoded once, without the query.
            method: as the client sent it; methods are compared with case (RFC 9110 §9.1).
            absolute: the request line holds an absolute URL. Such a request is taken only by routes that set
                forward_proxy and by routes whose domain names its host, never by one for all hosts.
        """
        everywhere = self._everywhere.absolute if absolute else self._everywhere.plain
        best = everywhere.better(path, method, None)
        if host:
            host = canonical(host)
            for domain in self._domains.find(host):
                paths = domain.absolute if absolute else domain.plain
                if best is None or paths.first < best.rank:
                    best = paths.better(path, method, best)
        return None if best is None else best.matched(host)

    def match_connect(self, host: str) -> Match[T] | None:
        """The first route that takes a CONNECT to `host`, or None.

        Only routes that set forward_proxy or name the method are asked: what passes through a tunnel is seen by no route
        and no guard, so no other may open one to its upstream.
        """
        return None if self._tunnels is None else self._tunnels.match(host, "", "CONNECT")


def compile(routes: Iterable[tuple[RouteMatch | None, T]]) -> Table[T]:  # noqa: A001 - see __init__.py
    """Make the table of `routes`.

    Args:
        routes: in the order of trying, what each matches (None: everything) and the value it stands for.

    Raises:
        prox.config.invalid.InvalidError: (a ValueError) a pattern is malformed, which no checked
            configuration has.
    """
    parsed = [_Route(index, match, value) for index, (match, value) in enumerate(routes)]
    tunnels = [route for route in parsed if route.only_absolute or "CONNECT" in route.methods]
    return _index(parsed, _index(tunnels, connect=True) if tunnels else None)


def _index(routes: list[_Route[T]], tunnels: Table[T] | None = None, *, connect: bool = False) -> Table[T]:
    """The table of these routes; with `connect` forward_proxy asks nothing more of a request."""
    # Equal patterns share an entry, so what an entry needs is known only when all routes were seen.
    absolute = [route for route in routes if route.only_absolute and not connect]
    forward = {route.domain.name for route in absolute if route.domain is not None}
    domains: DomainIndex[_Domain[T]] = DomainIndex()
    everywhere: _Domain[T] = _Domain(apart=True)
    rank = 0
    for route in routes:
        only_absolute = route.only_absolute and not connect
        if route.domain is None:
            indexes = [everywhere.absolute if only_absolute else everywhere.plain]
        else:
            domain = domains.add(route.domain, _Domain(apart=route.domain.name in forward))
            indexes = [domain.absolute]
            if domain.plain is not domain.absolute and not only_absolute:
                indexes.append(domain.plain)
        for path in route.paths:
            candidate = route.candidate(rank, path)
            for index in indexes:
                index.add(path, route.methods, candidate)
            rank += 1
    return Table(domains, everywhere, tunnels)


class _Route(Generic[T]):
    """A route while the table is made."""

    __slots__ = ("domain", "index", "methods", "only_absolute", "paths", "value")

    def __init__(self, index: int, match: RouteMatch | None, value: T) -> None:
        self.index = index
        self.value = value
        self.domain: DomainPattern | None = None
        self.paths: list[PathPattern | None] = [None]
        self.methods: frozenset[str] = frozenset()
        self.only_absolute = False
        if match is not None:
            self.domain = DomainPattern(match.domain) if match.domain else None
            self.paths = [*parse(match.path)] or [None]
            self.methods = frozenset(method.upper() for method in match.methods or ())
            self.only_absolute = bool(match.forward_proxy)

    def candidate(self, rank: int, path: PathPattern | None) -> _Candidate[T]:
        domain = self.domain
        match = Match(
            self.index,
            self.value,
            "" if domain is None else domain.text,
            "" if path is None else path.text,
            "" if path is None else path.fixed,
        )
        return _Candidate(rank, match, None if domain is None or domain.exact else domain)
