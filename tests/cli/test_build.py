"""`prox build`, and what serve and validate make of its results."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from support.go import COLD, HELLO, needs_go, write
from support.prox_process import PROX


def prox(folder: Path, *arguments: str, path: str | None = None) -> tuple[int, list[str]]:
    env = None if path is None else {"PATH": path}
    done = subprocess.run(
        [PROX, *arguments],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


def configure(folder: Path, **plugins: str) -> None:
    route = {"plugins": list(plugins), "action": {"type": "drop"}}
    document = {
        "services": {"web": {"listen": "127.0.0.1:0", "routes": [route]}},
        "plugins": {name: {"path": path} for name, path in plugins.items()},
    }
    (folder / "config.json5").write_text(json.dumps(document))


@needs_go
@COLD
def test_it_builds_what_is_go_and_says_what_it_did(tmp_path: Path) -> None:
    configure(tmp_path, one="one.go", two="plugins/two", three="three.sh")
    write(tmp_path / "one.go", HELLO, age=10)
    write(tmp_path / "plugins/two.go", HELLO, age=10)
    write(tmp_path / "three.sh", "#!/bin/sh\n").chmod(0o755)

    code, said = prox(tmp_path, "validate")
    assert code == 0
    assert [line.rpartition(": ")[2] for line in said[:2]] == [
        f'the program {tmp_path}/one must be compiled from {tmp_path}/one.go (run "prox build")',
        f'the program {tmp_path}/plugins/two must be compiled from {tmp_path}/plugins/two.go (run "prox build")',
    ]
    assert prox(tmp_path, "build") == (0, ["one: built", "plugins/two: built"])
    assert prox(tmp_path, "build", "-config", "config.json5") == (
        0,
        ["one: up to date", "plugins/two: up to date"],
    )
    assert prox(tmp_path, "build", "--force") == (0, ["one: built", "plugins/two: built"])
    assert prox(tmp_path, "validate") == (0, ["config.json5: valid: 1 service, 1 route, 3 plugins"])

    write(tmp_path / "one.go", HELLO, age=-10)
    code, said = prox(tmp_path, "validate")
    assert code == 0
    assert said[0].endswith(
        f'{tmp_path}/one.go has changed since {tmp_path}/one was compiled (run "prox build")'
    )


@needs_go
@COLD
def test_one_mistake_does_not_keep_the_others_from_being_built(tmp_path: Path) -> None:
    configure(tmp_path, bad="bad.go", good="good.go")
    write(tmp_path / "bad.go", "package main\n\nfunc main() { missing() }\n")
    write(tmp_path / "good.go", HELLO)
    assert prox(tmp_path, "build") == (1, ["bad.go:3:15: error: undefined: missing", "good: built"])


def test_without_go(tmp_path: Path) -> None:
    configure(tmp_path, guard="guard.go")
    write(tmp_path / "guard.go", HELLO)
    code, said = prox(tmp_path, "build", path="/nonexistent")
    assert code == 1
    assert said[0].startswith("guard.go: error: it is Go source, and there is no `go` in PATH (install Go")


def test_nothing_to_build_is_said(tmp_path: Path) -> None:
    configure(tmp_path)
    assert prox(tmp_path, "build") == (0, ["config.json5: no plugin is Go source"])


def test_a_configuration_with_errors_is_not_built(tmp_path: Path) -> None:
    (tmp_path / "config.json5").write_text("{ service: {} }")
    code, said = prox(tmp_path, "build")
    assert code == 1
    assert said[-1] == "config.json5: 1 error"


@pytest.mark.parametrize(
    ("path", "source", "program"),
    [
        ("guard.go", "guard.go", "guard"),
        ("guard", "guard.go", "guard"),
        ("guard", "guard/main.go", "guard/guard"),
    ],
)
def test_serve_says_what_still_needs_to_be_built(
    tmp_path: Path, path: str, source: str, program: str
) -> None:
    configure(tmp_path, guard=path)
    write(tmp_path / source, HELLO)
    with subprocess.Popen([PROX, "serve"], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as serving:
        assert serving.stderr is not None
        said = []
        for line in serving.stderr:
            said.append(json.loads(line)["msg"])
            if said[-1].startswith("service web listens"):
                break
        serving.terminate()
        serving.communicate()
    assert any(f"the program {tmp_path / program} must be compiled" in line for line in said), said
    assert any(line.startswith("plugin guard") and "`prox build`" in line for line in said), said
