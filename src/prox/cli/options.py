"""Options that several commands share, each declared once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_CONFIG = Path("config.json5")


class LogLevel(StrEnum):
    """What `--log-level` takes."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


ConfigOption = Annotated[
    Path, typer.Option("-c", "--config", help="Configuration: a file, or a folder of service files.")
]
LogLevelOption = Annotated[
    LogLevel | None,
    typer.Option("--log-level", case_sensitive=False, help="Goes before LOG_LEVEL and the configuration."),
]
WatchOption = Annotated[bool, typer.Option("--watch/--no-watch", help="Reload when a file changes.")]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Worker processes; goes before the configuration.")
]
