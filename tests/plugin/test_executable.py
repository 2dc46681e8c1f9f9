"""What counts as another version of a program."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from prox.plugin import PluginSpec
from prox.plugin.executable import program_files, version_of


def rewrite(path: Path) -> None:
    path.write_text("other")


def replace(path: Path) -> None:
    """As `mv` does: another file of the same content, size and time."""
    found = path.stat()
    new = path.with_name("new")
    new.write_bytes(path.read_bytes())
    os.utime(new, ns=(found.st_atime_ns, found.st_mtime_ns))
    new.rename(path)


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def change_back(path: Path) -> None:
    """Other content of the same size, with its time set back: the time of the change itself can't be."""
    found = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


@pytest.mark.parametrize("change", [rewrite, replace, touch, change_back])
def test_any_change_makes_another_version(tmp_path: Path, change: Callable[[Path], None]) -> None:
    program = tmp_path / "guard"
    program.write_text("text")
    spec = PluginSpec(path=str(program))
    before = version_of(spec)
    assert before is not None
    assert version_of(spec) == before
    change(program)
    assert version_of(spec) != before
    assert version_of(spec) is not None


def test_a_link_that_points_elsewhere_is_another_version(tmp_path: Path) -> None:
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "guard").write_text("text")
    current = tmp_path / "current"
    current.symlink_to("v1")
    spec = PluginSpec(path=str(current / "guard"))
    before = version_of(spec)
    current.unlink()
    current.symlink_to("v2")
    after = version_of(spec)
    assert after is not None
    assert after != before
    assert str(after).startswith(str(tmp_path / "v2" / "guard"))


def test_a_missing_program_has_no_version(tmp_path: Path) -> None:
    assert version_of(PluginSpec(path=str(tmp_path / "guard"))) is None


@pytest.mark.parametrize(
    ("path", "args", "files"),
    [
        ("/p/guard", ("targets.json",), ["/p/guard"]),
        ("/usr/bin/python3", ("guard.py", "targets.json"), ["/usr/bin/python3", "/w/guard.py"]),
        ("/usr/bin/python3.11", ("-I", "-u", "/p/guard.py"), ["/usr/bin/python3.11", "/p/guard.py"]),
        ("/usr/bin/python3", ("-m", "guard"), ["/usr/bin/python3"]),
        ("/usr/bin/python3", ("-Imguard", "x"), ["/usr/bin/python3", "/w/x"]),
        ("/bin/sh", ("-c", "exec guard"), ["/bin/sh"]),
        ("/usr/bin/node", ("guard.js",), ["/usr/bin/node", "/w/guard.js"]),
        ("/usr/bin/python3", (), ["/usr/bin/python3"]),
        ("/p/pythonic", ("guard.py",), ["/p/pythonic"]),
    ],
)
def test_the_script_of_an_interpreter_is_the_program_as_well(
    path: str, args: tuple[str, ...], files: list[str]
) -> None:
    spec = PluginSpec(path=path, args=args, cwd="/w")
    assert [str(file) for file in program_files(spec)] == files


def test_a_script_of_an_interpreter_that_changes_is_another_version(tmp_path: Path) -> None:
    script = tmp_path / "guard.py"
    script.write_text("text")
    spec = PluginSpec(path="/bin/sh", args=("guard.py",), cwd=str(tmp_path))
    before = version_of(spec)
    rewrite(script)
    assert before != version_of(spec)
    script.unlink()
    assert version_of(spec) is None
