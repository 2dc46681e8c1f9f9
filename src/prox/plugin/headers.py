"""Which headers of a plugin's answer are taken: not those that frame messages, and none that could break them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from prox.remembered import remembered
from prox.wire import HeaderChanges

from .complaints import Complaints

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BAD_VALUE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

_FRAMING: Final = frozenset(
    {
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
    }
)
NOT_ON_REQUESTS: Final = _FRAMING | {"proxy-authenticate", "proxy-authorization"}
"""Names that a plugin can't set on an upstream request: hop-by-hop (RFC 9110 §7.6.1) and framing ones."""
NOT_ON_RESPONSES: Final = _FRAMING
"""Names that a plugin can't set on an answer. Proxy-Authenticate it can: a 407 needs it."""


@remembered(4096)
def normalise(name: str) -> str:
    """The name by which headers are compared: lower case, `-` for `_`; empty where it is no header name."""
    return name.lower().replace("_", "-") if _TOKEN.fullmatch(name) else ""


@remembered(4096)
def _settable(name: str) -> str:
    """`normalise`, and empty also where no plugin can set it on a request."""
    plain = normalise(name)
    return "" if plain in NOT_ON_REQUESTS else plain


def all_taken(headers: Mapping[str, str], foreign: frozenset[str]) -> bool:
    """Whether HeaderMerge would take a request's headers as they are, in the usual case: quickly told.

    False says nothing; True is certain.
    """
    if len(headers) == 1:
        for name, value in headers.items():
            plain = _settable(name)
            return plain != "" and plain not in foreign and value.isprintable()
    seen: set[str] = set()
    for name, value in headers.items():
        plain = _settable(name)
        if not plain or plain in foreign or plain in seen or not value.isprintable():
            return False
        seen.add(plain)
    return True


class HeaderRules:
    """What plugins can't touch in one kind of message, as normalised names.

    Attributes:
        reserved: what only prox sets.
        single: what can neither be appended to nor have several values.
        required: what can't be removed.
    """

    __slots__ = ("required", "reserved", "single")

    def __init__(
        self,
        reserved: frozenset[str],
        single: frozenset[str] = frozenset(),
        required: frozenset[str] = frozenset(),
    ) -> None:
        self.reserved = reserved
        self.single = single
        self.required = required


ON_REQUESTS: Final = HeaderRules(
    NOT_ON_REQUESTS,
    frozenset(
        {
            "authorization",
            "content-type",
            "host",
            "traceparent",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
        }
    ),
    frozenset({"host"}),
)
ON_RESPONSES: Final = HeaderRules(NOT_ON_RESPONSES, frozenset({"content-type", "date", "location"}))


def printable_value(value: str) -> bool:
    """Whether a value can stand in a header line."""
    return value.isprintable() or _BAD_VALUE.search(value) is None


class HeaderMerge:
    """What several plugins change in the headers of one message.

    Removals of all of them come first, so they never take away what a plugin sets. Then all that they set, later over
    earlier, then all that they append. A value that can't be taken leaves its header without any: what the client or an
    upstream sent under the name must not pass for what the plugin meant to say.
    """

    __slots__ = ("_append", "_remove", "_rules", "_set")

    def __init__(self, rules: HeaderRules) -> None:
        self._rules = rules
        self._remove: dict[str, str] = {}
        self._set: dict[str, tuple[str, list[str]]] = {}
        self._append: dict[str, tuple[str, list[str]]] = {}

    def take(
        self,
        headers: Mapping[str, str],
        changes: HeaderChanges | None,
        foreign: frozenset[str],
        complaints: Complaints,
    ) -> None:
        """Take what one plugin changes, behind those before it; what can't be taken is left out with a warning.

        Args:
            headers: to set, one value each.
            changes: more.
            foreign: normalised names that only other plugins may touch.
            complaints: takes the warnings.
        """
        for name, value in headers.items():
            plain = self._taken(name, foreign, complaints)
            if plain:
                self._put(plain, name, [value], complaints)
        if changes is None:
            return
        self.remove(changes.remove, foreign, complaints)
        for name, values in changes.set.items():
            plain = self._taken(name, foreign, complaints)
            if not plain:
                continue
            if len(values) > 1 and plain in self._rules.single:
                complaints.warn("header %s is left out: it has one value, not %d", name, len(values))
            elif not values and plain in self._rules.required:
                complaints.warn("header %s is not removed: a request needs it", name)
            else:
                self._put(plain, name, values, complaints)
        for name, values in changes.append.items():
            plain = self._taken(name, foreign, complaints)
            if not plain:
                continue
            if plain in self._rules.single:
                complaints.warn(
                    "header %s is left out: it has one value, nothing can be appended to it", name
                )
            elif not all(printable_value(value) for value in values):
                complaints.warn("header %s is left out: its value has control characters", name)
            else:
                known, before = self._append.get(plain, (name, []))
                self._append[plain] = known, [*before, *values]

    def remove(self, names: Iterable[str], foreign: frozenset[str], complaints: Complaints) -> None:
        """Take the names that one plugin removes."""
        for name in names:
            plain = normalise(name)
            if not plain or plain in self._rules.reserved:
                complaints.warn("header %r is not removed: prox sets it itself", name)
            elif plain in self._rules.required:
                complaints.warn("header %s is not removed: a request needs it", name)
            elif plain in foreign:
                complaints.warn("header %s is not removed: it is among own_headers of another plugin", name)
            else:
                self._remove.setdefault(plain, name)

    @property
    def headers(self) -> dict[str, str]:
        """What is set to one value."""
        return {name: values[0] for name, values in self._set.values() if len(values) == 1}

    @property
    def removed(self) -> list[str]:
        """What is removed."""
        return list(self._remove.values())

    def changes(self, remove: list[str]) -> HeaderChanges | None:
        """What is not in `headers`, with these removals; None where that is nothing."""
        several = {name: values for name, values in self._set.values() if len(values) != 1}
        if not (remove or several or self._append):
            return None
        return HeaderChanges(remove=remove, set=several, append=dict(self._append.values()))

    def all_changes(self) -> HeaderChanges | None:
        """Everything; None where that is nothing."""
        if not (self._remove or self._set or self._append):
            return None
        return HeaderChanges(
            remove=self.removed, set=dict(self._set.values()), append=dict(self._append.values())
        )

    def _taken(self, name: str, foreign: frozenset[str], complaints: Complaints) -> str:
        """The normalised name; empty where the plugin can't touch it."""
        plain = normalise(name)
        if not plain:
            complaints.warn("a header with the name %r is left out: that is no name", name)
        elif plain in self._rules.reserved:
            complaints.warn("header %s is left out: prox sets it itself", name)
        elif plain in foreign:
            complaints.warn("header %s is left out: it is among own_headers of another plugin", name)
        else:
            return plain
        return ""

    def _put(self, plain: str, name: str, values: list[str], complaints: Complaints) -> None:
        if all(printable_value(value) for value in values):
            self._set[plain] = name, values
            return
        complaints.warn("header %s is left out: its value has control characters", name)
        if plain not in self._rules.required:
            self._set[plain] = name, []
