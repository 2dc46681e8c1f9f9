"""The root of the document: all named things, and what concerns the whole program."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator
from pydantic import ValidationInfo as Info

from prox.config.invalid import InvalidError

from .actions import InlineAction
from .base import SECRET, Listen, LogFile, Model, PathText, Positive, Timeout
from .plugins import Plugin
from .resources import Resource
from .services import Service


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class Logging(Model):
    """What is logged, and where."""

    level: Annotated[Literal["debug", "info", "warn", "error"], BeforeValidator(_lower)] = "info"
    """The lowest level that is logged; the command line and LOG_LEVEL go before it."""
    access_log: LogFile | None = None
    """File for one JSON line a request, where route and action have none of their own."""
    error_log: PathText | None = None
    """File for what is logged with warn and error."""


def _some_token(token: str) -> str:
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidError("the token must be printable ASCII without blanks, and not empty")
    return token


class Admin(Model):
    """The admin API."""

    listen: Listen
    """Where it listens, as a service does."""
    token: Annotated[
        Annotated[str, AfterValidator(_some_token)] | None, SECRET, Field(repr=False, validate_default=True)
    ] = None
    """What a request must bring as `Authorization: Bearer`; required unless only this machine can reach it."""

    @field_validator("token")
    @classmethod
    def _guards_an_open_address(cls, token: str | None, info: Info) -> str | None:
        listen = info.data.get("listen")
        if token is None and listen is not None and not listen.is_loopback:
            raise InvalidError(
                f'the admin API on "{listen}" can be reached from other machines and needs a "token"',
                'or listen on "127.0.0.1:9090"',
                ("..", "listen"),
            )
        return token


class Runtime(Model):
    """Settings of the program itself."""

    workers: Positive | None = None
    """Worker processes; None: one for each core."""
    shutdown_timeout: Timeout = 15.0
    """How long requests in flight may take to end at a shutdown or a reload."""
    dot_segments: Literal["reject", "pass"] = "reject"
    """Paths with `.` or `..` segments: answered with 400, or passed on as they are."""
    max_plugin_line_bytes: Positive = 16 * 1024 * 1024
    """Longest line that a plugin may write to its stdout."""
    max_plugin_frame_bytes: Annotated[int, Field(strict=True, ge=1024, lt=2**32)] = 1024 * 1024
    """Largest frame to or from a plugin."""


class Config(Model):
    """A whole configuration."""

    services: dict[str, Service] = Field(default_factory=dict)
    """Listeners with their routes."""
    plugins: dict[str, Plugin] = Field(default_factory=dict)
    """Plugins by name."""
    actions: dict[str, InlineAction] = Field(default_factory=dict)
    """Actions by name."""
    resources: dict[str, Resource] = Field(default_factory=dict)
    """Bodies by name."""
    logging: Logging = Logging()
    """What is logged, and where."""
    admin: Admin | None = None
    """The admin API; None: off."""
    runtime: Runtime = Runtime()
    """Settings of the program itself."""
