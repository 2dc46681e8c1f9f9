"""A guard that starts in a few milliseconds, for tests that start it hundreds of times: no imports, fixed answers.

It allows every request and sets `X-Guard` to its number, so an upstream sees who has let a request through.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import msgspec

_BODY = """#!{python} -SI
import _socket, _thread, os, sys
path = os.environ["PROX_PLUGIN_DIR"] + "/s"
listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
listener.bind(path)
listener.listen(128)

def serve(fd):
    data = b""
    while more := os.read(fd, 65536):
        data += more
        while len(data) >= 4 and len(data) >= (end := 4 + int.from_bytes(data[:4], "big")):
            data = data[end:]
            {on_call}
            os.write(fd, {answer!r})
    os.close(fd)

def accept():
    while True:
        _thread.start_new_thread(serve, (listener._accept()[0],))

_thread.start_new_thread(accept, ())
while sys.stdin.buffer.readline():
    os.write(1, b'{{"result":"ok"}}\\n{{"method":"ready","params":{{"socket":"%s","hooks":["on_request"]}}}}\\n'
        % path.encode())
"""


def write_small_guard(folder: Path, number: int = 1, *, on_call: str = "", name: str = "guard") -> str:
    """Write the program, in place of one that runs as a tool would: a new file under the old name. Its path.

    Args:
        folder: where to.
        number: what it shows.
        on_call: a statement that it runs before each answer.
        name: the file's name.
    """
    body = msgspec.msgpack.encode({"ok": True, "h": {"X-Guard": str(number)}})
    answer = struct.pack(">I", len(body)) + body
    path, new = folder / name, folder / f"{name}.new"
    new.write_text(_BODY.format(python=sys.executable, answer=answer, on_call=on_call or "pass"))
    new.chmod(0o755)
    new.rename(path)
    return str(path)
