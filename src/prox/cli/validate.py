"""`prox validate`: every problem of a configuration at once."""

from pathlib import Path

import typer

from .options import DEFAULT_CONFIG, ConfigOption


def validate(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Check a configuration and print all its problems.

    Exits with 0 when `prox serve` would take it, with 1 when not.
    """
    from prox.app.certificates import file_findings
    from prox.config import ConfigError, load

    from .report import count, print_problems, shown_path

    try:
        loaded = load(config, file_findings)
    except ConfigError as error:
        print_problems(error.problems)
        typer.echo(f"{shown_path(Path(config).absolute())}: {count(error.problems)}")
        raise typer.Exit(1) from None
    problems = (*loaded.unbuilt(), *loaded.warnings)
    print_problems(problems)
    found = count(problems)
    refused = any(problem.severity == "error" for problem in problems)
    if refused:
        typer.echo(f"{shown_path(Path(config).absolute())}: {found}")
        raise typer.Exit(1)
    services = loaded.config.services
    routes = sum(len(service.routes) for service in services.values())
    summary = ", ".join(
        f"{number} {noun}{'' if number == 1 else 's'}"
        for number, noun in (
            (len(services), "service"),
            (routes, "route"),
            (len(loaded.config.plugins), "plugin"),
        )
    )
    typer.echo(f"{shown_path(Path(config).absolute())}: valid: {summary}" + (f"; {found}" if found else ""))
