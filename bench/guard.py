#!/usr/bin/env python3
"""The plugin of the benchmark: lets every request pass and sets one header on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prox.sdk import Plugin

if TYPE_CHECKING:
    from prox.sdk import Request, Verdict

plugin = Plugin()


@plugin.on_request
def guard(request: Request) -> Verdict:
    """Says who the user is, as an authorizing plugin would."""
    return request.allow(headers={"X-User": "u1"})


if __name__ == "__main__":
    plugin.run()
