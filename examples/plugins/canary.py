#!/usr/bin/env python3
"""A plugin that sends some requests to the action's fallback, the canary.

Those with the header `X-Canary: yes` go there, those with `X-Canary: no` don't. Of all others PERCENT in a hundred
do, always the same ones: the part is drawn from the client's address.
"""

import os
import zlib

from prox.sdk import Plugin, Request, Verdict

PERCENT = int(os.environ.get("PERCENT", "0"))

plugin = Plugin()


@plugin.on_request
def split(request: Request) -> Verdict:
    """Called for each request of the routes that name this plugin."""
    wish = request.headers.get("X-Canary")
    lot = zlib.crc32(request.client_ip.encode()) % 100
    if wish == "yes" or (wish != "no" and lot < PERCENT):
        return request.fallback()
    return request.allow()


plugin.run()
