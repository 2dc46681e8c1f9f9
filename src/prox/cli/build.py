"""`prox build`: programs from plugins whose path is Go source."""

from pathlib import Path
from typing import Annotated

import typer

from .options import DEFAULT_CONFIG, ConfigOption


def build(
    config: ConfigOption = DEFAULT_CONFIG,
    force: Annotated[
        bool, typer.Option("--force", help="Compile also what is newer than its source.")
    ] = False,
) -> None:
    """Compile the plugins of a configuration that are Go source.

    Exits with 0 when each has its program, with 1 when not.
    """
    from prox.authoring import gobuild
    from prox.config import ConfigError, load

    from .report import count, print_problems, shown_path

    shown = shown_path(Path(config).absolute())
    try:
        loaded = load(config)
    except ConfigError as error:
        print_problems(error.problems)
        typer.echo(f"{shown}: {count(error.problems)}")
        raise typer.Exit(1) from None
    sources = gobuild.sources(loaded.config)
    failed = False
    for source in sources:
        try:
            result = gobuild.build(source, force=force)
        except gobuild.BuildError as error:
            failed = True
            print_problems(error.problems)
        else:
            typer.echo(f"{shown_path(source.program)}: {result}")
    if not sources:
        typer.echo(f"{shown}: no plugin is Go source")
    if failed:
        raise typer.Exit(1)
