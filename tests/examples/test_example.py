"""The example that `script/server` runs: each line that it prints is tried, and nothing stays behind."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE = 10.0


class Answer(NamedTuple):
    status: int
    text: str


class Example:
    """A running `script/server`."""

    def __init__(self, port: int, temporary: Path) -> None:
        self.port = port
        environment = {**os.environ, "PROX_EXAMPLE_PORT": str(port), "TMPDIR": str(temporary)}
        self.process = subprocess.Popen(
            [ROOT / "script/server"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.output = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line

    def until_it_says(self, text: str) -> None:
        until(lambda: text in self.output or self.process.poll() is not None, f"{text}: {self.output}")
        assert text in self.output, self.output

    def curl_lines(self) -> list[tuple[str, str]]:
        """Each line to try, and what it is said to do."""
        return re.findall(r"^  (curl .*)\n +(.*)$", self.output, re.MULTILINE)

    def end(self, number: signal.Signals) -> int:
        """Send a signal to all processes, as a terminal does at Ctrl-C, and wait for the end."""
        os.killpg(self.process.pid, number)
        return self.ended()

    def ended(self) -> int:
        status = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)  # it ends when nobody holds the output any more: the upstream too is gone
        assert not self._reader.is_alive(), "something runs on"
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def curl(line: str) -> Answer:
    """Do what curl does with such a line."""
    words = shlex.split(line)
    headers = {}
    while "-H" in words:
        at = words.index("-H")
        name, _, value = words[at + 1].partition(": ")
        headers[name] = value
        del words[at : at + 2]
    assert words[0] == "curl"
    (url,) = map(urlsplit, words[1:])
    connection = http.client.HTTPConnection(str(url.hostname), url.port, timeout=DEADLINE)
    try:
        connection.request("GET", url.path, headers=headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.read().decode())
    finally:
        connection.close()


def free_ports() -> int:
    """The first of three ports in a row that are free, below those that the system hands out."""
    for first in range(20000 + os.getpid() % 5000, 32000, 3):
        sockets = [socket.socket() for _ in range(3)]
        try:
            for number, sock in enumerate(sockets):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("127.0.0.1", first + number))
        except OSError:
            continue
        else:
            return first
        finally:
            for sock in sockets:
                sock.close()
    raise AssertionError("no free ports")


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files whose name is short enough for sockets in it."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def example(temporary: Path) -> Iterator[Example]:
    running = Example(free_ports(), temporary)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.end(signal.SIGKILL)


def test_every_line_does_what_it_says(example: Example, temporary: Path) -> None:
    example.until_it_says(f"service web listens on 127.0.0.1:{example.port}")
    (no_key, said_no_key), (key, said_key), (balanced, said_balanced) = example.curl_lines()
    upstreams = [str(example.port + 1), str(example.port + 2)]

    assert said_no_key.startswith("401: ")
    answer = curl(no_key)
    assert answer.status == 401
    assert "X-Api-Key" in answer.text
    assert "demo-key" in answer.text

    assert said_key.startswith("200: ")
    answer = curl(key)
    assert answer.status == 200
    assert "\nGET /hello HTTP/1.1\n" in answer.text
    assert "\nX-User: demo\n" in answer.text
    spoofed = curl(key.replace("curl ", "curl -H 'X-User: admin' "))
    assert "admin" not in spoofed.text
    assert curl(key.replace("demo-key", "other-key")).status == 401

    assert said_balanced.startswith(f"200: from ports {' and '.join(upstreams)} in turn")
    answers = [curl(balanced) for _ in range(4)]
    assert [answer.status for answer in answers] == [200] * 4
    assert [upstream_of(answer) for answer in answers] == upstreams * 2

    (folder,) = (path for path in temporary.iterdir() if (path / "targets.json").exists())
    targets = folder / "targets.json"
    targets.write_text("[not json")
    example.until_it_says("targets.json is left as it was")
    targets.write_text(json.dumps([f"127.0.0.1:{upstreams[1]}"]))
    example.until_it_says(f"the targets are now 127.0.0.1:{upstreams[1]}")
    assert {upstream_of(curl(balanced)) for _ in range(3)} == {upstreams[1]}

    assert example.end(signal.SIGINT) == 0
    until(lambda: not any(temporary.iterdir()), f"left: {list(temporary.iterdir())}")


def upstream_of(answer: Answer) -> str:
    found = re.match(r"I am the upstream on port (\d+)", answer.text)
    assert found, answer
    return found[1]


def test_twice_in_a_row_and_with_a_signal_to_the_script_alone(example: Example, temporary: Path) -> None:
    example.until_it_says("service web listens on")
    example.process.terminate()
    assert example.ended() == 0
    again = Example(example.port, temporary)
    try:
        again.until_it_says("service web listens on")
    finally:
        assert again.end(signal.SIGINT) == 0


def test_nothing_stays_after_a_kill(example: Example, temporary: Path) -> None:
    example.until_it_says("service web listens on")
    example.process.kill()
    assert example.ended() == -signal.SIGKILL
    until(lambda: not any(temporary.iterdir()), f"left: {list(temporary.iterdir())}")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_port_that_is_taken_is_named(temporary: Path, number: int) -> None:
    first = free_ports()
    with socket.create_server(("127.0.0.1", first + number)):
        running = Example(first, temporary)
        assert running.ended() == 1
    assert f"another program listens on port {first + number}" in running.output
    assert "PROX_EXAMPLE_PORT=" in running.output


@pytest.mark.parametrize("port", ["x", "0", "65534", "70000"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    done = subprocess.run(
        [ROOT / "script/server"],
        env={**os.environ, "PROX_EXAMPLE_PORT": port},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"PROX_EXAMPLE_PORT={port} is no port number" in done.stderr


def test_without_an_override_the_ports_of_the_configuration_are_used() -> None:
    script = (ROOT / "script/server").read_text()
    config = (ROOT / "examples/config.json5").read_text()
    targets = json.loads((ROOT / "examples/targets.json").read_text())
    assert "ports=(8080 9001 9002)" in script
    assert 'listen: "127.0.0.1:8080"' in config
    assert 'upstream: "127.0.0.1:9001"' in config
    assert targets == ["127.0.0.1:9001", "127.0.0.1:9002"]
