#!/usr/bin/env python3
"""A plugin that lets TLS connections through by the name that they ask for (SNI), before a byte of them is relayed.

NAMES lists them, separated by commas; `*.example.com` is every name one level below.
"""

import os

from prox.sdk import Connection, Plugin

NAMES = frozenset(name.strip().lower() for name in os.environ["NAMES"].split(","))

plugin = Plugin()


@plugin.on_connect
def admit(connection: Connection) -> bool:
    """Called for each connection of the routes that name this plugin."""
    name = connection.domain.lower()
    above = name.partition(".")[2]
    allowed = name in NAMES or (above != "" and f"*.{above}" in NAMES)
    if not allowed:
        plugin.log.info("turned away", name=name, client=connection.client_ip)
    return allowed


plugin.run()
