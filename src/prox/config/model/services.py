"""Services: a listener with its TLS, its tuning and its routes."""

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, field_validator
from pydantic import ValidationInfo as Info

from prox.config.invalid import InvalidError

from .base import Flag, Listen, NamedModel, ReadableFile, context_of
from .plugins import PluginRefs
from .routes import Route
from .tls import Acme
from .tuning import Tuning

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(value: object) -> Network:
    if isinstance(value, Network):
        return value
    if not isinstance(value, str):
        raise InvalidError('must be a network in quotes, as in "10.0.0.0/8"')
    try:
        return ipaddress.ip_network(value)
    except ValueError:
        pass
    try:
        loose = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise InvalidError(f'"{value}" is no network', 'write it as "10.0.0.0/8" or "fd00::/8"') from None
    raise InvalidError(f'"{value}" is an address within a network', f'did you mean "{loose}"?')


def _certificates(text: str, info: Info) -> str:
    return context_of(info).certificates(text)


class Service(NamedModel):
    """One listener and what it serves."""

    listen: Listen
    """`:8080`, `127.0.0.1:8080`, `[::]:443` or `unix:///path`."""
    h2: Flag = True
    """HTTP/2 by ALPN on a TLS listener."""
    trusted_proxies: tuple[
        Annotated[Network, BeforeValidator(_network), WithJsonSchema({"type": "string"})], ...
    ] = ()
    """Networks whose X-Forwarded-For and PROXY protocol are believed."""
    config: Tuning = Tuning()
    """Timeouts, sizes and limits."""
    plugins: PluginRefs = ()
    """Plugins for all its routes."""
    tls_cert: Annotated[str, AfterValidator(_certificates)] | None = None
    """PEM file of the certificate chain; or a folder of `name.crt` or `name.pem` with `name.key`, chosen by SNI."""
    tls_key: Annotated[ReadableFile | None, Field(validate_default=True)] = None
    """PEM file of the key; none where `tls_cert` is a folder."""
    acme: Acme | None = None
    """Automatic certificates; turns TLS on."""
    tls: Annotated[Flag | None, Field(validate_default=True)] = None
    """Whether the listener speaks TLS; by default where it has certificates. True without any: with a self-signed one.

    Never None after loading.
    """
    routes: tuple[Route, ...] = ()
    """Tried in order; the first that matches wins."""

    @field_validator("config")
    @classmethod
    def _trusts_somebody(cls, config: Tuning, info: Info) -> Tuning:
        if config.proxy_protocol and info.data.get("trusted_proxies", True) == ():
            raise InvalidError(
                'proxy_protocol is required from "trusted_proxies" and refused from others, and there are none',
                at=("proxy_protocol",),
            )
        return config

    @field_validator("tls_key")
    @classmethod
    def _goes_with_a_certificate(cls, key: str | None, info: Info) -> str | None:
        if "tls_cert" not in info.data:
            return key
        certificate: str | None = info.data["tls_cert"]
        if certificate is None:
            if key is not None:
                raise InvalidError('"tls_key" without "tls_cert"')
        elif context_of(info).is_folder(certificate):
            if key is not None:
                raise InvalidError('"tls_cert" is a folder, which holds the keys too', 'leave "tls_key" out')
        elif key is None:
            raise InvalidError('"tls_cert" without "tls_key"', at=("..", "tls_cert"))
        return key

    @field_validator("acme")
    @classmethod
    def _alone(cls, acme: Acme | None, info: Info) -> Acme | None:
        if acme is not None and info.data.get("tls_cert") is not None:
            raise InvalidError('"acme" and "tls_cert" can\'t be given both')
        return acme

    @field_validator("tls")
    @classmethod
    def _has_certificates(cls, tls: bool | None, info: Info) -> bool:
        if not info.data.keys() >= {"tls_cert", "acme"}:
            return bool(tls)
        acme = info.data["acme"] is not None
        certified = acme or info.data["tls_cert"] is not None
        if tls is False and acme:
            raise InvalidError('"acme" turns TLS on, and "tls" turns it off')
        return certified if tls is None else tls
