#!/usr/bin/env python3
"""A plugin of the benchmark without a hook for requests: its routes pay for the question whether it has one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prox.sdk import Plugin

if TYPE_CHECKING:
    from prox.sdk import Connection

plugin = Plugin()


@plugin.on_connect
def welcome(_: Connection) -> bool:
    """Lets each connection pass; there is none to be asked about."""
    return True


if __name__ == "__main__":
    plugin.run()
