"""`prox plugin`: tools for authors of plugins."""

from __future__ import annotations

import shlex
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PathArgument = Annotated[
    str,
    typer.Argument(metavar="PATH", help="The plugin: a program, a script, Go source.", show_default=False),
]
ArgOption = Annotated[
    list[str] | None, typer.Option("--arg", metavar="TEXT", help="An argument for the plugin; repeatable.")
]
EnvOption = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="NAME=VALUE", help="A variable for the plugin; repeatable."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


_COLOURS = {"pass": None, "fail": typer.colors.RED, "skip": typer.colors.YELLOW}


def application() -> typer.Typer:
    """The commands below `prox plugin`."""
    app = typer.Typer(
        help="Make, call and check plugins.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command("new")(new)
    app.command("check")(check)
    app.command("call")(call)
    return app


class Language(StrEnum):
    """What `--language` takes."""

    PYTHON = "python"
    GO = "go"


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The plugin's name, and its folder.")],
    language: Annotated[
        Language, typer.Option("-l", "--language", help="What to write it in.")
    ] = Language.PYTHON,
) -> None:
    """Make a plugin that works, to begin with.

    Exits with 0 when it is made, with 1 when not. Nothing is overwritten.
    """
    from prox.authoring.new import NewPluginError, new_plugin

    try:
        made = new_plugin(name, language)
    except NewPluginError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    for file in made.files:
        typer.echo(f"{file}: written")
    typer.echo("\nTry it:")
    for step in (f"cd {shlex.quote(str(made.folder))}", *made.steps):
        typer.echo(f"  {step}")


def _list_checks(wanted: bool) -> None:
    if not wanted:
        return
    from prox.authoring.check import CHECKS

    width = max(len(check.name) for check in CHECKS)
    for check in CHECKS:
        typer.echo(f"{check.name:<{width}}  {check.says}")
    raise typer.Exit


def check(
    path: PathArgument,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", metavar="NAME", help="A check, a group, or a pattern like frames.*; repeatable."
        ),
    ] = None,
    arg: ArgOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
    _: Annotated[
        bool, typer.Option("--list", is_eager=True, callback=_list_checks, help="List the checks and exit.")
    ] = False,
) -> None:
    """Hold a plugin, in whatever language, to the plugin protocol.

    Exits with 0 when no check has failed, with 1 when one has, with 2 on wrong usage.
    """
    from prox.authoring.check import Subject, as_json, run, select, summary, text_lines

    variables = _pairs(env, "=", "--env")
    try:
        checks = select(only or [])
    except LookupError as error:
        raise typer.BadParameter(f"{error}; --list shows them", param_hint="--only") from None
    outcomes = []
    group = ""
    for outcome in run(Subject([_program(path), *(arg or [])], env=variables), checks):
        outcomes.append(outcome)
        if not json:
            if outcome.check.group != group:
                group = outcome.check.group
                typer.echo(group)
            colour = _COLOURS[outcome.result]
            for at, line in enumerate(text_lines(outcome)):
                typer.secho(line, fg=colour if at == 0 else None, color=_colour())
    if json:
        _print_json(as_json(outcomes))
    else:
        typer.echo(f"{path}: {summary(outcomes)}")
    if any(outcome.result == "fail" for outcome in outcomes):
        raise typer.Exit(1)


def call(
    path: PathArgument,
    method: Annotated[str, typer.Option("-X", "--method", help="Of the request.")] = "GET",
    request_path: Annotated[
        str, typer.Option("--path", help="Of the request, decoded; with ?query if you like.")
    ] = "/",
    header: Annotated[
        list[str] | None,
        typer.Option("-H", "--header", metavar="'NAME: VALUE'", help="Of the request; repeatable."),
    ] = None,
    body: Annotated[str, typer.Option("--body", metavar="TEXT|@FILE", help="Of the request.")] = "",
    domain: Annotated[str, typer.Option("--domain", help="Host that is asked for.")] = "example.com",
    client: Annotated[
        str, typer.Option("--client", metavar="IP:PORT", help="Of the client.")
    ] = "192.0.2.1:50000",
    route: Annotated[str, typer.Option("--route", metavar="ID", help="Route that matched.")] = "web:0",
    match_domain: Annotated[
        str, typer.Option("--match-domain", help="What * in the domain stands for.")
    ] = "",
    match_path: Annotated[str, typer.Option("--match-path", help="Path pattern that matched.")] = "",
    var: Annotated[
        list[str] | None,
        typer.Option("--var", metavar="NAME=VALUE", help="A variable of the route's set; repeatable."),
    ] = None,
    target: Annotated[str, typer.Option("--target", metavar="HOST:PORT", help="The balancer's choice.")] = "",
    response: Annotated[
        int | None,
        typer.Option("--response", metavar="STATUS", help="Call on_response about an answer to the request."),
    ] = None,
    response_header: Annotated[
        list[str] | None,
        typer.Option("--response-header", metavar="'NAME: VALUE'", help="Of that answer; repeatable."),
    ] = None,
    connect: Annotated[
        str | None, typer.Option("--connect", metavar="NAME", help="Call on_connect for this name (SNI).")
    ] = None,
    arg: ArgOption = None,
    env: EnvOption = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0.001, help="Seconds that it may take.")] = 5.0,
    json: JsonOption = False,
) -> None:
    """Start a plugin, call one of its hooks, and print its answer.

    Exits with 0 when the plugin has answered, whatever its verdict; with 1 when it has not; with 2 on wrong usage.
    """
    import os

    from prox.authoring.calling import call as call_hook
    from prox.authoring.running import RunningPlugin
    from prox.sdk.testing import PluginTestError, make_request
    from prox.sdk.testing.shown import shown_headers
    from prox.wire import (
        TRACE_BYTES,
        ConnInfo,
        HookType,
        Payload,
        ResponsePair,
        UpstreamResponseInfo,
        continue_trace,
        read_trace,
    )

    if connect is not None and response is not None:
        raise typer.BadParameter("it does not go with --response", param_hint="--connect")
    if response_header and response is None:
        raise typer.BadParameter("it goes with --response", param_hint="--response-header")
    given = _headers(header, "--header")
    trace = continue_trace(
        read_trace(given.get("Traceparent", []), given.get("Tracestate", [])), os.urandom(TRACE_BYTES)
    )
    request = make_request(
        method,
        request_path,
        headers=given,
        body=_body(body),
        domain=domain,
        client=client,
        route_id=route,
        match_domain=match_domain,
        match_path=match_path,
        vars=_pairs(var, "=", "--var"),
        target=target,
        trace=trace.traceparent,
        tracestate=trace.tracestate,
    )
    hook = HookType.ON_REQUEST
    payload: Payload = request
    if connect is not None:
        hook = HookType.ON_CONNECT
        payload = ConnInfo(route_id=route, domain=connect, remote_addr=client, match_domain=match_domain)
    elif response is not None:
        hook = HookType.ON_RESPONSE
        first, several = shown_headers(_headers(response_header, "--response-header"))
        answered = UpstreamResponseInfo(status=response, headers=first, all_values=several)
        payload = ResponsePair(request=request, response=answered)
    variables = _pairs(env, "=", "--env")
    plugin = RunningPlugin(
        [_program(path), *(arg or [])], env=variables, route_id=route, path=match_path, timeout=timeout
    )
    try:
        answer = call_hook(plugin, hook, payload)
    except (PluginTestError, TimeoutError) as error:
        typer.echo(f"{path}: {error}", err=True)
        if plugin.stderr and plugin.stderr not in str(error):
            typer.echo(f"its stderr:\n{plugin.stderr}", err=True, nl=False)
        raise typer.Exit(1) from None
    if json:
        _print_json(answer.as_json())
        return
    rows = list(answer.rows())
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        typer.echo(f"{name:<{width}}  {value}")


def _colour() -> bool | None:
    import os

    return False if os.environ.get("NO_COLOR") else None


def _program(path: str) -> Path:
    from prox.authoring.gobuild import BuildError
    from prox.authoring.program import program

    from .report import print_problems

    try:
        return program(path)
    except BuildError as error:
        print_problems(error.problems, to_stderr=True)
        raise typer.Exit(2) from None


def _pairs(given: Iterable[str] | None, separator: str, option: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given or ():
        name, found, value = text.partition(separator)
        if not found or not name.strip():
            raise typer.BadParameter(f"{text!r} is not NAME{separator}VALUE", param_hint=option)
        pairs[name.strip()] = value.strip() if separator == ":" else value
    return pairs


def _headers(given: Iterable[str] | None, option: str) -> dict[str, list[str]]:
    """All values of each header, under its name in canonical form."""
    from prox.sdk.testing.shown import canonical

    headers: dict[str, list[str]] = {}
    for text in given or ():
        for name, value in _pairs([text], ":", option).items():
            headers.setdefault(canonical(name), []).append(value)
    return headers


def _body(text: str) -> bytes:
    from pathlib import Path

    if not text.startswith("@"):
        return text.encode()
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{text[1:]}: {error.strerror}", param_hint="--body") from None


def _print_json(value: object) -> None:
    import json

    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
