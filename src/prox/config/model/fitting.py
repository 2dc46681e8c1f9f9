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
    unknown = list(_unknown_names(action, variables, allow_target=True))
    yield from unknown
    balancer: Balancer | None = route.get("balancer")
    if not unknown and (balancer is not None or TARGET not in template_names(action.upstream)):
        yield from _rendered(action, variables, balancer)
    at: tuple[str | int, ...] = ()
    while isinstance(action, ProxyAction) and isinstance(action.fallback, ProxyAction):
        at = (*at, "fallback") if not action.name else ()
        action = action.fallback
        wrong = list(_unknown_names(action, variables, allow_target=False))
        if not wrong and template_names(action.upstream):
            wrong = list(_rendered(action, variables, None))
        for error in wrong:
            yield InvalidError(error.message, error.hint, (*at, *error.at))


def _unknown_names(
    action: ProxyAction | PassAction, variables: Mapping[str, str], *, allow_target: bool
) -> Iterator[InvalidError]:
    at = ("upstream",) if not action.name else ()
    for name in dict.fromkeys(template_names(action.upstream)):
        if name == TARGET:
            if not allow_target:
                yield InvalidError(
                    f'{_upstream_of(action)} holds "{{target}}", and a fallback has no target', "", at
                )
        elif name not in variables:
            hint = suggestion(name, [*variables, TARGET])
            yield InvalidError(
                f'{_upstream_of(action)} holds "{{{name}}}", which the route does not set', hint, at
            )


def _rendered(
    action: ProxyAction | PassAction, variables: Mapping[str, str], balancer: "Balancer | None"
) -> Iterator[InvalidError]:
    """The finished upstream must be one, for each target; for targets still to be pushed, with or without port."""
    if not template_names(action.upstream):
        return
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
