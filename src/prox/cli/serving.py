"""The life of `prox serve`: start, reloads by signal and by changed files, drain, exit status."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from pathlib import Path

import uvloop

from prox.app.application import Application
from prox.app.errors import StartError
from prox.app.loading import load_served
from prox.config import ConfigError, Loaded, model
from prox.http.descriptors import raise_limit
from prox.observe.logs import LogOutput, choose_level, setup
from prox.tasks import spawn

from .memory import settle
from .reloading import Reloader, report, say_where, unopened
from .report import print_problems
from .watching import State, look

_log = logging.getLogger("prox.serve")


def run(path: Path, log_level: str | None, *, watch: bool) -> int:
    """Serve until a signal ends it; returns the exit status."""
    began = time.time_ns()
    raise_limit()
    try:
        loaded = load_served(path)
        # At once: a link that is replaced while plugins start must differ from what was read.
        read = look(loaded.sources, began)
    except ConfigError as error:
        print_problems(error.problems, to_stderr=True)
        return 1
    try:
        output = _output(loaded, log_level)
    except OSError as error:
        print_problems([unopened(loaded, error)], to_stderr=True)
        return 1
    except ValueError as error:
        print(f"prox: {error}", file=sys.stderr)  # noqa: T201 - logging is what failed
        return 1
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            serving = _Serving(path, log_level, output, watch=watch)
            first = serving.run(loaded, read, began)
            del loaded  # what it was read from is as large as itself, and not needed for long
            return runner.run(first)
    finally:
        output.close()


def _output(loaded: Loaded, log_level: str | None) -> LogOutput:
    logging_config = loaded.config.logging
    level = choose_level(log_level, os.environ.get("LOG_LEVEL"), logging_config.level)
    error_log = None if logging_config.error_log is None else Path(logging_config.error_log)
    return setup(level, error_log=error_log)


class _Serving:
    """One run of `prox serve`."""

    def __init__(self, path: Path, log_level: str | None, output: LogOutput, *, watch: bool) -> None:
        self._output = output
        self._application = Application()
        self._reloader = Reloader(self._application, path, log_level, output, watch=watch)
        self._ending = asyncio.Event()

    async def run(self, loaded: Loaded, read: dict[Path, State], began: int) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        report(loaded)
        settle(loaded.config)
        starting = spawn(self._start(loaded.config), "start")
        ending = spawn(self._ending.wait(), "wait for a signal")
        await asyncio.wait({starting, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
            return 0
        refused = starting.result()
        if refused is not None:
            _log.error("%s", refused)
            ending.cancel()
            return 1
        del loaded, starting
        say_where(self._application, {})
        _settle_memory()
        reloading = spawn(self._reloader.run(read, began), "reload")
        await ending
        _log.info("ending: no new connections, running requests may end")
        reloading.cancel()
        await asyncio.wait({reloading})
        await self._application.stop()
        _log.info("ended")
        return 0

    async def _start(self, config: model.Config) -> StartError | None:
        try:
            await self._application.start(config)
        except StartError as error:
            return error
        return None

    def _signalled(self, number: int) -> None:
        if self._ending.is_set():
            _log.warning("second signal (%s): ending at once", signal.Signals(number).name)
            self._application.abort()
            os._exit(0)  # the plugins' guardian ends them and removes their sockets
        self._ending.set()

    def _hung_up(self) -> None:
        self._output.reopen()
        self._application.logs.reopen()
        self._reloader.ask("SIGHUP")


def _settle_memory() -> None:
    """What start-up left stays for good: the collector need not look at it again."""
    gc.collect()
    gc.freeze()
