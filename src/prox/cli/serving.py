"""The life of `prox serve`: start, reloads by signal and by changed files, drain, exit status."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from pathlib import Path

import uvloop

from prox.app.application import Application
from prox.app.errors import StartError
from prox.app.loading import load_served
from prox.config import ConfigError, Loaded
from prox.observe.logs import LogOutput, choose_level, setup
from prox.tasks import spawn

from .report import print_problems
from .watching import watch_files

_log = logging.getLogger("prox.serve")


def run(path: Path, log_level: str | None, *, watch: bool) -> int:
    """Serve until a signal ends it; returns the exit status."""
    try:
        loaded = load_served(path)
        output = _output(loaded, log_level)
    except ConfigError as error:
        print_problems(error.problems, to_stderr=True)
        return 1
    except (OSError, ValueError) as error:
        print(f"prox: {error}")  # noqa: T201 - logging is what failed
        return 1
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Serving(path, log_level, output, watch=watch).run(loaded))


def _output(loaded: Loaded, log_level: str | None) -> LogOutput:
    logging_config = loaded.config.logging
    level = choose_level(log_level, os.environ.get("LOG_LEVEL"), logging_config.level)
    error_log = None if logging_config.error_log is None else Path(logging_config.error_log)
    return setup(level, error_log=error_log)


class _Serving:
    """One run of `prox serve`."""

    def __init__(self, path: Path, log_level: str | None, output: LogOutput, *, watch: bool) -> None:
        self._path = path
        self._log_level = log_level
        self._output = output
        self._watch = watch
        self._application = Application()
        self._ending = asyncio.Event()
        self._reloads: asyncio.Queue[str] = asyncio.Queue()
        self._watcher: asyncio.Task[None] | None = None

    async def run(self, loaded: Loaded) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        for problem in (*loaded.warnings, *loaded.unbuilt()):
            _log.warning("%s", problem)
        starting = spawn(self._application.start(loaded.config), "start")
        ending = spawn(self._ending.wait(), "wait for a signal")
        await asyncio.wait({starting, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
            return 0
        try:
            starting.result()
        except StartError as error:
            _log.error("%s", error)
            ending.cancel()
            return 1
        self._say_where()
        # What start-up left stays for good: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        self._follow(loaded)
        reloading = spawn(self._reload_when_asked(), "reload")
        await ending
        _log.info("ending: no new connections, running requests may end")
        for task in (reloading, self._watcher):
            if task is not None:
                task.cancel()
        await self._application.stop()
        self._output.close()
        return 0

    def _say_where(self) -> None:
        for name, address in self._application.addresses.items():
            if isinstance(address, tuple):
                host, port = address
                _log.info(
                    "service %s listens on %s", name, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
                )
            else:
                _log.info("service %s listens on unix://%s", name, address)

    def _signalled(self, number: int) -> None:
        if self._ending.is_set():
            _log.warning("second signal (%s): ending at once", signal.Signals(number).name)
            self._application.logs.close()
            os._exit(0)
        self._ending.set()

    def _hung_up(self) -> None:
        self._output.reopen()
        self._application.logs.reopen()
        self._reloads.put_nowait("SIGHUP")

    def _follow(self, loaded: Loaded) -> None:
        """Watch the files that the configuration in force was read from."""
        if not self._watch:
            return
        if self._watcher is not None:
            self._watcher.cancel()
        self._watcher = spawn(watch_files(loaded.sources, self._reloads.put_nowait), "watch files")

    async def _reload_when_asked(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            reason = await self._reloads.get()
            while not self._reloads.empty():
                reason = self._reloads.get_nowait()
            _log.info("reloading: %s", reason)
            try:
                loaded = await loop.run_in_executor(None, load_served, self._path)
                await self._application.apply(loaded.config)
                logs = loaded.config.logging
                level = choose_level(self._log_level, os.environ.get("LOG_LEVEL"), logs.level)
                self._output.configure(level, None if logs.error_log is None else Path(logs.error_log))
            except ConfigError as error:
                for problem in error.problems:
                    _log.error("%s", problem)
                _log.error("the configuration is not taken: the one before stays in force")
            except (StartError, OSError) as error:
                _log.error("%s; the configuration before stays in force", error)
            except Exception:
                _log.exception("a reload failed inside prox; the configuration before stays in force")
            else:
                for problem in (*loaded.warnings, *loaded.unbuilt()):
                    _log.warning("%s", problem)
                _log.info("the new configuration is in force")
                self._follow(loaded)
