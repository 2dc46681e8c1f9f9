"""An upstream that counts uploads: reads the body whole, answers how many bytes came.

Run as `python bench/sink.py FD`, FD being a listening socket. Blocking sockets and one thread for each
connection: nothing in Python takes bytes off a socket cheaper.
"""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import threading

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)


def _answer(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (
        status,
        len(body),
        body,
    )


def _serve(connection: socket.socket) -> None:
    buffer = bytearray(1 << 20)
    view = memoryview(buffer)
    with connection, contextlib.suppress(ConnectionError):
        while True:
            head = b""
            while b"\r\n\r\n" not in head:
                data = connection.recv(65536)
                if not data:
                    return
                head += data
            head, _, rest = head.partition(b"\r\n\r\n")
            length = _LENGTH.search(head + b"\r\n")
            if length is None:
                connection.sendall(_answer(b"411 Length Required", b""))
                return
            total, count = int(length[1]), len(rest)
            if count < total and re.search(rb"\r\nexpect:[ \t]*100-continue", head, re.IGNORECASE):
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            while count < total:
                received = connection.recv_into(view[: min(len(buffer), total - count)])
                if not received:
                    return
                count += received
            connection.sendall(_answer(b"200 OK", b"%d" % count))


def main() -> None:
    """Serves until it is killed."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
