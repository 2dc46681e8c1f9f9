"""`prox schema`: the JSON Schema of configurations, for editors."""

from enum import StrEnum
from typing import Annotated

import typer


class Part(StrEnum):
    """Which kind of file a schema is for."""

    CONFIG = "config"
    SERVICE = "service"
    ROUTES = "routes"


def schema(
    part: Annotated[
        Part, typer.Option("--for", help="A whole configuration, a service file, or a file of routes.")
    ] = Part.CONFIG,
) -> None:
    """Print the JSON Schema of configurations."""
    import json

    from prox.config import json_schema

    typer.echo(json.dumps(json_schema(part.value), indent=2))
