"""What the pages show was run: their files are written, their commands typed, their outputs compared.

A block with a relative path as its title is a file. In a `console` block a line that begins with `$ ` is typed, and what
follows must come out. `prox serve` and what ends in `&` go on running; a `log` block holds lines that prox must have written
to its terminal. `…` stands for any text within a line. Only ports differ: the pages' are replaced by free ones.
`--8<-- "file"` includes a file of the repository, whose folder `examples` is at hand.
"""

import contextlib
import fcntl
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from support.go import COLD, needs_go

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if "```console" in page.read_text()),
]
DEADLINE = 10.0
LONG = pytest.mark.timeout(90)
"""A page is many commands, each with a deadline of its own."""

_BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_INCLUDED = re.compile(r'^--8<-- "([^"]+)"$', re.MULTILINE)
_PORT = re.compile(r"(?<![\d.])(80[89]\d|90\d\d)(?!\d)")
_SERVICE = re.compile(r'(\w+): \{\s*listen: "127\.0\.0\.1:(\d+)"')
_CLOSED = 9099
"""The port on which nobody listens."""


class Block(NamedTuple):
    language: str
    title: str
    text: str


def blocks(page: Path) -> list[Block]:
    text = _INCLUDED.sub(lambda found: (ROOT / found[1]).read_text().rstrip("\n"), page.read_text())
    return [Block(*found) for found in _BLOCK.findall(text)]


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def pattern(expected: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in expected.split("…")))


def matches(expected: list[str], shown: list[str]) -> bool:
    if len(expected) != len(shown):
        return False
    return all(pattern(want).fullmatch(line) for want, line in zip(expected, shown, strict=True))


class Terminal:
    """A program that goes on running on a terminal of its own."""

    def __init__(self, command: str, folder: Path, environment: dict[str, str]) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        self._process = subprocess.Popen(
            command.split(),
            cwd=folder,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.pid = self._process.pid
        self._ours = ours
        self._output = bytearray()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # what a terminal says when nobody holds its other end
            while data := os.read(self._ours, 65536):
                self._output += data

    @property
    def lines(self) -> list[str]:
        return self._output.decode().replace("\r\n", "\n").splitlines()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def ports(self) -> list[int]:
        """The TCP ports that it listens on."""
        inodes = set()
        for fd in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                inodes.add(str(fd.readlink()))
        table = Path(f"/proc/{self.pid}/net/tcp").read_text().splitlines()[1:]
        rows = [line.split() for line in table]
        return [
            int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes
        ]

    def stop(self) -> None:
        if self.running:
            os.killpg(self.pid, signal.SIGTERM)
        self._process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        os.close(self._ours)


def _go_caches() -> dict[str, str]:
    """What is compiled and fetched once for all tests, and from where."""
    if shutil.which("go") is None:
        return {}
    names = ["GOCACHE", "GOMODCACHE", "GOPROXY", "GONOSUMDB", "GOSUMDB", "GOFLAGS"]
    values = subprocess.run(["go", "env", *names], capture_output=True, text=True, check=True).stdout
    return dict(zip(names, values.split("\n"), strict=False))


class Reader:
    """Follows a page in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: list[str] = []
        self._files: dict[str, str] = {}
        self._written: dict[str, str] = {}
        self._ports: dict[str, str] = {}
        self._running: dict[str, Terminal] = {}
        self._closed = socket.socket()
        self._closed.bind(("127.0.0.1", 0))
        self._ports[str(_CLOSED)] = str(self._closed.getsockname()[1])
        curl_home = folder / ".curl"
        curl_home.mkdir()
        (folder / "examples").symlink_to(ROOT / "examples")
        (curl_home / ".curlrc").write_text("silent\nshow-error\n")  # no progress meter, as on a terminal
        path = f"{ROOT / '.venv/bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment = {
            "PATH": path,
            "HOME": str(folder),
            "CURL_HOME": str(curl_home),
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "TERM": "xterm",
            "PYTHONUNBUFFERED": "1",
        } | _go_caches()

    def follow(self, block: Block) -> None:
        if block.language == "console":
            for typed in block.text.split("$ ")[1:]:
                command, _, expected = typed.partition("\n")
                self._type(command, expected.splitlines())
        elif block.language == "log":
            prox = self._running["prox serve"]
            for line in block.text.splitlines():
                self._expect_line(prox, line)
        elif block.title and not block.title.startswith(("/", "<")):
            self._files[block.title] = block.text

    def close(self) -> None:
        for program in reversed(self._running.values()):
            program.stop()
        self._closed.close()

    def _type(self, command: str, expected: list[str]) -> None:
        self.ran.append(command)
        self._write_files()
        if command == "prox serve":
            if command in self._running:
                self._running.pop(command).stop()
            prox = self._start(command)
            for line in expected:
                self._expect_line(prox, line)
        elif command.endswith("&"):
            assert not expected
            self._start_app(command.removesuffix("&").strip())
        else:
            self._run(self._with_ports(command), expected)

    def _start(self, command: str) -> Terminal:
        program = self._running[command] = Terminal(command, self.folder, self._environment)
        if command == "prox serve":
            listens = dict(_SERVICE.findall(self._files["config.json5"]))
            for service, port in listens.items():
                said = re.compile(rf"service {service} listens on 127\.0\.0\.1:(\d+)$")
                found = self._wait_line(program, said)
                self._ports[port] = found[1]
        return program

    def _start_app(self, command: str) -> None:
        numbers = _PORT.findall(command) or _PORT.findall(self._files[command.split()[1]])
        program = self._start(_PORT.sub("0", command) if _PORT.search(command) else command)
        until(lambda: bool(program.ports()), f"{command} does not listen: {program.lines}")
        self._ports[numbers[0]] = str(program.ports()[0])

    def _wait_line(self, program: Terminal, said: re.Pattern[str]) -> re.Match[str]:
        found: list[re.Match[str]] = []

        def look() -> bool:
            found.extend(match for line in program.lines if (match := said.search(line)))
            assert found or program.running, "\n".join(program.lines)
            return bool(found)

        until(look, f"{said.pattern} is not among: {program.lines}")
        return found[0]

    def _expect_line(self, program: Terminal, line: str) -> None:
        wanted = re.sub(r"^\d\d:\d\d:\d\d\.\d{3} ", "… ", self._with_ports(line))
        self._wait_line(program, re.compile(f"^{pattern(wanted).pattern}$"))

    def _run(self, command: str, expected: list[str]) -> None:
        """A reload or a push may be on its way: what a client is shown may come a moment later."""
        wanted = [self._with_ports(line) for line in expected]
        shown: list[str] = []

        def runs() -> bool:
            result = subprocess.run(
                ["bash", "-c", command],
                cwd=self.folder,
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=DEADLINE * (10 if "prox build" in command else 1),
                check=False,
            )
            shown[:] = result.stdout.decode().replace("\r\n", "\n").splitlines()
            return matches(wanted, shown)

        if command.startswith(("curl", "tail")):
            with contextlib.suppress(AssertionError):
                until(runs, command)
        else:
            runs()
        if not matches(wanted, shown):
            said = {name: program.lines[-20:] for name, program in self._running.items()}
            assert shown == wanted, f"{command}: {said}"

    def _with_ports(self, text: str) -> str:
        return _PORT.sub(lambda found: self._ports.get(found[1], found[1]), text)

    def _write_files(self) -> None:
        """Addresses that are listened on get port 0, all others the port that it became."""
        for name, text in self._files.items():
            wanted = self._rendered(name, text)
            if self._written.get(name) != wanted:
                self._written[name] = wanted
                path = self.folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(wanted)

    def _rendered(self, name: str, text: str) -> str:
        unknown = "0"
        if name.endswith(".json5"):
            text = re.sub(r'(listen: "127\.0\.0\.1:)\d+"', r'\g<1>0"', text)
            unknown = self._ports[str(_CLOSED)]
        return _PORT.sub(lambda found: self._ports.get(found[1], unknown), text)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    try:
        yield reader
    finally:
        reader.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="the pages use curl")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page, id=page.stem, marks=[needs_go, COLD] if "$ prox build" in page.read_text() else [LONG]
        )
        for page in PAGES
    ],
)
def test_a_page_is_true_to_the_letter(page: Path, reader: Reader) -> None:
    for block in blocks(page):
        reader.follow(block)
    assert reader.ran, "the page shows no command that was run"
