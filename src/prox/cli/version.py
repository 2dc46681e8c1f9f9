"""`prox version`."""

import typer


def version() -> None:
    """Print the version."""
    from prox import __version__

    typer.echo(f"prox {__version__}")
