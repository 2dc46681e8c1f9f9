"""Path patterns, and the index of the routes of one domain by path and method.

A pattern is an exact path or a prefix that ends in `/*`; `/api/*` matches all that begins with `/api/`, and
not `/api` itself. Several are separated by commas, and the first of them that matches is the one reported.
The grammar is `prox.config.patterns`.

Prefixes are found by cutting the path after its slashes, no more of them than the deepest prefix has: a path
of thousands of slashes costs no more than a short one.
"""

from __future__ import annotations

import re
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from prox.config.patterns import split_paths

_DOT_SEGMENT: Final = re.compile(r"(?:^|[/\\])\.{1,2}(?:[/\\]|$)")


def has_dot_segments(path: str) -> bool:
    r"""Whether a decoded path holds a segment `.` or `..`, with `\` read as a separator too as some servers do."""
    return "." in path and _DOT_SEGMENT.search(path) is not None


class Ranked(Protocol):
    """Anything with a place in the order of trying."""

    @property
    def rank(self) -> int:
        """The place: the lowest wins. No two are equal."""
        ...


R = TypeVar("R", bound=Ranked)


class PathPattern(NamedTuple):
    """One of the patterns of a `match.path`."""

    text: str
    """As it was written."""
    prefix: bool
    """Whether it ends in `/*`."""

    @property
    def fixed(self) -> str:
        """What an action that strips the route's prefix takes off: `/api` of `/api/*`, nothing of others."""
        return self.text[:-2] if self.prefix else ""


def parse(text: str | None) -> list[PathPattern]:
    """The patterns of a `match.path`, none for None and the empty text.

    Raises:
        prox.config.invalid.InvalidError: (a ValueError) one of them is no path pattern.
    """
    return [PathPattern(path, path.endswith("/*")) for path in split_paths(text)] if text else []


class _Methods(Generic[R]):
    """The best of those that agree in domain and path: for all methods, and by method."""

    __slots__ = ("by_method", "whatever")

    def __init__(self) -> None:
        self.whatever: R | None = None
        self.by_method: dict[str, R] | None = None

    def add(self, methods: frozenset[str], value: R) -> None:
        """Enter `value`, which comes after all that were entered before, so these hide it."""
        if self.whatever is not None:
            return
        if not methods:
            self.whatever = value
            return
        if self.by_method is None:
            self.by_method = {}
        for method in methods:
            self.by_method.setdefault(method, value)

    def better(self, method: str, best: R | None) -> R | None:
        """The one to take for `method`, or `best` if that comes earlier."""
        value = self.whatever
        if value is not None and (best is None or value.rank < best.rank):
            best = value
        if self.by_method is not None:
            value = self.by_method.get(method)
            if value is not None and (best is None or value.rank < best.rank):
                best = value
        return best


class PathIndex(Generic[R]):
    """Values by path pattern and method. They must be added in the order of their rank."""

    __slots__ = ("_all", "_depth", "_exact", "_prefixes", "first")

    def __init__(self) -> None:
        self.first = -1
        """The lowest rank in here: what has a lower one need not ask. -1 while there is none."""
        self._all: _Methods[R] | None = None
        self._exact: dict[str, _Methods[R]] | None = None
        self._prefixes: dict[str, _Methods[R]] | None = None
        self._depth = 0

    def add(self, pattern: PathPattern | None, methods: frozenset[str], value: R) -> None:
        """Enter `value` for a pattern (None: all paths) and methods (empty: all methods)."""
        if self.first < 0:
            self.first = value.rank
        if pattern is None:
            self._all = self._all or _Methods()
            self._all.add(methods, value)
        elif pattern.prefix:
            fixed = pattern.text[:-1]
            if self._prefixes is None:
                self._prefixes = {}
            self._prefixes.setdefault(fixed, _Methods()).add(methods, value)
            self._depth = max(self._depth, fixed.count("/"))
        else:
            if self._exact is None:
                self._exact = {}
            self._exact.setdefault(pattern.text, _Methods()).add(methods, value)

    def better(self, path: str, method: str, best: R | None) -> R | None:
        """The first that takes `path` and `method`, or `best` if that comes earlier."""
        if self._all is not None:
            best = self._all.better(method, best)
        if self._exact is not None:
            methods = self._exact.get(path)
            if methods is not None:
                best = methods.better(method, best)
        if self._prefixes is not None:
            prefixes = self._prefixes
            end = 0
            for _ in range(self._depth):
                end = path.find("/", end) + 1
                if end == 0:
                    break
                methods = prefixes.get(path[:end])
                if methods is not None:
                    best = methods.better(method, best)
        return best
