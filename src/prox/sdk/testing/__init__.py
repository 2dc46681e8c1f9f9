"""Tests of plugins: start one, ask its hooks, look at what it pushes and logs.

    from prox.sdk.testing import Harness, load

    def test_who_has_no_key_is_turned_away():
        with Harness(load("guard.py")) as guard:
            assert guard.request("GET", "/").status == 401
            assert guard.request("GET", "/", headers={"X-Api-Key": "demo-key"}).allow

All calls block, so tests are plain functions; they work in any test runner. `Harness` runs a Python plugin in
a thread of the test's process, where its modules can be patched and its exceptions are seen. `ProcessHarness`
has the same methods for a program in any language. Both speak the real protocol over real pipes and a real
socket. Needs nothing but msgspec.
"""

from .errors import ConfigureError, HookError, PluginEndedError, PluginTestError
from .harness import Harness
from .inbox import LogRecord
from .loading import load
from .process import ProcessHarness
from .shown import TRACE, make_request

__all__ = [
    "TRACE",
    "ConfigureError",
    "Harness",
    "HookError",
    "LogRecord",
    "PluginEndedError",
    "PluginTestError",
    "ProcessHarness",
    "load",
    "make_request",
]
