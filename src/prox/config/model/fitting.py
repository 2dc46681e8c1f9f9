"""Whether a route and its action fit together: balancer and upstream, variables and templates, match and type.

These rules look at several keys of a route at once. Each names the key that a person would change; `..` leads
from the action, where they are asked, up to the route.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prox.config.invalid import InvalidError, suggestion
from prox.config.upstreams import TARGET, parse_upstream, render, template_names

from .actions import Action, PassAction, ProxyAction

if TYPE_CHECKING:
    from .routes import Balancer, Match


def misfits(action: Action, route: Mapping[str, Any]) -> Iterator[InvalidError]:
    """What is wrong between `action` and the other keys of its route, as far as those are valid themselves."""
    if isinstance(action, PassAction) and "match" in route:
        yield from _pass_needs(route["match"])
    if "balancer" in route:
        yield from _balancer_fits(action, route["balancer"])
    if "set" in route and isinstance(action, ProxyAction | PassAction):
        yield from _template_fits(action, route)


def _pass_needs(match: "Match | None") -> Iterator[InvalidError]:
    if match is None or match.domain is None:
        at = ("..",) if match is None else ("..", "match")
        yield InvalidError('a route with "pass" needs a "match.domain": it is chosen by SNI alone', at=at)
    if match is None:
        return
    for key in ("path", "methods", "forward_proxy"):
        if getattr(match, key):
            yield InvalidError(
                f'a route with "pass" can\'t have "match.{key}": the stream is not opened',
                at=("..", "match", key),
            )


def _balancer_fits(action: Action, balancer: "Balancer | None") -> Iterator[InvalidError]:
    if not isinstance(action, ProxyAction | PassAction):
        if balancer is not None:
            yield InvalidError(
                f'a balancer works only with "proxy" and "pass", and the action is "{action.type}"',
                at=("..", "balancer"),
            )
        return
    takes_target = TARGET in template_names(action.upstream)
    if balancer is not None and not takes_target:
        yield InvalidError(
            f'{_upstream_of(action)} holds no "{{target}}", so the balancer has no effect',
            'write "{target}" where the chosen address goes, as in "http://{target}"',
            ("upstream",) if not action.name else ("..", "balancer"),
        )
    elif balancer is None and takes_target:
        yield InvalidError(
            f'{_upstream_of(action)} holds "{{target}}", and the route has no balancer',
            "",
            ("upstream",) if not action.name else (),
        )


def _template_fits(action: ProxyAction | PassAction, route: Mapping[str, Any]) -> Iterator[InvalidError]:
    variables: Mapping[str, str] = route["set"]
    balancer: Balancer | None = route.get("balancer")
    yield from _finished(action, variables, balancer)
    at: tuple[str | int, ...] = ()
    owner = ""  # what a named action holds is not written here: its problems stay where the route names it
    while isinstance(action, ProxyAction) and isinstance(action.fallback, ProxyAction):
        owner = action.name or owner
        at = at if owner else (*at, "fallback")
        action = action.fallback
        for error in _finished(action, variables, None):
            message = f'in action "{owner}": {error.message}' if owner and not action.name else error.message
            yield InvalidError(message, error.hint, at if owner or action.name else (*at, *error.at))


def _finished(
    action: ProxyAction | PassAction, variables: Mapping[str, str], balancer: "Balancer | None"
) -> Iterator[InvalidError]:
    """Whether every name has a value, and the text with the values is an upstream."""
    names = dict.fromkeys(template_names(action.upstream))
    unknown = [name for name in names if name != TARGET and name not in variables]
    for name in unknown:
        message = f'{_upstream_of(action)} holds "{{{name}}}", which the route does not set'
        yield InvalidError(
            message, suggestion(name, [*variables, TARGET]), () if action.name else ("upstream",)
        )
    if TARGET not in names:
        balancer = None
    elif balancer is None:
        return
    if names and not unknown:
        yield from _rendered(action, variables, balancer)


def _rendered(
    action: ProxyAction | PassAction, variables: Mapping[str, str], balancer: "Balancer | None"
) -> Iterator[InvalidError]:
    """The finished upstream must be one, for each target; for targets still to be pushed, with or without port."""
    targets = balancer.targets if balancer is not None else ()
    for index, target in enumerate(targets):
        try:
            _parse(action, variables, target)
        except InvalidError as error:
            yield InvalidError(
                f'with the target "{target}", {_upstream_of(action)} is wrong: {error.message}',
                error.hint,
                ("..", "balancer", "targets", index),
            )
    if targets:
        return
    try:
        _parse(action, variables, "target:80")
    except InvalidError as error:
        try:
            _parse(action, variables, "target")
        except InvalidError:
            at = ("upstream",) if not action.name else ("..", "set") if variables else ()
            yield InvalidError(f"{_upstream_of(action)} is wrong: {error.message}", error.hint, at)


def _parse(action: ProxyAction | PassAction, variables: Mapping[str, str], target: str) -> None:
    text = render(action.upstream, {**variables, TARGET: target})
    upstream = parse_upstream(text)
    if isinstance(action, PassAction) and ("://" in text or upstream.prefix):
        raise InvalidError(f'"{text}": a passed connection goes to "host:port"')


def _upstream_of(action: Action) -> str:
    return f'the upstream of action "{action.name}"' if action.name else "the upstream"
