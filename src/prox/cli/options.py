"""Options that several commands share, each declared once."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_CONFIG = Path("config.json5")


LOG_LEVELS = ("debug", "info", "warn", "error")
"""What `--log-level` takes."""


def _level(text: str) -> str:
    level = text.lower()
    if level not in LOG_LEVELS:
        raise typer.BadParameter(f'"{text}" is no level; there are debug, info, warn and error')
    return level


def _workers(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise typer.BadParameter(f'"{text}" is no number of processes; give 1 or more')
    return int(text)


ConfigOption = Annotated[
    Path, typer.Option("-c", "--config", help="Configuration: a file, or a folder of service files.")
]
LogLevelOption = Annotated[
    str | None,
    typer.Option(
        "--log-level",
        parser=_level,
        metavar=f"<{'|'.join(LOG_LEVELS)}>",
        help="Goes before LOG_LEVEL and the configuration.",
    ),
]
WatchOption = Annotated[bool, typer.Option("--watch/--no-watch", help="Reload when a file changes.")]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        parser=_workers,
        metavar="<int>",
        help="Worker processes; goes before the configuration.",
    ),
]
