"""prox: a reverse proxy whose logic runs in external plugins."""

from ._version import __version__

__all__ = ["__version__"]
