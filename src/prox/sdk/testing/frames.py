"""A connection to a plugin's socket, with calls that block."""

from __future__ import annotations

import socket
import struct
import time

from prox.wire import FRAME_LIMIT

_RETRY = 0.005
_length = struct.Struct(">I")


class FrameConnection:
    """One connection, for one call at a time.

    Raises:
        OSError: nobody listens there; TimeoutError when it is not accepted in time.
    """

    def __init__(self, path: str, timeout: float) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        try:
            self._connect(path, time.monotonic() + timeout)
        except BaseException:
            self.sock.close()
            raise

    def _connect(self, path: str, deadline: float) -> None:
        """Connect as soon as there is room in the queue: a connect to a Unix socket does not wait for it."""
        while True:
            try:
                self.sock.connect(path)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError("the connection is not accepted: too many wait") from None
                time.sleep(_RETRY)
            else:
                return

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def answer(self) -> bytes:
        """The next frame, without its length prefix.

        Raises:
            EOFError: the plugin closed the connection, or sent a frame above the limit.
            TimeoutError: no whole frame came in time.
        """
        size = _length.unpack(self._exactly(_length.size))[0]
        if size > FRAME_LIMIT:
            raise EOFError(f"a frame of {size} bytes is above the limit of {FRAME_LIMIT}")
        return self._exactly(size)

    def rest(self) -> bytes:
        """What still comes until the plugin closes the connection."""
        data = b""
        try:
            while piece := self.sock.recv(65536):
                data += piece
        except ConnectionError:
            pass
        return data

    def end(self) -> None:
        """Say that no call will follow."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close it."""
        self.sock.close()

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                piece = self.sock.recv(size - len(data))
            except ConnectionError:
                piece = b""
            if not piece:
                raise EOFError("the plugin closed the connection" + (" inside of a frame" if data else ""))
            data += piece
        return bytes(data)
