"""A plugin that is right but for one fault, whose name is its argument: each check has to find one of them.

The protocol by hand and in the open, so that a fault can stand anywhere.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

FAULT = sys.argv[1]
HOOKS = ["on_request", "on_response", "on_connect", "on_disconnect"]
FEATURES = ["headers.multi", "response.allow", "tls.client", "trace"]
CHANGES = {"rm": ["X-B"], "st": {"X-C": ["c", "d"]}, "ad": {"X-D": ["e"]}}
RESULTS: dict[int, Any] = {
    1: {"ok": True, "h": {"X-User": "u"}, "hc": CHANGES, "rc": CHANGES},
    2: {"h": {"X-A": "b"}, "hc": CHANGES},
    3: {"ok": True},
}
OWN = Path(os.environ["PROX_PLUGIN_DIR"])
ELSEWHERE = Path(tempfile.gettempdir())
SMALL = threading.Semaphore(8)
ONE = threading.Lock()

_out = threading.Lock()
_kept: list[Any] = []
_open: set[socket.socket] = set()


def fault(name: str) -> bool:
    return name == FAULT


def die(why: str) -> None:
    print(f"dies of {why}", file=sys.stderr, flush=True)
    os._exit(3)


def say(**line: Any) -> None:
    with _out:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


# The socket


def place() -> Path:
    if fault("open socket") or fault("leaves its socket"):
        return ELSEWHERE / f"faulty-{os.getpid()}.sock"
    if fault("one path, in use") or fault("one path, taken over"):
        return ELSEWHERE / "faulty.sock"
    return OWN / "faulty.sock"


def listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    if fault("one path, taken over"):
        path.unlink(missing_ok=True)
    listener.bind(str(path))
    if fault("open socket"):
        path.chmod(0o777)
    listener.listen(4 if fault("few connections") else 512)
    return listener


def read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            if data and fault("half frames"):
                die("half a frame")
            raise EOFError
        data += piece
        if fault("a read is a frame") and len(data) < size:
            raise EOFError
    return data


def accept(listener: socket.socket) -> None:
    while True:
        if fault("few connections"):
            SMALL.acquire()
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def serve(connection: socket.socket) -> None:
    _open.add(connection)
    try:
        while True:
            head = read(connection, 4)
            (size,) = struct.unpack("<I" if fault("little end") else ">I", head)
            if size > 2**20:
                if fault("oversize"):
                    die("a large frame")
                return
            if size > 2**16 and fault("small frames"):
                return
            if fault("one at a time"):
                with ONE:
                    body = read(connection, size)
            else:
                body = read(connection, size)
            answer(connection, body)
            if fault("one call each"):
                return
    except EOFError:
        if fault("keeps connections"):
            _kept.append(connection)
            threading.Event().wait()
        if fault("leaks"):
            _kept.append(connection.dup())
    except ConnectionError:
        if fault("broken pipe"):
            die("a broken pipe")
    finally:
        _open.discard(connection)
        connection.close()
        if fault("few connections"):
            SMALL.release()


def decode(body: bytes) -> tuple[int, Any]:
    """The hook and the payload; every reader that understands too little."""
    if fault("fixed head") and body[:2] != b"\x82\xa1":
        raise ValueError("not the head that I know")
    envelope = msgspec.msgpack.decode(body)
    if fault("order of keys") and list(envelope) != ["t", "d"]:
        raise ValueError("t comes first")
    if fault("narrow") and b"\xd3" in body[:20]:
        raise ValueError("a hook has one byte")
    hook, payload = envelope["t"], msgspec.msgpack.decode(envelope["d"])
    if fault("strict") and set(envelope) != {"t", "d"}:
        raise ValueError("more than I know")
    if fault("needs all") and "q" not in payload:
        raise ValueError("no query")
    if fault("no nil") and None in payload.values():
        raise ValueError("a nil")
    if fault("ascii") and not str(payload).isascii():
        raise ValueError("not ASCII")
    if fault("one value") and "hm" in payload.get("req", payload):
        raise ValueError("a header comes once")
    if fault("no certificates") and "tc" in payload:
        raise ValueError("a certificate")
    if fault("no traces") and "tr" in payload:
        raise ValueError("a trace")
    if fault("text bodies"):
        payload.get("bd", b"").decode("ascii")
    return hook, payload


def answer(connection: socket.socket, body: bytes) -> None:
    try:
        hook, payload = decode(body)
    except Exception as error:
        if fault("garbage"):
            die(repr(error))
        raise EOFError from None
    if hook not in (1, 2, 3, 4):
        if fault("unknown hook"):
            die("a hook")
        raise EOFError
    if fault("unknown route") and payload.get("r") == "never:9":
        die("a route")
    if hook == 4:
        if fault("answers an end"):
            send(connection, {"ok": True})
        if fault("closes after an end"):
            raise EOFError
        return
    if fault("broken pipe"):
        time.sleep(0.05)
    if fault("silent on one"):
        return
    send(connection, result(hook))


def result(hook: int) -> Any:
    wrong: dict[tuple[str, int], Any] = {
        ("no verdict", 1): {"s": 401},
        ("odd status", 1): {"ok": False, "s": 99},
        ("header with a line end", 1): {"ok": True, "h": {"X-A": "b\r\nX-B: c"}},
        ("text for values", 1): {"ok": True, "hc": {"st": {"X-A": "b"}}},
        ("frames the response", 1): {"ok": True, "rc": {"ad": {"Content-Length": ["1"]}}},
        ("list of changes", 2): {"h": [["X-A", "b"]]},
        ("framing header", 2): {"h": {"Transfer-Encoding": "chunked"}},
        ("empty verdict", 3): {},
    }
    return wrong.get((FAULT, hook), RESULTS[hook])


def send(connection: socket.socket, value: Any) -> None:
    body = msgspec.msgpack.encode(value)
    order = "<I" if fault("little end") else ">I"
    connection.sendall(struct.pack(order, len(body)) + body)


# Lines


def lines() -> Any:
    """The lines of stdin; faulty readers first."""
    if fault("a read is a line"):
        while data := os.read(0, 65536):
            yield from data.splitlines()
        return
    for line in sys.stdin.buffer:
        if fault("short lines") and len(line) > 65536:
            continue
        yield line


def configure(path: Path, *, again: bool) -> None:
    if fault("never answers"):
        return
    if fault("pushes first"):
        say(method="set_targets", params={"route_id": "check:0", "targets": []})
    if fault("odd answer"):
        say(result="fine")
    elif fault("refuses again") and again:
        say(error="I know it")
    else:
        say(result="ok")
    if fault("answers twice"):
        say(result="ok")
    if fault("never ready or pushing"):
        return
    if fault("forgets its socket") and again:
        say(method="ready", params={"socket": f"{path}.new", "hooks": HOOKS})
    elif fault("ready too early"):
        say(method="ready", params={"socket": f"{path}.later", "hooks": HOOKS})
    else:
        hooks = [*HOOKS, "on_error"] if fault("odd hook") else HOOKS
        features = [*FEATURES, "trace"] if fault("a feature twice") else FEATURES
        if fault("names no feature"):
            features = FEATURES[:1]
        say(method="ready", params={"socket": str(path), "hooks": hooks, "features": features})
    target = "not a target" if fault("bad target") else "10.0.0.1:80"
    say(method="set_targets", params={"route_id": "check:0", "targets": [target]})
    level = "fatal" if fault("odd level") else "info"
    say(method="log", params={"level": level, "message": "bound", "args": ["a", 1]})
    if fault("prints") and again:
        print("hello", flush=True)


def understood(line: bytes) -> bool:
    """Whether it is a configure; every parser that understands too little."""
    if fault("patterns for JSON") and not line.startswith(b'{"method":"'):
        return False
    if fault("no escapes") and rb"\u" in line:
        return False
    message = json.loads(line)
    if message["method"] != "configure":
        if fault("answers everything"):
            say(result="ok")
        return False
    params = message["params"]
    if fault("needs match") and "match" not in params:
        die("no match")
    if fault("needs path") and "path" not in params.get("match", {"path": ""}):
        die("no path")
    if fault("needs a route") and not params["route_id"]:
        die("no route")
    if fault("strict lines") and set(params) - {"route_id", "match"}:
        say(error="more than I know")
        return False
    return True


def main() -> None:
    if fault("ignores SIGTERM"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    path = place()
    threading.Thread(target=accept, args=(listen(path),), daemon=True).start()
    again = False
    for line in lines():
        if re.fullmatch(rb"\s*", line) or not understood(line):
            continue
        configure(path, again=again)
        again = True
    if fault("goes on") or (fault("waits for a line") and not again):
        threading.Event().wait()
    while fault("waits for connections") and _open:
        time.sleep(0.01)
    if fault("leaves a child"):
        subprocess.Popen(
            ["sleep", "60"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    if not fault("leaves its socket"):
        path.unlink(missing_ok=True)
    sys.stdout.flush()
    os._exit(1 if fault("odd status of exit") else 0)


main()
