"""The command line. A command is one module here and one line in `_register`.

Command modules import what they need inside their functions, so that each command loads only its own part.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import typer


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `prox` with the arguments of the process, or with others; ends in SystemExit."""
    given = sys.argv[1:] if arguments is None else arguments
    application()(args=[_long_spelling(argument) for argument in given], prog_name="prox")


def application() -> typer.Typer:
    """The command line with all its commands."""
    import typer

    app = typer.Typer(
        help="A reverse proxy whose logic runs in external plugins.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    _register(app)
    return app


def _register(app: typer.Typer) -> None:
    from . import build, plugin, schema, serve, validate, version

    app.command("serve")(serve.serve)
    app.command("validate")(validate.validate)
    app.command("build")(build.build)
    app.add_typer(plugin.application(), name="plugin")
    app.command("schema")(schema.schema)
    app.command("version")(version.version)


def _long_spelling(argument: str) -> str:
    """`-config` is how the Go proxy of the same name spells it; to typer it would be `-c onfig`."""
    return f"-{argument}" if argument == "-config" or argument.startswith("-config=") else argument
