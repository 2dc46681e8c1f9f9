"""`prox version`."""

import typer


def version() -> None:
    """Print the version, and whether the hot path is compiled."""
    from prox import __version__

    way = "compiled" if is_compiled() else "interpreted"
    typer.echo(f"prox {__version__} ({way})")


def is_compiled() -> bool:
    """Whether mypyc compiled the modules of the hot path: it did in wheels, not in a checkout."""
    from prox.http import server

    return not server.__file__.endswith(".py")
