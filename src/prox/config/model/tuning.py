"""The tuning table of a service: timeouts, sizes and limits, each with its default."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema, field_validator, model_validator

from prox.config.durations import parse_duration
from prox.config.invalid import InvalidError

from .base import Count, Flag, Limit, Model, Positive, ReadableFile, Timeout


def _flush_interval(value: object) -> float:
    # Go takes any negative interval for "at once"; configurations have it as -1 or "-1s".
    if isinstance(value, int | float) and value < 0:
        return -1.0
    if isinstance(value, str) and value.startswith("-"):
        parse_duration(value[1:] if value[1:].strip("0123456789") else f"{value[1:]}s")
        return -1.0
    return parse_duration(value)


def _via_name(value: str) -> str:
    if not _VIA_NAME.fullmatch(value):
        raise InvalidError(
            f'"{value}" can\'t stand in Via', 'a host with or without a port, or a name like "prox"'
        )
    return value


_VIA_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?")

ViaName = Annotated[str, AfterValidator(_via_name)]


class Tuning(Model):
    """`config` of a service. Durations are seconds, None is off."""

    read_timeout: Limit = None
    """From the first byte of a request to the end of its body."""
    write_timeout: Limit = None
    """From the end of the request's head to the end of the answer."""
    read_header_timeout: Limit = 10.0
    """From the first byte of a request to the end of its head."""
    min_body_rate: Count = 256
    """Bytes a second that a request body must bring on average after 20 s; 0 is off."""
    idle_timeout: Limit = 120.0
    """How long a connection may wait for its next request."""
    response_header_timeout: Limit = 30.0
    """How long an upstream may take from the end of the request to the head of its answer, or take no byte of a body."""
    flush_interval: Annotated[
        float,
        BeforeValidator(_flush_interval),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number", "minimum": -1}]}),
    ] = 0.0
    """Accepted for compatibility: prox never holds an answer back. -1: send on at once."""
    dial_timeout: Timeout = 30.0
    """How long connecting to an upstream may take, where the action has no `timeout`."""
    keep_alive: Limit = 30.0
    """Interval of TCP keep-alive probes to upstreams."""
    tls_handshake_timeout: Limit = 10.0
    """How long a TLS handshake may take."""
    max_idle_conns: Count = 4096
    """Idle upstream connections kept in all."""
    max_idle_conns_per_host: Count = 4096
    """Idle upstream connections kept for one upstream."""
    read_buffer_size: Positive = 32768
    """Bytes read at once."""
    write_buffer_size: Positive = 32768
    """Bytes written at once."""
    h2_read_idle_timeout: Limit = 30.0
    """Silence after which an HTTP/2 connection is pinged."""
    h2_ping_timeout: Limit = 15.0
    """How long the answer to a ping may take."""
    max_connections: Count = 0
    """Client connections at a time, over all workers; 0: no limit."""
    max_connections_per_client: Count = 0
    """Connections at a time from one client address; 0: no limit."""
    max_requests_per_connection: Count = 0
    """Requests after which a connection is closed; 0: no limit."""
    max_pipelined: Positive = 16
    """Requests of one connection that are read before the first is answered."""
    disable_compression: Flag = True
    """Leave Accept-Encoding and answers as they are; false asks upstreams for compressed answers."""
    max_header_bytes: Positive = 64 * 1024
    """Size of a request's head; more is answered with 431."""
    max_header_count: Positive = 100
    """Number of header lines; more is answered with 431."""
    max_response_header_bytes: Positive = 256 * 1024
    """Size of the head of an upstream's answer; more is answered with 502."""
    max_target_bytes: Positive = 16 * 1024
    """Length of the request target; more is answered with 414."""
    max_body_bytes: Count = 0
    """Size of a request body, where the route says no other; more is answered with 413; 0: no limit."""
    via: ViaName | None = None
    """Name by which prox makes itself known in `Via`, on requests to upstreams and on their answers; off without."""
    tls_min_version: Literal["1.2", "1.3"] = "1.2"
    """Oldest TLS version that is accepted."""
    tls_ciphers: tuple[str, ...] = ()
    """Names of cipher suites for TLS 1.2; none: a modern choice."""
    tls_client_ca: ReadableFile | None = None
    """PEM file of the authorities that sign client certificates."""
    tls_client_auth: Literal["off", "request", "require"] = "off"
    """Whether clients are asked for a certificate."""
    h2c: Flag = False
    """HTTP/2 without TLS, by prior knowledge."""
    relay_idle_timeout: Limit = None
    """Silence in both directions after which a tunnel (WebSocket, CONNECT) is broken off."""
    proxy_protocol: Flag = False
    """PROXY protocol: required from `trusted_proxies`, refused from others."""

    @field_validator("tls_ciphers")
    @classmethod
    def _some_cipher(cls, ciphers: tuple[str, ...]) -> tuple[str, ...]:
        for index, cipher in enumerate(ciphers):
            if not cipher or not cipher.replace("-", "").replace("_", "").isalnum():
                raise InvalidError(f'"{cipher}" is no name of a cipher suite', at=(index,))
        return ciphers

    @model_validator(mode="after")
    def _knows_the_client_ca(self) -> Self:
        if self.tls_client_auth != "off" and self.tls_client_ca is None:
            raise InvalidError(
                f'tls_client_auth "{self.tls_client_auth}" needs "tls_client_ca"', at=("tls_client_auth",)
            )
        if self.tls_client_auth == "off" and self.tls_client_ca is not None:
            raise InvalidError(
                'tls_client_ca has no effect while tls_client_auth is "off"',
                'set tls_client_auth to "request" or "require"',
                at=("tls_client_ca",),
            )
        return self
