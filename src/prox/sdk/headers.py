"""Headers as a plugin sees them: read-only, found by name in any case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class Headers(Mapping[str, str]):
    """Name to first value. `headers["x-user"]`, `headers.get("X-User")` and `"X-USER" in headers` agree."""

    __slots__ = ("_folded", "_headers")

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers
        self._folded: dict[str, str] | None = None

    def __getitem__(self, name: str) -> str:
        value = self._headers.get(name)
        if value is not None:
            return value
        folded = self._folded
        if folded is None:
            folded = self._folded = {name.lower(): value for name, value in self._headers.items()}
        try:
            return folded[name.lower()]
        except KeyError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)

    def __repr__(self) -> str:
        return f"Headers({dict(self._headers)!r})"
