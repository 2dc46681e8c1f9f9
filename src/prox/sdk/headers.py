"""Headers as a plugin sees them: read-only, found by name in any case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence


class Headers(Mapping[str, str]):
    """Name to first value. `headers["x-user"]`, `headers.get("X-User")` and `"X-USER" in headers` agree."""

    __slots__ = ("_all", "_folded", "_headers")

    def __init__(
        self, headers: Mapping[str, str], all_values: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        """`all_values` are those of repeated headers; None where they are not known."""
        self._headers = headers
        self._all = all_values
        self._folded: dict[str, str] | None = None

    def get_all(self, name: str) -> list[str]:
        """All values of a header in their order, as they came: none is split at its commas; empty where it is missing.

        Raises:
            TypeError: the plugin has not named the feature `headers.multi`: the first value would be all that it gets.
        """
        if self._all is None:
            raise TypeError("get_all needs a feature: Plugin(features=['headers.multi'])")
        wanted = name.lower()
        for known, values in self._all.items():
            if known.lower() == wanted:
                return list(values)
        value = self.get(name)
        return [] if value is None else [value]

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
