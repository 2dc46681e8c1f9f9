"""What the outside is told when a configuration can't be put in force."""

from __future__ import annotations


class StartError(Exception):
    """A configuration is right, but can't be served here and now; nothing was changed. The text says why and what to do."""
