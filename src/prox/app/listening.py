"""Listening sockets: bound before a configuration is put in force, closed after it no longer is."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import stat

from prox.config.addresses import ListenAddress
from prox.http.server import Entry

from .errors import StartError

_log = logging.getLogger("prox.listen")

_BACKLOG = 4096


class Listener:
    """One address that is listened on.

    Attributes:
        address: as it is configured.
        entry: what its connections ask.
        sockets: open from `bind` on.
    """

    def __init__(self, address: ListenAddress, sock: socket.socket) -> None:
        self.address = address
        self.entry: Entry | None = None
        self._socket = sock
        self._server: asyncio.Server | None = None
        self._inode = _inode(address.path) if address.kind == "unix" else None

    @property
    def bound(self) -> tuple[str, int] | str:
        """Where it really listens: host and port, which the system chose for port 0, or a path."""
        if self.address.kind == "unix":
            return self.address.path
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    async def open(self, entry: Entry) -> None:
        """Begin to accept."""
        self.entry = entry
        loop = asyncio.get_running_loop()
        if self.address.kind == "unix":
            self._server = await loop.create_unix_server(entry.connect, sock=self._socket, backlog=_BACKLOG)
        else:
            self._server = await loop.create_server(entry.connect, sock=self._socket, backlog=_BACKLOG)

    def close(self) -> None:
        """Accept no more; connections stay."""
        if self._server is not None:
            self._server.close()
            self._server = None
        else:
            self._socket.close()
        if self._inode is not None and _inode(self.address.path) == self._inode:
            with contextlib.suppress(OSError):
                os.unlink(self.address.path)


def bind(address: ListenAddress) -> Listener:
    """Bind an address; connections that come before `open` wait in the kernel.

    Raises:
        StartError: it can't be bound; another process holding it is the usual reason.
    """
    try:
        sock = _bind_unix(address.path) if address.kind == "unix" else _bind_tcp(address.host, address.port)
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            reason = "another process listens there; stop it, or choose another address"
        elif error.errno == errno.EACCES:
            reason = "permission denied; ports below 1024 need CAP_NET_BIND_SERVICE"
        raise StartError(f"can't listen on {address}: {reason}") from error
    sock.setblocking(False)
    return Listener(address, sock)


def _bind_tcp(host: str, port: int) -> socket.socket:
    if not host:
        try:
            return _tcp(socket.AF_INET6, ("::", port), dual=True)
        except OSError as error:
            if error.errno not in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
                raise
            return _tcp(socket.AF_INET, ("0.0.0.0", port))
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise OSError(errno.EADDRNOTAVAIL, f"{host} has no address: {error.strerror}") from error
    family, _, _, _, address = infos[0]
    return _tcp(family, address)


def _tcp(family: int, address: tuple[object, ...], *, dual: bool = False) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_unix(path: str) -> socket.socket:
    """Bind a path, over a socket file that nobody listens on any more."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_stale(path):
                raise
            _log.info("removing %s, which nobody listens on", path)
            os.unlink(path)
            sock.bind(path)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_stale(path: str) -> bool:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
