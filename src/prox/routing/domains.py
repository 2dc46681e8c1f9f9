"""Domain patterns: what they match, what they capture, and the index that finds those that match a host.

A pattern is compared label by label, without case. `*` stands for one label; `pre-*`, `*-suf` and `a-*-b` for
a label that begins or ends so (the text between may be empty); `**`, only last, for one label or more. The
grammar is `prox.config.patterns`.

Decided where the pattern language is silent: one dot at the end of a host is no label (`a.example.com.` is
`a.example.com`); a host with an empty label matches no pattern; an IPv4 address is compared by its parts like
a name; an IPv6 address matches none, as no pattern can name it.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from prox.config.patterns import split_domain

V = TypeVar("V")


class Label(NamedTuple):
    """One label of a pattern: a literal, or the text before and after its `*`."""

    before: str
    after: str
    wild: bool


class DomainPattern:
    """One parsed `match.domain`.

    Raises:
        prox.config.invalid.InvalidError: (a ValueError) it is no domain pattern.
    """

    __slots__ = ("exact", "glob", "labels", "name", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        """As it was written."""
        self.name = text.lower()
        parts = split_domain(text)
        self.glob = parts[-1] == "**"
        """Whether it ends in `**`."""
        if self.glob:
            parts = parts[:-1]
        self.labels = tuple(_label(part) for part in parts)
        """Its labels without the `**`."""
        self.exact = "*" not in text
        """Whether it matches one host only and captures nothing."""

    def captures(self, host: str) -> tuple[list[str], str]:
        """What each `*` and the `**` stand for in `host`, which must match and be canonical."""
        parts = host.split(".")
        stars = [
            part[len(label.before) : len(part) - len(label.after)]
            for label, part in zip(self.labels, parts, strict=False)
            if label.wild
        ]
        return stars, ".".join(parts[len(self.labels) :]) if self.glob else ""


def canonical(host: str) -> str:
    """`host` as patterns are compared with it: without one dot at the end."""
    return host[:-1] if host[-1:] == "." else host


def _label(part: str) -> Label:
    before, star, after = part.partition("*")
    return Label(before, after, bool(star))


class _Node(Generic[V]):
    """The patterns that agree in their first labels."""

    __slots__ = ("glob", "here", "literal", "partial", "star")

    def __init__(self) -> None:
        self.here: V | None = None
        """What belongs to the pattern that ends here."""
        self.glob: V | None = None
        """What belongs to the pattern that goes on with `**`."""
        self.literal: dict[str, _Node[V]] = {}
        self.star: _Node[V] | None = None
        self.partial: dict[int, dict[str, dict[int, dict[str, _Node[V]]]]] | None = None
        """Nodes by length of the text before `*`, that text, length of the text after it, that text: a label
        is looked up once for each distinct length and not once for each pattern."""

    def child(self, label: Label) -> _Node[V]:
        if not label.wild:
            return self.literal.setdefault(label.before, _Node())
        if not label.before and not label.after:
            self.star = self.star or _Node()
            return self.star
        self.partial = self.partial if self.partial is not None else {}
        same_start = self.partial.setdefault(len(label.before), {}).setdefault(label.before, {})
        return same_start.setdefault(len(label.after), {}).setdefault(label.after, _Node())

    def partial_matches(self, part: str) -> list[_Node[V]]:
        found = []
        length = len(part)
        assert self.partial is not None
        for before, by_start in self.partial.items():
            ends = by_start.get(part[:before])
            if ends is None:
                continue
            for after, by_end in ends.items():
                if before + after <= length:
                    node = by_end.get(part[length - after :])
                    if node is not None:
                        found.append(node)
        return found


class DomainIndex(Generic[V]):
    """Values by domain pattern: `add` while a table is built, `find` for each request."""

    __slots__ = ("_exact", "_root")

    def __init__(self) -> None:
        self._exact: dict[str, V] = {}
        self._root: _Node[V] | None = None

    def add(self, pattern: DomainPattern, value: V) -> V:
        """Enter `value` for `pattern` and return it, or return what an equal pattern has entered before."""
        if pattern.exact:
            return self._exact.setdefault(pattern.name, value)
        if self._root is None:
            self._root = _Node()
        node = self._root
        for label in pattern.labels:
            node = node.child(label)
        if pattern.glob:
            node.glob = node.glob if node.glob is not None else value
            return node.glob
        node.here = node.here if node.here is not None else value
        return node.here

    def find(self, host: str) -> list[V]:
        """The values of all patterns that match the canonical `host`, the exact one first."""
        exact = self._exact.get(host)
        found = [] if exact is None else [exact]
        if self._root is None or ":" in host:  # IPv6: `::ffff:1.2.3.4` has dots too
            return found
        parts = host.split(".")
        if "" in parts:
            return found
        nodes = [self._root]
        for part in parts:
            following = []
            for node in nodes:
                if node.glob is not None:
                    found.append(node.glob)
                child = node.literal.get(part)
                if child is not None:
                    following.append(child)
                if node.star is not None:
                    following.append(node.star)
                if node.partial is not None:
                    following.extend(node.partial_matches(part))
            if not following:
                return found
            nodes = following
        found.extend(node.here for node in nodes if node.here is not None)
        return found
