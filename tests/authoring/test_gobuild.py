from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from prox.authoring.gobuild import BuildError, build, sources
from prox.config import parse
from prox.config.gosource import GoSource, go_source
from support.go import COLD, HELLO, needs_go, write


def source(path: Path) -> GoSource:
    found = go_source(str(path))
    assert found is not None
    return found


def refused(path: Path) -> list[str]:
    """What is said about a source that does not compile, as `file:line:column: message`, and nothing was left."""
    given = source(path)
    before = given.program.read_bytes() if given.program.is_file() else None
    with pytest.raises(BuildError) as caught:
        build(given)
    assert (given.program.read_bytes() if given.program.is_file() else None) == before
    assert not list(given.program.parent.glob(".*"))
    folder = path if path.is_dir() else path.parent
    return [
        f"{problem.place}: {problem.message}".replace(f"{folder}/", "")
        + (f" ({problem.hint})" * bool(problem.hint))
        for problem in caught.value.problems
    ]


def runs(program: Path) -> str:
    return subprocess.run([program], capture_output=True, text=True, check=True).stdout


# What is compiled


def test_each_program_of_a_configuration_is_compiled_once(tmp_path: Path) -> None:
    for name in ("a.go", "b.go", "c.go", "d/d.go", "e.go", "f.go", "script.go"):
        write(tmp_path / name, "package main")
    write(tmp_path / "script", "#!/bin/sh\n")
    (tmp_path / "empty").mkdir()
    drop = {"type": "drop"}
    third = {"type": "proxy", "upstream": "a:1", "fallback": {**drop, "plugins": ["./f"]}}
    config = parse(
        {
            "plugins": {"a": {"path": "a.go"}, "script": {"path": "script"}, "empty": {"path": "empty"}},
            "actions": {"third": third},
            "services": {
                "web": {
                    "listen": ":1",
                    "plugins": ["./b"],
                    "routes": [
                        {"plugins": ["a", "./a", "./c.go", "./gone"], "action": {**drop, "plugins": ["./d"]}},
                        {"plugins": ["./e", "./c"], "action": "third"},
                    ],
                }
            },
        },
        tmp_path,
    ).config
    assert {str(found.program.relative_to(tmp_path)): found.path.name for found in sources(config)} == {
        "a": "a.go",
        "b": "b.go",
        "c": "c.go",
        "d/d": "d",
        "e": "e.go",
        "f": "f.go",
    }


# Compiling


@needs_go
@COLD
def test_a_file_becomes_the_program_beside_it(tmp_path: Path) -> None:
    path = write(tmp_path / "guard.go", HELLO)
    assert build(source(path)) == "built"
    assert runs(tmp_path / "guard") == "hello\n"
    assert {file.name for file in tmp_path.iterdir()} == {"guard", "guard.go"}


@needs_go
@COLD
def test_a_folder_becomes_the_program_of_its_name_in_it(tmp_path: Path) -> None:
    write(tmp_path / "guard/go.mod", "module example/x\n\ngo 1.19\n")
    write(tmp_path / "guard/main.go", "package main\n\nfunc main() { greet() }\n")
    write(tmp_path / "guard/other.go", HELLO.replace("main()", "greet()"))
    write(tmp_path / "guard/other_test.go", "package main")
    assert build(source(tmp_path / "guard")) == "built"
    assert runs(tmp_path / "guard/guard") == "hello\n"


@needs_go
@COLD
def test_what_is_newer_than_its_source_is_left_alone(tmp_path: Path) -> None:
    module = write(tmp_path / "go.mod", "module example\n\ngo 1.19\n", age=100)
    path = write(tmp_path / "cmd/guard/main.go", HELLO, age=100)
    given = source(path.parent)
    assert build(given) == "built"
    assert build(given) == "up to date"
    before = given.program.stat().st_ino
    assert build(given, force=True) == "built"
    assert given.program.stat().st_ino != before

    write(tmp_path / "cmd/guard/main_test.go", "package main", age=-100)
    write(tmp_path / "README.md", "", age=-100)
    write(tmp_path / ".cache/x.go", "", age=-100)
    assert build(given) == "up to date"
    for changed in (path, module, tmp_path / "internal/parts.go"):
        write(changed, changed.read_text() if changed.exists() else "package internal", age=-100)
        assert build(given) == "built", changed
        write(changed, changed.read_text(), age=100)
        assert build(given) == "up to date"


@needs_go
@COLD
def test_a_program_that_runs_is_replaced(tmp_path: Path) -> None:
    path = write(
        tmp_path / "guard.go",
        'package main\n\nimport "os"\n\nfunc main() { os.Stdin.Read(make([]byte, 1)) }\n',
    )
    build(source(path))
    with subprocess.Popen([tmp_path / "guard"], stdin=subprocess.PIPE) as running:
        write(path, HELLO)
        assert build(source(path), force=True) == "built"
        assert running.poll() is None
        assert runs(tmp_path / "guard") == "hello\n"
        running.communicate(b"\n")
    assert running.returncode == 0


# What is refused


@needs_go
@COLD
def test_mistakes_are_told_with_their_places(tmp_path: Path) -> None:
    path = write(tmp_path / "guard.go", HELLO, age=100)
    build(source(path))
    write(path, 'package main\n\nimport "os"\n\nfunc main() {\n\tvar x int = "a"\n\tmissing()\n}\n', age=-100)
    found = refused(path)
    assert any(re.match(r"guard\.go:3:8: .*os.* imported and not used", line) for line in found), found
    assert any(line.startswith("guard.go:7:2: undefined: missing") for line in found), found
    assert any(line.startswith("guard.go:6:14: cannot use") for line in found), found
    assert runs(tmp_path / "guard") == "hello\n"


@needs_go
@COLD
def test_a_file_that_is_no_go_at_all(tmp_path: Path) -> None:
    [found] = refused(write(tmp_path / "guard.go", "hello\n"))
    assert found == "guard.go:1:1: expected 'package', found hello"


@needs_go
@COLD
def test_without_a_module_the_way_out_is_told(tmp_path: Path) -> None:
    write(tmp_path / "guard/main.go", HELLO)
    [found] = refused(tmp_path / "guard")
    assert "go.mod file not found" in found
    assert found.endswith(f"(in {tmp_path}/guard: go mod init guard && go mod tidy)")


@needs_go
@COLD
def test_a_module_that_is_not_required_is_told_with_its_place(tmp_path: Path) -> None:
    write(tmp_path / "go.mod", "module example\n\ngo 1.19\n")
    path = write(tmp_path / "guard.go", 'package main\n\nimport _ "example.invalid/x"\n\nfunc main() {}\n')
    [found] = refused(path)
    assert found.startswith("guard.go:3:8: no required module provides package example.invalid/x; ")


@needs_go
@COLD
def test_a_package_that_is_not_main_is_no_program(tmp_path: Path) -> None:
    write(tmp_path / "go.mod", "module example\n\ngo 1.19\n")
    write(tmp_path / "guard/guard.go", "package guard\n")
    [found] = refused(tmp_path / "guard")
    assert "must be `main`" in found


@needs_go
@COLD
def test_what_stands_where_the_program_would_be_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "guard.go", HELLO)
    write(tmp_path / "guard", "#!/bin/sh\n", age=100)
    [found] = refused(path)
    assert "no compiled program" in found
    (tmp_path / "guard").unlink()
    (tmp_path / "guard").mkdir()
    [found] = refused(path)
    assert "it is a folder" in found


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    assert refused(tmp_path / "guard.go") == ["guard.go: there is no such Go source"]


def test_without_go_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    [found] = refused(write(tmp_path / "guard.go", HELLO))
    assert found.startswith(
        "guard.go: it is Go source, and there is no `go` in PATH (install Go 1.19 or newer: "
    )


def test_without_go_what_is_built_is_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    path = write(tmp_path / "guard.go", HELLO, age=100)
    (tmp_path / "guard").write_bytes(b"\x7fELF")
    assert build(source(path)) == "up to date"
