"""prox as a library: a whole proxy inside any asyncio program."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

from prox.app.application import Application
from prox.app.errors import StartError
from prox.app.loading import load_served
from prox.config import ConfigError, Loaded, Problem

Config: TypeAlias = Mapping[str, object] | str | os.PathLike[str]
"""A configuration as a mapping, or the path of a file or folder."""

__all__ = ["ConfigError", "Loaded", "Problem", "Server", "StartError"]


class Server:
    """A reverse proxy.

    ```python
    config = {
        "services": {
            "web": {
                "listen": "127.0.0.1:8080",
                "routes": [{"action": {"type": "proxy", "upstream": "127.0.0.1:9000"}}],
            }
        }
    }

    async with prox.Server(config) as server:
        print(server.addresses)
        await asyncio.sleep(3600)
    ```

    Args:
        config: a configuration as a mapping, or the path of a file or folder.
        base: the folder from which relative paths of a mapping count; the working directory when None.

    Attributes:
        loaded: the configuration in force with its warnings and the files it was read from; None before `start`.

    Raises:
        TypeError: `config` is neither a mapping nor a path.
    """

    def __init__(self, config: Config, *, base: str | Path | None = None) -> None:
        self._config = _checked(config)
        self._base = base
        self._application: Application | None = None
        self._changing = asyncio.Lock()
        self.loaded: Loaded | None = None

    @property
    def addresses(self) -> dict[str, tuple[str, int] | str]:
        """Where each service listens: host and port, which the system chose for port 0, or a socket's path."""
        return {} if self._application is None else self._application.addresses

    @property
    def application(self) -> Application:
        """The running parts.

        Raises:
            RuntimeError: it is not running.
        """
        if self._application is None:
            raise RuntimeError("the server is not running")
        return self._application

    async def start(self) -> None:
        """Start the plugins, then listen.

        Raises:
            ConfigError: the configuration is wrong; it holds every problem.
            StartError: it is right, but can't be served here and now.
            RuntimeError: it is running already.
        """
        async with self._changing:
            if self._application is not None:
                raise RuntimeError("the server is running")
            loaded = await self._load(self._config)
            application = Application()
            await application.start(loaded.config)
            self._application = application
            self.loaded = loaded

    async def reload(self, config: Config | None = None) -> None:
        """Put a configuration in force without losing a request: a new one, or the same files read again.

        Raises:
            ConfigError: the configuration is wrong; the old one stays in force.
            StartError: it can't be served; the old one stays in force.
            RuntimeError: it is not running.
            TypeError: what is given is neither a mapping nor a path.
        """
        async with self._changing:
            application = self.application
            wanted = self._config if config is None else _checked(config)
            loaded = await self._load(wanted)
            await application.apply(loaded.config)
            self._config = wanted
            self.loaded = loaded

    async def stop(self, drain: float | None = None) -> None:
        """Let running requests end, `drain` seconds at most (`runtime.shutdown_timeout` when None), and close.

        Once stopped it can be started again.
        """
        application, self._application = self._application, None
        if application is not None:
            await application.stop(drain)

    async def _load(self, config: Config) -> Loaded:
        base = None if self._base is None else Path(self._base)
        source = config if isinstance(config, Mapping) else Path(config)
        return await asyncio.get_running_loop().run_in_executor(None, load_served, source, base)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def _checked(config: Config) -> Config:
    given: object = config
    if isinstance(given, Mapping | str | os.PathLike):
        return config
    raise TypeError(
        f"a configuration is a mapping, or the path of a file or folder, and not {type(given).__name__}"
    )
