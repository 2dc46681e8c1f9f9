#!/usr/bin/env python3
"""A plugin that marks answers: who served them, how they may be cached; and takes out what is nobody's business."""

from prox.sdk import Changes, Plugin, Response

HIDDEN = ["Server", "X-Powered-By", "X-Debug"]

plugin = Plugin()


@plugin.on_response
def tag(response: Response) -> Changes:
    """Called for each answer of the routes that name this plugin, before the client gets any of it."""
    headers = {"X-Served-By": response.request.target or response.route_id}
    if "variant" in response.request.vars:  # from the route's `set`
        headers["X-Variant"] = response.request.vars["variant"]
    if response.status >= 400 or "Cache-Control" not in response.headers:
        headers["Cache-Control"] = "no-store"
    return response.modify(headers=headers, remove=HIDDEN)


plugin.run()
