#!/usr/bin/env python3
"""A plugin that lets in who brings a known key. It would do the same under prox."""

from prox.sdk import Plugin, Request, Verdict

KEYS = {"k-alice": "alice"}

plugin = Plugin()


@plugin.on_request
def guard(request: Request) -> Verdict:
    """Called for each request."""
    user = KEYS.get(request.headers.get("X-Api-Key", ""))
    if user is None:
        return request.deny(401, "a key is needed\n")
    return request.allow(headers={"X-User": user})


plugin.run()
