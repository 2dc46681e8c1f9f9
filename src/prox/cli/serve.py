"""`prox serve`: run the proxy until a signal ends it."""

import typer

from .options import DEFAULT_CONFIG, ConfigOption, LogLevelOption, WatchOption, WorkersOption


def serve(
    config: ConfigOption = DEFAULT_CONFIG,
    log_level: LogLevelOption = None,
    watch: WatchOption = True,
    workers: WorkersOption = None,
) -> None:
    """Serve a configuration.

    SIGHUP reads it again and reopens log files; SIGTERM and SIGINT let running requests end, a second one ends at once.
    Exits with 0 after a signal and with 1 when it could not start.
    """
    if workers is not None and workers > 1:
        raise typer.BadParameter("several worker processes are not built yet; use 1", param_hint="--workers")
    from .serving import run

    raise typer.Exit(run(config, log_level, watch=watch))
