#!/usr/bin/env python3
"""A plugin that pushes the targets of its routes from targets.json, now and whenever that file changes."""

import asyncio
import json
import logging
from pathlib import Path

from prox.sdk import Plugin, Route

FILE = Path(__file__).with_name("targets.json")

log = logging.getLogger("discover")
plugin = Plugin()
routes: dict[str, Route] = {}


@plugin.on_configure
def remember(route: Route) -> None:
    """Called for each route that names this plugin, and again after each reload."""
    routes[route.id] = route
    route.set_targets(read_targets())


@plugin.background
async def watch() -> None:
    """Runs beside everything else."""
    known = read_text()
    while True:
        await asyncio.sleep(0.5)
        text = read_text()
        if text == known:
            continue
        known = text
        try:
            targets = read_targets()
        except ValueError as error:
            log.warning("%s is left as it was: %s", FILE.name, error)
            continue
        for route in routes.values():
            route.set_targets(targets)
        log.info("the targets are now %s", ", ".join(targets) or "none")


def read_text() -> str:
    """What the file holds; nothing while it is not there."""
    return FILE.read_text() if FILE.exists() else ""


def read_targets() -> list[str]:
    """The addresses in the file."""
    targets = json.loads(read_text())
    if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
        raise ValueError("a list of addresses is wanted")
    return targets


plugin.run()
