"""Actions: what becomes of a request that a route took."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    field_validator,
    model_validator,
)
from pydantic import ValidationInfo as Info
from pydantic.annotated_handlers import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from prox.config.addresses import check_host, split_host_port
from prox.config.invalid import InvalidError, suggestion
from prox.config.upstreams import TARGET, check_l4_upstream, check_upstream, is_plain, template_names

from .base import (
    SECRET,
    Count,
    Flag,
    Headers,
    Limit,
    LogFile,
    Model,
    NamedModel,
    PathText,
    ReadableFile,
    Timeout,
    context_of,
)
from .plugins import PluginRefs
from .resources import Resource

TYPES = ("proxy", "static", "serve", "pass", "drop")


class _Slot:
    """A place for an action or a resource: an object written inline, or the name of one."""

    def __init__(self, kind: Literal["action", "resource"]) -> None:
        self._kind = kind

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_wrap_validator_function(self._read, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "description": f"Name of {self._what()}."}, handler(schema)]}

    def _what(self) -> str:
        return "an action" if self._kind == "action" else "a resource"

    def _read(self, value: object, handler: core_schema.ValidatorFunctionWrapHandler, info: Info) -> object:
        if isinstance(value, str):
            if not value:
                raise InvalidError(f"the name of {self._what()} is empty")
            context = context_of(info)
            return context.action(value) if self._kind == "action" else context.resource(value)
        if isinstance(value, NamedModel):
            return value
        if not isinstance(value, dict):
            raise InvalidError(f"must be the name of {self._what()} or an object")
        if self._kind == "action":
            check_type(value)
        return handler(value)


def check_type(action: dict[str, object]) -> None:
    """Refuse an object that is no action, before its keys are compared with those of one."""
    kind = action.get("type")
    if kind is None:
        raise InvalidError('"type" is missing', f"one of {', '.join(TYPES)}")
    if kind not in TYPES:
        shown = f'"{kind}" is no type of action' if isinstance(kind, str) else "must be a type of action"
        hint = suggestion(kind, TYPES) if isinstance(kind, str) else ""
        raise InvalidError(shown, hint or f"one of {', '.join(TYPES)}", at=("type",))


class _Action(NamedModel):
    plugins: PluginRefs = ()
    """Plugins for all routes that use the action."""
    access_log: LogFile | None = None
    """Its own access log, or "off"; a route's beats it."""


class UpstreamTls(Model):
    """TLS to the upstream: by default verified against the system's authorities."""

    ca: ReadableFile | None = None
    """PEM file of the authorities to trust instead."""
    server_name: Annotated[str, AfterValidator(check_host)] | None = None
    """Name in SNI and in the certificate, where it is not the upstream's host."""
    cert: ReadableFile | None = None
    """PEM file of a client certificate."""
    key: Annotated[ReadableFile | None, Field(validate_default=True)] = None
    """Its key."""

    @field_validator("key")
    @classmethod
    def _both_or_none(cls, key: str | None, info: Info) -> str | None:
        if "cert" in info.data and (key is None) != (info.data["cert"] is None):
            raise InvalidError('"cert" and "key" go together', at=("..",))
        return key


class Health(Model):
    """How long a failing target is left out: from `min`, doubled at each failure, up to `max`."""

    min: Timeout = 1.0
    """After the first failure."""
    max: Annotated[Timeout, Field(validate_default=True)] = 30.0
    """At most."""

    @field_validator("max")
    @classmethod
    def _above_min(cls, longest: float, info: Info) -> float:
        if longest < info.data.get("min", 0.0):
            raise InvalidError('"max" is shorter than "min"')
        return longest


class ProxyAction(_Action):
    """Send the request to an upstream."""

    type: Literal["proxy"]
    upstream: Annotated[str, AfterValidator(check_upstream)]
    """`host:port`, a URL with an optional path prefix, or a template with `{target}` and names from `set`."""
    timeout: Timeout | None = None
    """How long connecting may take; None: the service's `dial_timeout`."""
    headers: Annotated[Headers, SECRET, Field(default_factory=dict, repr=False)]
    """Set on the request to the upstream; `Host` too."""
    fallback: "ActionSlot | None" = None
    """Action used when there is no target or the upstream can't be reached."""
    proto: Literal["h2", "http/1.1"] | None = None
    """"h2": HTTP/2 alone, without TLS too; "http/1.1": that alone. By default TLS upstreams choose (ALPN)."""
    stream: Flag = False
    """Bodies may take their time: `min_body_rate` is not asked for. Both directions always flow at once, unbuffered."""
    tls: UpstreamTls | None = None
    """TLS to the upstream."""
    send_proxy: Annotated[int, Field(strict=True, ge=1, le=2)] | None = None
    """PROXY protocol header of this version on upstream connections."""
    max_connections: Count = 0
    """Connections to one target at a time; 0: no limit."""
    max_queue: Count = 0
    """Requests that wait for a connection to one target."""
    queue_timeout: Limit = 10.0
    """How long one waits."""
    health: Health = Health()
    """How long a failing target is left out."""

    @field_validator("headers")
    @classmethod
    def _valid_host(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if name.lower() == "host":
                try:
                    split_host_port(value)
                except InvalidError as error:
                    raise InvalidError(error.message, error.hint, (name,)) from None
        return headers

    @field_validator("fallback")
    @classmethod
    def _answers_requests(cls, fallback: "Action | None") -> "Action | None":
        if isinstance(fallback, PassAction):
            raise InvalidError('a fallback answers a request, which "pass" can\'t')
        if isinstance(fallback, ProxyAction) and TARGET in template_names(fallback.upstream):
            which = f'the upstream of action "{fallback.name}"' if fallback.name else "the upstream"
            raise InvalidError(f'{which} holds "{{target}}", and a fallback has no target', at=("upstream",))
        return fallback

    @field_validator("tls")
    @classmethod
    def _has_tls(cls, tls: UpstreamTls | None, info: Info) -> UpstreamTls | None:
        upstream: str | None = info.data.get("upstream")
        if tls is not None and upstream is not None and is_plain(upstream):
            raise InvalidError(f'the upstream "{upstream}" is without TLS', "write it with https://")
        return tls


class StaticAction(_Action):
    """Answer with a fixed status, headers and body."""

    type: Literal["static"]
    status: Annotated[int, Field(strict=True, ge=100, le=599)] = 200
    """Status of the answer; one below 200 is an announcement, and 200 follows."""
    headers: Headers = Field(default_factory=dict)
    """Headers of the answer."""
    body_ref: Annotated[Resource, _Slot("resource")] | None = None
    """The body: a resource or its name. Text and JSON with `{` are templates."""


class ServeAction(_Action):
    """Answer with files."""

    type: Literal["serve"]
    root: PathText | None = None
    """Folder whose files are served."""
    file: PathText | None = None
    """One file for every request."""

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.root is None) == (self.file is None):
            raise InvalidError('a "serve" action has exactly one of "root" and "file"')
        return self


class PassAction(_Action):
    """Relay the TLS stream unopened."""

    type: Literal["pass"]
    upstream: Annotated[str, AfterValidator(check_l4_upstream)]
    """`host:port`, or a template with `{target}` and names from `set`."""
    timeout: Timeout | None = None
    """How long connecting may take; None: the service's `dial_timeout`."""
    send_proxy: Annotated[int, Field(strict=True, ge=1, le=2)] | None = None
    """PROXY protocol header of this version before the client's bytes."""
    max_connections: Count = 0
    """Connections to one target at a time; 0: no limit."""
    max_queue: Count = 0
    """Connections that wait for a place at one target."""
    queue_timeout: Limit = 10.0
    """How long one waits."""
    health: Health = Health()
    """How long a failing target is left out."""


class DropAction(_Action):
    """Close without an answer."""

    type: Literal["drop"]


Action = ProxyAction | StaticAction | ServeAction | PassAction | DropAction


def _tag(value: Any) -> str:
    # In angle brackets, so that no key of a document is ever taken for a tag in an error's location.
    return f"<{value['type'] if isinstance(value, dict) else value.type}>"


InlineAction = Annotated[
    Annotated[ProxyAction, Tag("<proxy>")]
    | Annotated[StaticAction, Tag("<static>")]
    | Annotated[ServeAction, Tag("<serve>")]
    | Annotated[PassAction, Tag("<pass>")]
    | Annotated[DropAction, Tag("<drop>")],
    Discriminator(_tag),
]
ActionSlot = Annotated[InlineAction, _Slot("action")]
"""An action, or the name of one."""

ProxyAction.model_rebuild()
