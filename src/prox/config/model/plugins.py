"""Plugins, and the references that bind them to services, actions and routes."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, field_validator
from pydantic import ValidationInfo as Info

from prox.config.invalid import InvalidError, shown

from .base import (
    SECRET,
    Flag,
    HeaderName,
    Limit,
    Model,
    NamedModel,
    PathText,
    Positive,
    Timeout,
    Verdict,
    context_of,
)

Hook = Literal["on_request", "on_response", "on_connect", "on_disconnect"]
HOOKS: tuple[Hook, ...] = ("on_request", "on_response", "on_connect", "on_disconnect")


class OnError(Model):
    """What a hook does whose plugin fails, is not ready or answers too late."""

    request: Verdict = "deny"
    """on_request: deny answers 503, allow goes on as if the plugin had allowed."""
    response: Verdict = "allow"
    """on_response: deny answers 502, allow passes the upstream's answer unchanged."""
    connect: Verdict = "deny"
    """on_connect: deny closes the connection, allow goes on."""


def _read_policy(value: object) -> object:
    return {"request": value, "connect": value} if isinstance(value, str) else value


Policy = Annotated[OnError, BeforeValidator(_read_policy, json_schema_input_type=Verdict | OnError)]
"""`on_error`: one word sets on_request and on_connect."""


def _read_account(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise InvalidError("must be a name or a number")
    if not value or value != value.strip() or "\0" in value or ":" in value:
        raise InvalidError(f"{shown(value)} is no name of a user or a group")
    if _NUMBER.fullmatch(value) and not 0 <= int(value) <= _HIGHEST_ID:
        raise InvalidError(f"the number of a user or a group is 0 to {_HIGHEST_ID}")
    return value


_NUMBER = re.compile(r"[+-]?[0-9]+")
_HIGHEST_ID = 2**32 - 2
"""The number above it stands for "none" in the calls of the system."""

Account = Annotated[str, BeforeValidator(_read_account, json_schema_input_type=str | int)]
"""A name or a number, which is kept as text."""


class PluginLimits(Model):
    """Limits of the operating system for a plugin's processes."""

    memory: Positive | None = None
    """Address space in bytes, for each process."""
    open_files: Positive | None = None
    """Number of open file descriptors, for each process."""
    cpu_time: Limit = None
    """Processor time, in whole seconds, after which a process is ended; 0: no limit."""
    nice: Annotated[int, Field(strict=True, ge=-20, le=19)] | None = None
    """Scheduling priority, from -20 (first) to 19 (last)."""
    user: Account | None = None
    """User that the plugin runs as, by name or number; needs a prox that runs as root."""
    group: Account | None = None
    """Group that the plugin runs as, by name or number; None: the user's own."""


_ENV_NAME = re.compile(r"[^=\0]+")


def _argument(text: str) -> str:
    if "\0" in text:
        raise InvalidError("can't hold a NUL character")
    return text


def _env_name(name: str) -> str:
    if _ENV_NAME.fullmatch(name) is None:
        raise InvalidError(f"{shown(name)} is no name of an environment variable")
    return name


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name.lower() in seen:
            raise InvalidError(f'"{name}" is there twice', at=(index,))
        seen.add(name.lower())
    return names


Argument = Annotated[str, AfterValidator(_argument)]
EnvName = Annotated[str, AfterValidator(_env_name)]


class Plugin(NamedModel):
    """A program that prox runs and asks."""

    path: PathText
    """The program. Go source (a `.go` file or a package folder) is compiled by `prox build`."""
    autostart: Flag = False
    """Run it even where no route refers to it."""
    args: tuple[Argument, ...] = ()
    """Arguments of its command line."""
    env: Annotated[dict[EnvName, Argument], SECRET, Field(default_factory=dict, repr=False)]
    """Variables added to its environment."""
    env_pass: tuple[EnvName, ...] = ()
    """Variables of prox's own environment that it gets too; `*` stands for any characters."""
    cwd: PathText | None = None
    """Working directory; by default prox's own."""
    on_error: Policy = OnError()
    """What its hooks do when it fails; a reference may say otherwise."""
    push_scope: Literal["all", "bound"] = "all"
    """Which routes it may push targets to by action or `*`."""
    hooks: tuple[Hook, ...] | None = None
    """The hooks that it must serve; None: unknown until its first `ready`, () : none."""
    own_headers: Annotated[tuple[HeaderName, ...], AfterValidator(_distinct)] = ()
    """Request headers that only this plugin may set."""
    start_timeout: Timeout = 10.0
    """How long a first start may take to answer `configure`."""
    max_concurrency: Positive = 256
    """Calls in flight; more wait within their deadline."""
    limits: PluginLimits | None = None
    """Limits of the operating system."""

    @property
    def alias(self) -> str:
        """What it is called in logs: its name, or the path of one that is referred to by path."""
        return self.name or self.path


def _find_plugin(value: object, info: Info) -> object:
    if isinstance(value, Plugin):
        return value
    if not isinstance(value, str):
        raise InvalidError("must be the name or the path of a plugin")
    return context_of(info).plugin(value)


class PluginRef(Model):
    """A plugin bound to a service, an action or a route, with the policy for this binding."""

    plugin: Annotated[Plugin, BeforeValidator(_find_plugin), WithJsonSchema({"type": "string"})] = Field(
        validation_alias="name"
    )
    """Name or path of the plugin."""
    on_error: Policy | None = None
    """What applies here when it fails; None: what the plugin says. What is left out comes from the plugin."""
    timeout: Timeout | None = None
    """The longest that this plugin may take here; None: `plugin_timeout` alone."""

    @field_validator("on_error")
    @classmethod
    def _complete(cls, given: OnError | None, info: Info) -> OnError | None:
        plugin: Plugin | None = info.data.get("plugin")
        if given is None or plugin is None:
            return given
        return plugin.on_error.model_copy(
            update={name: getattr(given, name) for name in given.model_fields_set}
        )


def _read_reference(value: object, info: Info) -> object:
    if isinstance(value, str):
        return context_of(info).reference(value)
    if not isinstance(value, dict | PluginRef):
        raise InvalidError("must be the name or the path of a plugin, or an object with a name")
    return value


PluginRefs = tuple[
    Annotated[PluginRef, BeforeValidator(_read_reference, json_schema_input_type=str | PluginRef)], ...
]
"""References in the order in which the plugins are asked; a text is a name or a path."""
