"""What prox leaves out of a plugin's headers, said in words for the plugin's author."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prox.plugin.headers import ON_REQUESTS, ON_RESPONSES, HeaderRules, normalise, printable_value
from prox.wire import AuthorizeResult, HeaderChanges, Result


def refused_headers(result: Result) -> Iterator[str]:
    """One sentence for each header of a result that prox would leave out."""
    allowed = isinstance(result, AuthorizeResult) and (result.allow or result.fallback)
    rules = ON_REQUESTS if allowed else ON_RESPONSES
    single = {name: [value] for name, value in getattr(result, "headers", {}).items()}
    yield from _refused(HeaderChanges(set=single, remove=getattr(result, "remove", [])), rules)
    yield from _refused(getattr(result, "changes", None), rules)
    yield from _refused(getattr(result, "response", None), ON_RESPONSES)


def _refused(changes: HeaderChanges | None, rules: HeaderRules) -> Iterator[str]:
    if changes is None:
        return
    for name in changes.remove:
        plain = normalise(name)
        if not plain:
            yield f"{name!r} is no name of a header to remove"
        elif plain in rules.reserved | rules.required:
            yield f"{name} can't be removed, prox sets it itself"
    for name, values in changes.set.items():
        yield from _refused_values(name, values, rules)
        if normalise(name) in rules.single and len(values) > 1:
            yield f"{name} has one value, not {len(values)}"
        if normalise(name) in rules.required and not values:
            yield f"{name} can't be removed, prox sets it itself"
    for name, values in changes.append.items():
        yield from _refused_values(name, values, rules)
        if normalise(name) in rules.single:
            yield f"{name} has one value, nothing can be appended to it"


def _refused_values(name: str, values: Iterable[str], rules: HeaderRules) -> Iterator[str]:
    plain = normalise(name)
    if not plain:
        yield f"{name!r} is no name of a header"
    elif plain in rules.reserved:
        yield f"{name} is set by prox itself"
    for value in values:
        if plain and plain not in rules.reserved and not printable_value(value):
            yield f"the value of {name} has control characters: {value!r}"
