"""Routes: what a request must look like, who is asked about it, and where it goes."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic import ValidationInfo as Info

from prox.config.addresses import check_target
from prox.config.invalid import InvalidError, raise_all
from prox.config.patterns import check_method, split_domain, split_paths
from prox.config.upstreams import check_name

from .actions import Action, ActionSlot
from .base import Count, Flag, LogFile, Megabits, Model, Timeout
from .fitting import misfits
from .plugins import PluginRefs


def _domain(pattern: str) -> str:
    split_domain(pattern)
    return pattern


def _path(pattern: str) -> str:
    split_paths(pattern)
    return pattern


def _methods(methods: tuple[str, ...]) -> tuple[str, ...]:
    if not methods:
        raise InvalidError("a list of methods is empty", "leave it out to match every method")
    return tuple(dict.fromkeys(methods))


class Match(Model):
    """What a request must look like; what is None matches everything."""

    domain: Annotated[str, AfterValidator(_domain)] | None = None
    """Pattern of the host: `*` is one label, `a-*` part of one, `**` the rest."""
    path: Annotated[str, AfterValidator(_path)] | None = None
    """Exact path or a prefix that ends in `/*`; several with commas."""
    methods: Annotated[
        tuple[Annotated[str, AfterValidator(check_method)], ...], AfterValidator(_methods)
    ] = ()
    """Methods, in capitals after loading; none: all."""
    forward_proxy: Flag = False
    """Only requests with an absolute URL in the request line."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The alternatives of the path pattern; empty without one."""
        return split_paths(self.path) if self.path is not None else ()

    @model_validator(mode="after")
    def _matches_something(self) -> Self:
        if not self.model_fields_set:
            raise InvalidError("a match is empty", "leave it out to take every request")
        return self


def _distinct_targets(targets: tuple[str, ...]) -> tuple[str, ...]:
    seen: dict[str, int] = {}
    twice = []
    for index, target in enumerate(targets):
        first = seen.setdefault(target.lower(), index)
        if first != index:
            twice.append(InvalidError(f'the target "{target}" is there twice', at=(index,)))
    raise_all(twice)
    return targets


class Balancer(Model):
    """The choice among several targets."""

    type: Literal["roundrobin", "random", "leastconn"] = "roundrobin"
    """How a target is chosen."""
    targets: Annotated[
        tuple[Annotated[str, AfterValidator(check_target)], ...], AfterValidator(_distinct_targets)
    ] = ()
    """The targets; none where a plugin pushes them."""
    fallback: Flag = False
    """With groups pushed: a random target of all groups where the key has none."""


class Speed(Model):
    """Bandwidth limits."""

    download_mbps: Megabits = 0.0
    """To the client, in megabits a second; 0: no limit."""
    upload_mbps: Megabits = 0.0
    """From the client, in megabits a second; 0: no limit."""
    shared: Flag = False
    """One limit for all connections of the route instead of one for each."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if not self.download_mbps and not self.upload_mbps:
            raise InvalidError('one of "download_mbps" and "upload_mbps" must be above zero')
        return self


class Route(Model):
    """One rule of a service. The first that matches wins."""

    match: Match | None = None
    """What it takes; None: everything but absolute URLs."""
    plugins: PluginRefs = ()
    """Plugins asked after those of the service and the action."""
    plugin_timeout: Timeout = 5.0
    """One deadline for all plugins of one hook of one request."""
    balancer: Balancer | None = None
    """Choice of the `{target}`."""
    speed: Speed | None = None
    """Bandwidth limits."""
    set: dict[Annotated[str, AfterValidator(check_name)], str] = Field(default_factory=dict)
    """Variables for the upstream's template; plugins see them too."""
    access_log: LogFile | None = None
    """Its own access log, or "off"; beats the action's."""
    max_body_bytes: Count | None = None
    """Size of a request body, in place of the service's, larger or smaller; 0: no limit."""
    action: ActionSlot
    """What it does: an action or its name."""

    @field_validator("action")
    @classmethod
    def _fits(cls, action: Action, info: Info) -> Action:
        raise_all(list(misfits(action, info.data)))
        return action
