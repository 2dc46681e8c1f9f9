#!/usr/bin/env python3
"""A plugin that lets in who brings an API key, and tells the application whose it is.

keys.json holds the SHA-256 of each key and the name of its owner, so that the file gives no key away. It is read
again when it changes: a key is given and taken without a restart.
"""

import asyncio
import hashlib
import json
import os
from pathlib import Path

from prox.sdk import Plugin, Request, Verdict

FILE = Path(os.environ.get("KEYS", "keys.json"))

plugin = Plugin()


def parse(data: bytes) -> dict[str, str]:
    """Owners by the digests of their keys."""
    return {str(digest): str(owner) for digest, owner in json.loads(data).items()}


owners = parse(FILE.read_bytes())


@plugin.on_request
def authorize(request: Request) -> Verdict:
    """Called for each request of the routes that name this plugin."""
    key = request.headers.get("X-Api-Key", "")
    owner = owners.get(hashlib.sha256(key.encode()).hexdigest())
    if owner is None:
        return request.deny(401, "a key is needed\n")
    return request.allow(headers={"X-User": owner})


@plugin.background
async def follow() -> None:
    """Runs beside everything else. A file that is gone or broken changes nothing."""
    global owners  # noqa: PLW0603 - replaced as a whole, so no request sees half of a change
    known = b""
    while True:
        await asyncio.sleep(0.2)
        try:
            data = await asyncio.to_thread(FILE.read_bytes)
            if data != known:
                known = data
                owners = parse(data)
        except OSError:
            continue
        except (ValueError, AttributeError) as error:
            plugin.log.warning("the keys stay as they were", file=str(FILE), error=str(error))


plugin.run()
