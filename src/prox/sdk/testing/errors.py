"""What a harness raises; a wait that takes too long is Python's own TimeoutError."""

from __future__ import annotations


class PluginTestError(Exception):
    """The plugin did something that prox would not put up with."""


class HookError(PluginTestError):
    """A hook has no answer, or one that is none: prox would do what `on_error` says.

    In a `Harness` its `__cause__` is the exception that the handler raised.
    """


class ConfigureError(PluginTestError):
    """The plugin refused a route: it answered `configure` with an error, which is the text."""


class PluginEndedError(PluginTestError):
    """The plugin has ended, or could not start."""
