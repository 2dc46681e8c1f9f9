"""Automatic certificates of a service (`acme`)."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator
from pydantic import ValidationInfo as Info

from prox.config.addresses import split_host_port
from prox.config.invalid import InvalidError, suggestion
from prox.config.patterns import split_domain

from .base import SECRET, Flag, Model, PathText

AUTHORITIES = ("letsencrypt", "staging", "zerossl")


def _authority(name: str) -> str:
    if name in AUTHORITIES or name.startswith("https://"):
        return name
    raise InvalidError(
        f'"{name}" is no certificate authority',
        suggestion(name, AUTHORITIES) or f"{', '.join(AUTHORITIES)} or the https:// URL of a directory",
    )


def _resolver(address: str) -> str:
    _, port = split_host_port(address)
    if port is None:
        raise InvalidError(f'"{address}" is no address of a resolver: the port is missing', f'"{address}:53"')
    return address


def _certificate_domain(name: str) -> str:
    labels = split_domain(name)
    if any("*" in label for label in labels[1:]) or (len(labels[0]) > 1 and "*" in labels[0]):
        raise InvalidError(f'no certificate can be had for "{name}"', '"*" may only be the whole first label')
    return name.lower()


def _mail_address(text: str) -> str:
    name, at, host = text.rpartition("@")
    if not (name and at and "." in host) or " " in text:
        raise InvalidError(f'"{text}" is no mail address')
    return text


Authority = Annotated[str, AfterValidator(_authority)]


class AcmeDns(Model):
    """The DNS provider for DNS-01."""

    provider: Literal["cloudflare"]
    """Who serves the zone."""
    token: Annotated[str | None, SECRET, Field(repr=False)] = None
    """Credential; by default from the provider's environment variable."""
    discover: Flag = False
    """Certificates for every zone of the account."""
    resolvers: tuple[Annotated[str, AfterValidator(_resolver)], ...] = ("1.1.1.1:53", "8.8.8.8:53")
    """Servers that are asked whether the record has arrived."""


class AcmeS3(Model):
    """A bucket that holds the certificates."""

    bucket: str
    """Its name."""
    region: str = "us-east-1"
    """Its region."""
    endpoint: str | None = None
    """URL of the server, for other providers."""
    prefix: str = ""
    """Put before every key."""
    use_path_style: Flag = False
    """Bucket in the path instead of the host."""
    access_key: Annotated[str | None, SECRET, Field(repr=False)] = None
    """Credential; by default from the usual chain."""
    secret_key: Annotated[str | None, SECRET, Field(repr=False, validate_default=True)] = None
    """Credential; only together with `access_key`."""

    @field_validator("secret_key")
    @classmethod
    def _both_or_none(cls, secret_key: str | None, info: Info) -> str | None:
        if "access_key" in info.data and (secret_key is None) != (info.data["access_key"] is None):
            raise InvalidError('"access_key" and "secret_key" go together', at=("..",))
        return secret_key


class Acme(Model):
    """Automatic certificates; turns TLS on."""

    email: Annotated[str, AfterValidator(_mail_address)]
    """Address of the account."""
    ca: Authority | None = None
    """letsencrypt, staging, zerossl or a directory URL; by default letsencrypt."""
    cas: Annotated[tuple[Authority, ...], Field(validate_default=True)] = ()
    """Several, tried in order; always filled after validation."""
    dns: AcmeDns | None = None
    """The provider for the challenge `dns`."""
    challenge: Annotated[Literal["alpn", "http", "dns"], Field(validate_default=True)] = "alpn"
    """TLS-ALPN-01, HTTP-01, or DNS-01, the only one for wildcards."""
    domains: tuple[Annotated[str, AfterValidator(_certificate_domain)], ...] = ()
    """Names of the certificates; by default those of the routes."""
    s3: AcmeS3 | None = None
    """The bucket for the storage type `s3`."""
    storage_type: Annotated[Literal["file", "s3"], Field(validate_default=True)] = "file"
    """Where certificates are kept."""
    storage: Annotated[PathText, Field(validate_default=True)] = "acme/"
    """The folder for the storage type `file`."""

    @field_validator("cas")
    @classmethod
    def _one_way_to_say_it(cls, cas: tuple[str, ...], info: Info) -> tuple[str, ...]:
        ca: str | None = info.data.get("ca")
        if cas and ca is not None:
            raise InvalidError('"ca" and "cas" can\'t be given both')
        return cas or (ca or "letsencrypt",)

    @field_validator("challenge")
    @classmethod
    def _has_a_provider(cls, challenge: str, info: Info) -> str:
        if challenge == "dns" and info.data.get("dns", True) is None:
            raise InvalidError('the challenge "dns" needs "dns" with a provider')
        return challenge

    @field_validator("domains")
    @classmethod
    def _can_prove_wildcards(cls, domains: tuple[str, ...], info: Info) -> tuple[str, ...]:
        for index, domain in enumerate(domains):
            if domain.startswith("*") and info.data.get("challenge", "dns") != "dns":
                raise InvalidError(f'the wildcard "{domain}" needs the challenge "dns"', at=(index,))
        return domains

    @field_validator("storage_type")
    @classmethod
    def _has_a_bucket(cls, storage_type: str, info: Info) -> str:
        if storage_type == "s3" and info.data.get("s3", True) is None:
            raise InvalidError('the storage type "s3" needs "s3" with a bucket')
        return storage_type
