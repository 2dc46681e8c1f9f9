"""The protocol by hand, for test plugins: no SDK, so that the host's tests stand alone. Run in the child process."""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

Answer = dict[str, Any] | bytes | None
Handler = Callable[[int, dict[str, Any]], Answer]
ON_REQUEST, ON_RESPONSE, ON_CONNECT, ON_DISCONNECT = 1, 2, 3, 4

_lock = threading.Lock()


def say(message: object) -> None:
    """Write one line to prox."""
    with _lock:
        sys.stdout.write((message if isinstance(message, str) else json.dumps(message)) + "\n")
        sys.stdout.flush()


def acknowledge() -> None:
    say({"result": "ok"})


def ready(path: str, *hooks: str) -> None:
    say({"method": "ready", "params": {"socket": path, "hooks": list(hooks)}})


def push(method: str, **params: object) -> None:
    say({"method": method, "params": params})


def configures() -> Iterator[dict[str, Any]]:
    """The parameters of each `configure`, until stdin ends."""
    for line in sys.stdin:
        yield json.loads(line)["params"]


def listen(name: str = "s") -> tuple[socket.socket, str]:
    path = str(Path(os.environ["PROX_PLUGIN_DIR"]) / name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(128)
    return listener, path


def serve(listener: socket.socket, handle: Handler) -> None:
    """Answer each connection in a thread of its own; the answer is a value, raw bytes to send, or nothing."""

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        while head := stream.read(4):
            envelope = msgspec.msgpack.decode(stream.read(struct.unpack(">I", head)[0]))
            result = handle(envelope["t"], msgspec.msgpack.decode(envelope["d"]))
            if isinstance(result, dict):
                body = msgspec.msgpack.encode(result)
                result = struct.pack(">I", len(body)) + body
            if result is not None:
                try:
                    connection.sendall(result)
                except OSError:
                    return

    threading.Thread(target=accept, daemon=True).start()


def run(handle: Handler, *hooks: str, configured: Callable[[dict[str, Any]], None] | None = None) -> None:
    """A plugin that behaves: acknowledges, says ready, serves, and ends when stdin does."""
    listener, path = listen()
    serve(listener, handle)
    for params in configures():
        acknowledge()
        ready(path, *hooks)
        if configured is not None:
            configured(params)
