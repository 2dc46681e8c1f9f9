"""Paths with segments that would lead elsewhere."""

from __future__ import annotations

import pytest

from prox.routing.paths import has_dot_segments


@pytest.mark.parametrize(
    "path", ["/.", "/..", "/a/..", "/a/./b", "/a/../b", "..", "/a\\..\\b", "/..\\", "\\..", "/a/.\\b"]
)
def test_dot_segments(path: str) -> None:
    assert has_dot_segments(path)


@pytest.mark.parametrize("path", ["/", "/a.b", "/.a", "/a.", "/...", "/a..b", "/..a/b", "/a../b", "*", ""])
def test_dots_that_are_none(path: str) -> None:
    assert not has_dot_segments(path)
