"""prox: a reverse proxy whose logic runs in external plugins.

`prox.Server` is the proxy as a library, `prox.sdk` is what plugins are written with, `prox.plugin` hosts plugins in any
asyncio program. Everything is loaded when it is first used, so that a plugin loads the SDK and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from .server import ConfigError, Server, StartError

__all__ = ["ConfigError", "Server", "StartError", "__version__"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from . import server

        return getattr(server, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
