"""Reloads of `prox serve`: by signal and by changed files, one after the other; one that fails changes nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from prox.app.application import Application
from prox.app.errors import StartError
from prox.app.listeners import Address
from prox.app.loading import load_served
from prox.config import ConfigError, Loaded, Problem
from prox.observe.logfile import open_log
from prox.observe.logs import LogOutput, choose_level
from prox.tasks import spawn

from .memory import settle
from .watching import State, changed, look

_log = logging.getLogger("prox.serve")

_SEVERITIES = {"error": logging.ERROR, "warning": logging.WARNING, "note": logging.WARNING}


class Reloader:
    """Puts the configuration in force again and again, as it is on the disk then.

    Args:
        application: what runs it.
        path: the file or folder.
        log_level: what the command line says.
        output: the process's log.
        watch: whether changed files are a reason.
    """

    def __init__(
        self, application: Application, path: Path, log_level: str | None, output: LogOutput, *, watch: bool
    ) -> None:
        self._application = application
        self._path = path
        self._log_level = log_level
        self._output = output
        self._watch = watch
        self._reasons: asyncio.Queue[str] = asyncio.Queue()
        self._known: dict[Path, State] = {}

    def ask(self, reason: str) -> None:
        """Reload soon; what is asked meanwhile is one reload."""
        self._reasons.put_nowait(reason)

    async def run(self, read: dict[Path, State], began: int) -> None:
        """Reload whenever it is asked for; never returns.

        Args:
            read: what the first configuration was read from, as it was then.
            began: when its reading began, in nanoseconds.
        """
        await self._note((*read, *self._application.files), read, began)
        while True:
            reason = await self._next_reason()
            while not self._reasons.empty():
                reason = self._reasons.get_nowait()
            _log.info("reloading: %s", reason)
            await self._reload()

    async def _next_reason(self) -> str:
        asked = spawn(self._reasons.get(), "asked for a reload")
        waiting = {asked}
        if self._watch:
            waiting.add(spawn(self._changes(), "watch files"))
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for task in waiting:
                task.cancel()

    async def _changes(self) -> str:
        paths = await changed(self._known)
        return ", ".join(sorted(path.name for path in paths)) + " changed"

    async def _reload(self) -> None:
        loop = asyncio.get_running_loop()
        # What is written while it is being read counts as changed afterwards.
        began = time.time_ns()
        before = await loop.run_in_executor(None, look, list(self._known))
        sources: Iterable[Path] = self._known
        addresses = self._application.addresses
        try:
            loaded = await loop.run_in_executor(None, load_served, self._path)
            sources = (*loaded.sources, *self._known)
            logs = loaded.config.logging
            error_log = None if logs.error_log is None else Path(logs.error_log)
            if error_log is not None:
                try:
                    await loop.run_in_executor(None, lambda: os.close(open_log(error_log)))
                except OSError as error:
                    raise ConfigError([unopened(loaded, error)], loaded.sources) from error
            level = choose_level(self._log_level, os.environ.get("LOG_LEVEL"), logs.level)
            settle(loaded.config)
            await self._application.apply(loaded.config)
        except ConfigError as error:
            sources = (*error.sources, *self._known)
            for problem in error.problems:
                _log.log(_SEVERITIES[problem.severity], "%s", problem)
            _log.error("the configuration is not taken: the one before stays in force")
        except StartError as error:
            _log.error("%s; the configuration before stays in force", error)
        except Exception:
            _log.exception("a reload failed inside prox; the configuration before stays in force")
        else:
            self._configure_output(loaded, level, error_log)
            sources = (*loaded.sources, *self._application.files)
            report(loaded)
            say_where(self._application, addresses)
            _log.info("the new configuration is in force")
        await self._note(sources, before, began)

    def _configure_output(self, loaded: Loaded, level: int, error_log: Path | None) -> None:
        """Take the level and the error log of a configuration that is in force."""
        try:
            self._output.configure(level, error_log)
        except OSError as error:  # it could be opened a moment ago
            _log.error("%s", unopened(loaded, error))
            _log.error("all else of the new configuration is in force; level and error log stay as they were")

    async def _note(self, sources: Iterable[Path], before: dict[Path, State], read: int) -> None:
        """Compare later with what was there before it was read; with the present, where that has not changed since."""
        now = await asyncio.get_running_loop().run_in_executor(None, look, list(sources), read)
        self._known = {path: before.get(path, state) for path, state in now.items()}


def unopened(loaded: Loaded, error: OSError) -> Problem:
    """What is wrong with an error log that can't be opened."""
    hint = "let the user that prox runs as write there" if isinstance(error, PermissionError) else ""
    return loaded.error(f"{error.strerror or error} ({error.filename})", ("logging", "error_log"), hint)


def report(loaded: Loaded) -> None:
    """Log what is served in spite of."""
    for problem in (*loaded.warnings, *loaded.unbuilt()):
        _log.warning("%s", problem)


def say_where(application: Application, before: Mapping[str, Address]) -> None:
    """Log where services listen, where that is not where they did before."""
    for name, address in application.addresses.items():
        if address == before.get(name):
            continue
        if isinstance(address, tuple):
            host, port = address
            shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        else:
            shown = f"unix://{address}"
        _log.info("service %s listens on %s", name, shown)
