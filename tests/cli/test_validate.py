"""`prox validate` as a user runs it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

PROX = Path(sys.executable).with_name("prox")
VALID = '{ services: { web: { listen: ":8080", routes: [{ action: { type: "drop" } }] } } }'
BROKEN = '{ services: { web: { listen: ":8080", route: [] } } }'
REFUSED = VALID.replace("{", '{ admin: { listen: "127.0.0.1:9090" },', 1)


def prox(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROX, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=10
    )


def test_a_valid_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json5").write_text(VALID)
    done = prox("validate", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "config.json5: valid: 1 service, 1 route, 0 plugins\n"


def test_all_problems_are_printed_with_their_place(tmp_path: Path) -> None:
    (tmp_path / "config.json5").write_text(BROKEN)
    done = prox("validate", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        'config.json5:1:39: error: services.web.route: unknown key "route" (did you mean "routes"?)',
        "config.json5: 1 error",
    ]


def test_what_serve_would_refuse_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json5").write_text(REFUSED)
    done = prox("validate", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "config.json5:1:10: error: admin: not available in this version: the admin API",
        "config.json5: 1 error",
    ]


def test_places_in_a_message_are_relative_and_whole(tmp_path: Path) -> None:
    (tmp_path / "web.json5").write_text('{ listen: ":1", routes: [], actions: { a: { type: "drop" } } }')
    (tmp_path / "config.json5").write_text(
        '{ services: { web: "web.json5" }, actions: { a: { type: "drop" } } }'
    )
    done = prox("validate", cwd=tmp_path)
    assert done.stdout.splitlines()[0] == (
        'web.json5:1:40: error: services.web.actions.a: the action "a" is there twice, see config.json5:1:46'
    )


def test_a_log_that_cant_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json5").write_text('{ logging: { error_log: "/nonexistent/x.log" } }')
    done = prox("validate", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == (
        "config.json5:1:25: error: logging.error_log: the log file can't be made: there is no folder /nonexistent"
        " (mkdir -p /nonexistent)"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--log-level", "x"), '"x" is no level; there are debug, info, warn and error'),
        (("--workers", "y"), '"y" is no number of processes; give 1 or more'),
    ],
)
def test_options_of_serve_that_are_wrong(tmp_path: Path, arguments: tuple[str, str], said: str) -> None:
    done = prox("serve", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"Error: Invalid value for '{arguments[0]}': {said}"


def test_warnings_and_notes_refuse_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.json5").write_text('{ plugins: { p: { path: "gone" } }, runtime: { workers: 2 } }')
    done = prox("validate", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == (
        "config.json5: valid: 0 services, 0 routes, 1 plugin; 2 warnings, 1 note"
    )
    assert {line.split(": ")[1] for line in done.stdout.splitlines()[:-1]} == {"warning", "note"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("validate", "-c", "other.json5"),
        ("validate", "--config", "other.json5"),
        ("validate", "--config=other.json5"),
        ("validate", "-config", "other.json5"),
        ("validate", "-config=other.json5"),
    ],
)
def test_spellings_of_the_option(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "other.json5").write_text(VALID)
    done = prox(*arguments, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("other.json5: valid")


def test_a_folder(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/web.json5").write_text('{ listen: ":1", routes: [{ action: { type: "drop" } }] }')
    done = prox("validate", "-c", "conf", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "conf: valid: 1 service, 1 route, 0 plugins\n")


def test_a_missing_file_is_a_problem_and_wrong_usage_is_another(tmp_path: Path) -> None:
    done = prox("validate", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith("config.json5: error: can't read the configuration: no such file")
    assert prox("validate", "--nothing", cwd=tmp_path).returncode == 2
    assert prox("nothing", cwd=tmp_path).returncode == 2
    assert prox(cwd=tmp_path).returncode == 2


@pytest.mark.parametrize(("environment", "colour"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colour_on_a_terminal(tmp_path: Path, environment: dict[str, str], colour: bool) -> None:
    (tmp_path / "config.json5").write_text(BROKEN)
    plain = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    master, slave = pty.openpty()
    try:
        with subprocess.Popen(
            [PROX, "validate"], cwd=tmp_path, stdout=slave, env={**plain, **environment}
        ) as child:
            os.close(slave)
            output = b""
            while True:
                try:
                    chunk = os.read(master, 4096)
                except OSError:  # EIO: the child has closed its end
                    break
                if not chunk:
                    break
                output += chunk
            assert child.wait(10) == 1
    finally:
        os.close(master)
    assert (b"\x1b[" in output) is colour
    assert b'unknown key "route"' in output
