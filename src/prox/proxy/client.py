"""Whose request it is: the connection's peer, or whom a trusted proxy names in X-Forwarded-For."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

from prox.http.exchange import Client

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ClientAddresses:
    """Tells the client's address, believing X-Forwarded-For of `trusted` networks alone.

    Of the addresses named there the right-most that is not a trusted proxy's counts: everything left of it may
    be made up by the client.
    """

    def __init__(self, trusted: Sequence[Network]) -> None:
        self.trusts_nobody = not trusted
        self._trusted = tuple(trusted)
        self._is_trusted = lru_cache(maxsize=1024)(self._look)

    def is_trusted(self, ip: str) -> bool:
        """Whether the address is a trusted proxy's."""
        return not self.trusts_nobody and self._is_trusted(ip)

    def of(self, client: Client, forwarded_for: bytes) -> tuple[str, str]:
        """The client's IP address and its `ip:port`, with port 0 where a header told the address."""
        if self.trusts_nobody or not forwarded_for or not self._is_trusted(client.ip):
            return client.ip, client.address
        found = ""
        for part in reversed(forwarded_for.split(b",")):
            ip = _address(part)
            if ip is None:
                break
            found = ip
            if not self._is_trusted(ip):
                break
        if not found:
            return client.ip, client.address
        return found, f"[{found}]:0" if ":" in found else f"{found}:0"

    def _look(self, ip: str) -> bool:
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)


def _address(text: bytes) -> str | None:
    """The address of one list member, which some proxies write with a port; None where it is none."""
    member = text.strip(b" \t").decode("latin-1")
    if member.startswith("["):
        member = member[1:].partition("]")[0]
    elif member.count(":") == 1:
        member = member.partition(":")[0]
    try:
        address = ipaddress.ip_address(member)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
