"""What all models share: the base class, the types of values, and the questions that validation asks."""

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    WithJsonSchema,
)
from pydantic import ValidationInfo as Info
from pydantic.json_schema import SkipJsonSchema

from prox.config.addresses import ListenAddress, parse_listen
from prox.config.durations import PATTERN, parse_duration
from prox.config.invalid import InvalidError, shown

if TYPE_CHECKING:
    from .actions import Action
    from .plugins import Plugin, PluginRef
    from .resources import Resource


class Context(Protocol):
    """What validation asks of the loader: other parts of the configuration, and files.

    Each raises `InvalidError`. Paths count from the file that the validated part stands in.
    """

    def path(self, text: str) -> str:
        """The absolute path, whether it exists or not."""

    def readable(self, text: str) -> str:
        """The absolute path of a file that can be read."""

    def certificates(self, text: str) -> str:
        """The absolute path of a readable certificate, or of a folder of certificates with their keys."""

    def is_folder(self, path: str) -> bool:
        """Whether an absolute path is a folder."""

    def action(self, name: str) -> "Action":
        """The action of that name."""

    def resource(self, name: str) -> "Resource":
        """The resource of that name."""

    def plugin(self, reference: str) -> "Plugin":
        """The plugin of that name, or the one at that path."""

    def reference(self, reference: str) -> "PluginRef":
        """The same as a reference without a policy of its own."""


def context_of(info: Info) -> Context:
    """The loader behind this validation."""
    context: Context | None = info.context
    if context is None:
        raise TypeError("configuration models are made by prox.config.load and parse")
    return context


class Model(BaseModel):
    """Immutable; an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
    )


def _not_a_key(_: object) -> str:
    raise InvalidError('unknown key "<name>"')


class NamedModel(Model):
    """Something that the document may give a name, which stands outside of the object itself."""

    # An ordinary field, for speed and a readable repr, under a key that nobody writes.
    name: Annotated[str, BeforeValidator(_not_a_key), SkipJsonSchema()] = Field(
        default="", validation_alias="<name>"
    )
    """The name in the document; empty for an object that was written inline."""

    def named(self, name: str) -> Self:
        """Give the name; for the loader, before anybody else sees the object."""
        self.__dict__["name"] = name
        return self


class _Secret:
    """Marks a field that must not be shown."""

    def __repr__(self) -> str:
        return "SECRET"


SECRET = _Secret()


def secret_fields(model: type[BaseModel]) -> frozenset[str]:
    """The fields of a model whose values must not be shown."""
    return frozenset(name for name, field in model.model_fields.items() if SECRET in field.metadata)


def _off(value: object) -> float | None:
    return None if value is None else parse_duration(value) or None


def _longer_than_zero(value: object) -> float:
    seconds = parse_duration(value)
    if seconds == 0:
        raise InvalidError("the duration must be longer than zero")
    return seconds


def _resolve_path(text: str, info: Info) -> str:
    return context_of(info).path(text)


def _readable_path(text: str, info: Info) -> str:
    return context_of(info).readable(text)


def _log_path(text: str, info: Info) -> str:
    return "off" if text == "off" else context_of(info).path(text)


def _read_listen(value: object) -> ListenAddress:
    if isinstance(value, ListenAddress):
        return value
    if not isinstance(value, str):
        raise InvalidError("must be an address in quotes", 'as in "127.0.0.1:8080" or ":8080"')
    return parse_listen(value)


_DURATION_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "string", "pattern": PATTERN}, {"type": "number", "minimum": 0}],
}

Flag = Annotated[bool, Strict()]
Count = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Positive = Annotated[int, Field(strict=True, ge=1, lt=2**63)]
Megabits = Annotated[float, Field(strict=True, ge=0)]
Seconds = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema(_DURATION_SCHEMA)]
"""A duration that may be zero."""
Timeout = Annotated[float, BeforeValidator(_longer_than_zero), WithJsonSchema(_DURATION_SCHEMA)]
"""A duration longer than zero."""
Limit = Annotated[float | None, BeforeValidator(_off), WithJsonSchema(_DURATION_SCHEMA)]
"""A duration, or None: off. Zero in the document is off."""
PathText = Annotated[str, AfterValidator(_resolve_path)]
"""An absolute path; in the document it may be relative to the file that holds it."""
ReadableFile = Annotated[str, AfterValidator(_readable_path)]
"""The same, of a file that can be read."""
LogFile = Annotated[str, AfterValidator(_log_path)]
"""An absolute path, or "off"."""
Listen = Annotated[
    ListenAddress,
    BeforeValidator(_read_listen),
    WithJsonSchema(
        {"type": "string", "examples": [":8080", "127.0.0.1:8080", "[::]:443", "unix:///run/prox.sock"]}
    ),
]
Verdict = Literal["deny", "allow"]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# Headers that frame a message or belong to one connection (RFC 9112 §6, RFC 9110 §7.6.1): prox makes them.
_OWN = frozenset(
    {
        *(
            "connection",
            "content-length",
            "expect",
            "http2-settings",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
        ),
        *("transfer-encoding", "upgrade"),
    }
)


def _header_name(name: str) -> str:
    if _TOKEN.fullmatch(name) is None:
        raise InvalidError(f"{shown(name)} is no header name")
    return name


def _header_to_set(name: str) -> str:
    if _header_name(name).lower().replace("_", "-") in _OWN:
        raise InvalidError(f'the header "{name}" is made by prox and can\'t be set')
    return name


def _header_value(value: str) -> str:
    if _CONTROL.search(value):
        raise InvalidError("a header value can't hold control characters")
    if value != value.strip(" \t"):
        raise InvalidError("a header value can't begin or end with blanks")
    return value


def _distinct_headers(headers: dict[str, str]) -> dict[str, str]:
    seen: dict[str, str] = {}
    for name in headers:
        lower = name.lower()
        if lower in seen:
            raise InvalidError(f'the header "{name}" is there twice, as "{seen[lower]}" too', at=(name,))
        seen[lower] = name
    return headers


HeaderName = Annotated[str, AfterValidator(_header_name)]
Headers = Annotated[
    dict[Annotated[str, AfterValidator(_header_to_set)], Annotated[str, AfterValidator(_header_value)]],
    AfterValidator(_distinct_headers),
]
