"""One listening socket: bound first, listening when its configuration is about to be put in force, and accepting then.

So an address that can't be had refuses a configuration before anything has changed, and nobody who connects waits for
plugins that are still starting.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path

from prox.config.addresses import ListenAddress
from prox.config.model import Tuning
from prox.http.entry import Entry, Handler
from prox.limits import ConnectionCaps
from prox.observe.counters import Counters

from .accepting import Acceptor
from .errors import StartError
from .front import Front, Steps
from .ports import refuse_others, shared_port

_log = logging.getLogger("prox.listen")

_BACKLOG = 4096


class Listener:
    """One address that is listened on. Made by `bind`.

    Attributes:
        address: as it is configured.
        socket: bound from the beginning.
        entry: what its connections ask; None before `point`.
    """

    def __init__(self, address: ListenAddress, sock: socket.socket) -> None:
        self.address = address
        self.socket = sock
        self.entry: Entry | None = None
        self._front: Front | None = None
        self._acceptor: Acceptor | None = None
        self._file = _identity(address.path) if address.kind == "unix" else None
        if address.kind == "unix":
            self.bound: tuple[str, int] | str = address.path
        else:
            host, port = sock.getsockname()[:2]
            self.bound = str(host), int(port)

    def overlaps(self, address: ListenAddress) -> bool:
        """Whether it holds a part of an address."""
        return isinstance(self.bound, tuple) and self.address._replace(port=self.bound[1]).overlaps(address)

    def listen(self) -> None:
        """From now on the kernel takes connections.

        Raises:
            StartError: another process was faster.
        """
        try:
            self.socket.listen(_BACKLOG)
        except OSError as error:
            raise _refusal(self.address, error) from error

    def point(
        self,
        handler: Handler,
        tuning: Tuning,
        caps: ConnectionCaps,
        counters: Counters,
        steps: Steps | None = None,
    ) -> None:
        """Let a service answer its connections, those that are open too; `steps` are for new ones."""
        if self.entry is None or self._front is None:
            self.entry = Entry(handler, tuning, caps, counters)
            self._front = Front(self.entry, str(self.address))
        else:
            self.entry.point(handler, tuning, caps, counters)
        self._front.point(steps or Steps())

    def accept(self) -> None:
        """Begin to accept."""
        assert self._front is not None
        self._acceptor = Acceptor(self.socket, str(self.address), self._front.take)
        self._acceptor.start()

    def close(self) -> None:
        """Accept no more; connections stay. A unix socket's file is left to `remove`."""
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is not None:
            acceptor.stop()
        self.socket.close()

    def abort(self) -> None:
        """Close its connections at once."""
        if self.entry is not None:
            self.entry.abort()

    def remove(self) -> None:
        """Remove the unix socket's file, unless another has taken its place. Touches the disk."""
        if self._file is not None and _identity(self.address.path) == self._file:
            with contextlib.suppress(OSError):
                Path(self.address.path).unlink()


def bind(address: ListenAddress, leaving: Sequence[Listener] = ()) -> Listener:
    """Bind an address. Touches the disk and may look up names.

    Args:
        address: what to bind.
        leaving: our own listeners that are about to go and may hold a part of it, as `127.0.0.1:80` does of `:80`.

    Raises:
        StartError: it can't be bound; another process holding it is the usual reason.
    """
    try:
        if address.kind == "unix":
            sock = _bind_unix(address.path)
        else:
            held = [listener.socket for listener in leaving if listener.overlaps(address)]
            sock = _take_over(address, held) if held else _bind_tcp(address.host, address.port)
    except OSError as error:
        raise _refusal(address, error) from error
    sock.setblocking(False)
    return Listener(address, sock)


def _refusal(address: ListenAddress, error: OSError) -> StartError:
    reason = error.strerror or str(error)
    folder = Path(address.path).parent
    if isinstance(error, socket.gaierror):
        reason = f"the name has no address: {reason}"
    elif error.errno == errno.EADDRINUSE:
        reason = "another process listens there; stop it, or choose another address"
    elif error.errno == errno.EADDRNOTAVAIL:
        reason = "this machine has no such address"
    elif error.errno == errno.EACCES and address.kind == "unix":
        reason = f"permission denied in {folder}"
    elif error.errno == errno.EACCES:
        reason = "permission denied; ports below 1024 need CAP_NET_BIND_SERVICE"
    elif error.errno == errno.ENOENT:
        reason = f"the folder {folder} does not exist"
    return StartError(f"can't listen on {address}: {reason}")


def _take_over(address: ListenAddress, held: Sequence[socket.socket]) -> socket.socket:
    """Bind and listen where our own listeners that are about to go do."""
    with shared_port(held):
        sock = _bind_tcp(address.host, address.port, shared=True)
        try:
            sock.listen(_BACKLOG)
            refuse_others(address.port, [*held, sock])
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
        except BaseException:
            sock.close()
            raise
    return sock


def _bind_tcp(host: str, port: int, *, shared: bool = False) -> socket.socket:
    if not host:
        try:
            return _tcp(socket.AF_INET6, ("::", port), shared=shared, dual=True)
        except OSError as error:
            if error.errno not in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
                raise
            return _tcp(socket.AF_INET, ("0.0.0.0", port), shared=shared)
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # Of a name with several addresses IPv4 is taken: what `localhost` means to most who write it.
    family, _, _, _, address = min(infos, key=lambda info: info[0] != socket.AF_INET)
    return _tcp(family, address, shared=shared)


def _tcp(family: int, address: tuple[object, ...], *, shared: bool, dual: bool = False) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        sock.bind(address)
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
            Path(path).unlink()
            sock.bind(path)
        sock.listen(_BACKLOG)  # at once: a file that nobody listens on looks stale to another prox
    except BaseException:
        sock.close()
        raise
    return sock


def _is_stale(path: str) -> bool:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise OSError(errno.ENOTSOCK, "the file that is there is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
