"""The Unix socket that a plugin listens on, in a directory that only it and prox can enter."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from contextlib import suppress
from pathlib import Path

PLUGIN_DIR = "PROX_PLUGIN_DIR"
"""Environment variable: the private directory that prox made for this process."""

BACKLOG = 1024
"""Connections that may wait to be accepted."""


class Endpoint:
    """A listening socket and its path; `close` removes both, and the directory where it is our own."""

    def __init__(self, sock: socket.socket, path: Path, own_directory: Path | None) -> None:
        self.sock = sock
        self.path = path
        self._own_directory = own_directory

    @classmethod
    def open(cls) -> Endpoint:
        """Listen in the directory that prox gives, or in a temporary one.

        The socket gets its mode before it listens, so nobody else can connect at any time.

        Raises:
            OSError: the directory can't be written, or its path is too long for a socket.
        """
        given = os.environ.get(PLUGIN_DIR)
        own = None if given else Path(tempfile.mkdtemp(prefix="prox-plugin-"))
        path = Path(given or str(own)) / f"plugin-{os.getpid()}.sock"
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path.unlink(missing_ok=True)  # left by a process that was killed and had our number
            sock.bind(str(path))
            path.chmod(0o600)
            sock.listen(BACKLOG)
            sock.setblocking(False)
        except OSError as error:
            sock.close()
            if own:
                shutil.rmtree(own, ignore_errors=True)
            raise OSError(error.errno, f"can't listen on {path}: {error.strerror or error}") from error
        return cls(sock, path, own)

    def close(self) -> None:
        """Stop listening and remove the files."""
        self.sock.close()
        with suppress(OSError):
            self.path.unlink()
        if self._own_directory:
            with suppress(OSError):
                self._own_directory.rmdir()
