"""Plugins that run as another user than the tests: who that is, and programs that this user can reach."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

NOBODY = "nobody"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a program as another user")


def nobody() -> pwd.struct_passwd:
    return pwd.getpwnam(NOBODY)


@cache
def python_for_nobody() -> str:
    """An interpreter that this user may run; the one of the tests may be in root's home."""
    for path in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        if shutil.which(path) is None:
            continue
        try:
            subprocess.run([path, "-c", ""], user=NOBODY, group=nobody().pw_gid, cwd="/", check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return path
    pytest.skip(f"there is no Python that user {NOBODY} may run")


def skip_unless_nobody_can_read(path: Path) -> None:
    """For what runs parts of prox as this user: the checkout may be in a home that is closed to it."""
    ran = subprocess.run(
        [python_for_nobody(), "-c", f"open({str(path)!r})"], user=NOBODY, cwd="/", check=False
    )
    if ran.returncode:
        pytest.skip(f"user {NOBODY} can't read {path}")


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that everybody can enter; those of pytest belong to its user alone."""
    with tempfile.TemporaryDirectory(prefix="prox-test-") as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        yield folder


def write_program(folder: Path, body: str, name: str = "plugin", mode: int = 0o755) -> str:
    """An executable Python program that needs nothing but the standard library; its path."""
    path = folder / name
    path.write_text(f"#!{python_for_nobody()}\n{textwrap.dedent(body)}")
    path.chmod(mode)
    return str(path)


ALLOWING = """
import json, os, socket, sys, threading

def serve(connection):
    stream = connection.makefile("rb")
    while head := stream.read(4):
        stream.read(int.from_bytes(head, "big"))
        answer = bytes([0x81, 0xA2]) + b"ok" + bytes([0xC3])
        connection.sendall(len(answer).to_bytes(4, "big") + answer)

def accept(listener):
    while True:
        threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()

listener = socket.socket(socket.AF_UNIX)
path = os.environ.get("SOCKET", os.environ["PROX_PLUGIN_DIR"] + "/s")
if "SOCKET" not in os.environ:
    listener.bind(path)
    listener.listen()
    threading.Thread(target=accept, args=(listener,), daemon=True).start()
for line in sys.stdin:
    print('{"result": "ok"}')
    print(json.dumps({"method": "ready", "params": {"socket": path, "hooks": ["on_request"]}}), flush=True)
"""
"""A plugin that allows every request, on a socket of its own or on the one that SOCKET names."""
