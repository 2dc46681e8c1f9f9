#!/usr/bin/env python3
"""A plugin that lets a request through only with an API key, and tells the upstream whose key it is."""

import logging

from prox.sdk import Plugin, Request, Verdict

KEYS = {"demo-key": "demo"}

log = logging.getLogger("authorize")
plugin = Plugin()


@plugin.on_request
async def authorize(request: Request) -> Verdict:
    """Called for each request of the routes that name this plugin."""
    key = request.headers.get("X-Api-Key")
    if key is None:
        return request.deny(401, "Who are you? Send your key in the header X-Api-Key; demo-key is one.\n")
    user = KEYS.get(key)
    if user is None:
        log.warning("unknown key for %s", request.path)
        return request.deny(401, "There is no such key; demo-key is one.\n")
    return request.allow(headers={"X-User": user})


plugin.run()
