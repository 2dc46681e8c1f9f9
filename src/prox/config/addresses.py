"""Grammar of addresses: hosts, listen addresses, balancer targets. All functions raise `InvalidError`."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from .invalid import InvalidError

# What an upstream and a target may begin with. ws and wss are http and https: the upgrade is the client's.
SCHEMES = {"http": 80, "https": 443, "ws": 80, "wss": 443}

_HOST_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = re.compile(rf"(?:{_OCTET}\.){{3}}{_OCTET}")
_MAX_UNIX_PATH = 107  # sun_path of unix(7) is 108 bytes with its NUL


class ListenAddress(NamedTuple):
    """Where a service or the admin API listens.

    `kind` is "tcp" or "unix". An empty `host` means all addresses of both families; port 0 lets the system
    choose; `path` is the absolute path of a unix socket.
    """

    kind: str
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix://{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.kind == "unix" or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def overlaps(self, other: ListenAddress) -> bool:
        """Whether both can't be listened on at the same time; port 0 never collides."""
        if self.kind != other.kind:
            return False
        if self.kind == "unix":
            return self.path == other.path
        if self.port != other.port or self.port == 0:
            return False
        return (
            self.host == other.host
            or not self._wildcard().isdisjoint(other._families())
            or not other._wildcard().isdisjoint(self._families())
        )

    def _families(self) -> frozenset[int]:
        try:
            return frozenset({ipaddress.ip_address(self.host).version})
        except ValueError:
            return frozenset({4, 6})

    def _wildcard(self) -> frozenset[int]:
        return self._families() if self.host in {"", "0.0.0.0", "::"} else frozenset()


def check_host(host: str) -> str:
    """A host name, an IPv4 address, or an IPv6 address in brackets (returned short and without them)."""
    if host.startswith("["):
        if not host.endswith("]"):
            raise InvalidError(f'"{host}" is no host: "]" is missing')
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise InvalidError(f'"{host}" is no IPv6 address') from None
    if not host:
        raise InvalidError("the host is missing")
    if ":" in host:
        raise InvalidError(f'"{host}" is no host', f'an IPv6 address stands in brackets: "[{host}]"')
    labels = host.removesuffix(".").split(".")
    if len(host) > 254 or not all(_HOST_LABEL.fullmatch(label) for label in labels):
        raise InvalidError(f'"{host}" is no host name')
    if labels[-1].isdigit() and _IPV4.fullmatch(host) is None:
        raise InvalidError(f'"{host}" is no IPv4 address')
    return host


def check_port(text: str, lowest: int = 1) -> int:
    """A port number in digits."""
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or not lowest <= int(text) <= 65535:
        raise InvalidError(f'"{text}" is no port number' if text else "the port is missing")
    return int(text)


def split_host_port(address: str) -> tuple[str, int | None]:
    """`host`, `host:port`, `[v6]` or `[v6]:port`; the host without brackets, the port None when not given."""
    if address.startswith("["):
        end = address.find("]") + 1
        host, rest = (address[:end], address[end:]) if end else (address, "")
        if rest and not rest.startswith(":"):
            raise InvalidError(f'"{address}" is no address')
        return check_host(host), check_port(rest[1:]) if rest else None
    if address.count(":") > 1:
        raise InvalidError(f'"{address}" is no address', "an IPv6 address stands in brackets, as in [::1]:80")
    host, colon, port = address.partition(":")
    return check_host(host), check_port(port) if colon else None


def check_target(address: str) -> str:
    """A balancer's target, as configured or as pushed by a plugin: returned as it is.

    `host:port` or `[v6]:port`; the port may be missing and a scheme (http, https, ws, wss) may stand before
    it, as long as the upstream that it is put into is whole then (`prox.config.upstreams.parse_upstream`).
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        rest = address
    elif scheme not in SCHEMES:
        hint = f"schemes: {', '.join(SCHEMES)}"
        raise InvalidError(f'"{address}" is no target: unknown scheme "{scheme}"', hint)
    if not rest:
        raise InvalidError(
            f'"{address}" is no target: the host is missing' if address else "a target is empty"
        )
    if "/" in rest or "?" in rest:
        raise InvalidError(
            f'"{address}" is no target: it has a path', "a path prefix belongs into the upstream"
        )
    try:
        split_host_port(rest)
    except InvalidError as error:
        raise InvalidError(f'"{address}" is no target: {error.message}', error.hint) from None
    return address


def parse_listen(text: str) -> ListenAddress:
    """`:8080` (all addresses, both families), `127.0.0.1:8080`, `[::]:443` or `unix:///path`."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix://")
        if path == text or not path.startswith("/") or "\0" in path or path.endswith("/"):
            raise InvalidError(f'"{text}" is no unix address', 'write "unix:///absolute/path"')
        if len(path.encode()) > _MAX_UNIX_PATH:
            raise InvalidError(f"the path of a unix socket has at most {_MAX_UNIX_PATH} bytes")
        return ListenAddress("unix", "", 0, path)
    if "://" in text:
        raise InvalidError(f'"{text}" is no listen address', 'write "host:port", ":port" or "unix:///path"')
    if text.isascii() and text.isdigit():
        raise InvalidError(f'"{text}" is no listen address', f'did you mean ":{text}"?')
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        raise InvalidError(f'"{text}" is no listen address: the port is missing')
    try:
        name = check_host(host) if host else ""
        return ListenAddress("tcp", name.lower(), check_port(port, lowest=0), "")
    except InvalidError as error:
        raise InvalidError(f'"{text}" is no listen address: {error.message}', error.hint) from None
