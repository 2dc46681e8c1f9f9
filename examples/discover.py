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
text = ""
targets: list[str] = []


@plugin.on_configure
def remember(route: Route) -> None:
    """Called for each route that names this plugin, and again after each reload."""
    routes[route.id] = route
    if not refresh():
        route.set_targets(targets)


@plugin.background
async def watch() -> None:
    """Runs beside everything else."""
    while True:
        await asyncio.sleep(0.5)
        refresh()


def refresh() -> bool:
    """Push what the file says, where it says something else than before; whether it does."""
    global text, targets  # noqa: PLW0603 - the one state of this program
    before, text = text, FILE.read_text() if FILE.exists() else ""
    if text == before:
        return False
    try:
        targets = parse(text)
    except ValueError as error:
        log.warning("%s is left as it was: %s", FILE.name, error)
        return False
    for route in routes.values():
        route.set_targets(targets)
    log.info("the targets are now %s", ", ".join(targets) or "none")
    return True


def parse(text: str) -> list[str]:
    """The addresses in the file."""
    found = json.loads(text)
    if not isinstance(found, list) or not all(isinstance(target, str) for target in found):
        raise ValueError("a list of addresses is wanted")
    return found


plugin.run()
