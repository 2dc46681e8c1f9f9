"""Plugins from templates: what is written works, passes the conformance kit, and overwrites nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prox.authoring.check import CHECKS, Patience, Subject, run
from prox.authoring.new import LANGUAGES, NewPlugin, NewPluginError, new_plugin
from prox.authoring.program import program
from prox.config import load
from prox.sdk.testing import ProcessHarness
from support.go import COLD, needs_go

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/go/guard"
HOOKS = {"on_request", "on_response", "on_connect", "on_disconnect"}


@pytest.fixture
def path_with_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """`python3` is this one, as in an activated environment."""
    folder = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{folder}:{ROOT / '.venv/bin'}:{os.environ['PATH']}")


def make(tmp_path: Path, name: str, language: str) -> NewPlugin:
    return new_plugin(str(tmp_path / name), language)


def try_it(program: Path) -> None:
    with ProcessHarness(program) as plugin:
        assert plugin.hooks <= HOOKS
        assert (plugin.request().allow, plugin.request().status) == (False, 401)
        assert plugin.request(headers={"X-Api-Key": "k-alice"}).headers == {"X-User": "alice"}
    outcomes = list(run(Subject([program], patience=Patience(quiet=0.05)), CHECKS))
    assert [(o.check.name, o.message) for o in outcomes if o.result == "fail"] == []
    assert {o.check.group for o in outcomes if o.result == "skip"} <= {*HOOKS, "features", "output"}


@pytest.mark.usefixtures("path_with_python")
def test_a_plugin_in_python(tmp_path: Path) -> None:
    made = make(tmp_path, "my-guard", "python")
    assert [file.name for file in made.files] == ["my-guard.py", "test_my_guard.py", "config.json5"]
    try_it(program(str(made.files[0])))
    loaded = load(made.folder / "config.json5")
    assert (loaded.warnings, loaded.config.plugins["my-guard"].own_headers) == ((), ("X-User",))


def test_its_tests_pass(tmp_path: Path) -> None:
    made = make(tmp_path, "my-guard", "python")
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:hypothesispytest",
        ],
        cwd=made.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


@needs_go
@COLD
def test_a_plugin_in_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path, "lock", "go")
    monkeypatch.chdir(made.folder)
    loaded = load(made.folder / "config.json5")
    assert [warning.path for warning in loaded.warnings] == ["plugins.lock.path"]
    compiled = program(".")
    assert compiled == made.folder / "lock"
    assert load(made.folder / "config.json5").warnings == ()
    try_it(compiled)


def test_the_go_template_is_the_example() -> None:
    """The protocol part is one text, and the modules are pinned to the same versions."""
    templates = ROOT / "src/prox/authoring/templates/go"
    for name in ("plugin.go", "go.sum"):
        assert (templates / name).read_text() == (EXAMPLE / name).read_text(), f"copy {name} of the example"
    module = (templates / "go.mod.tmpl").read_text().replace("$name", "guard")
    assert module == (EXAMPLE / "go.mod").read_text()


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_overwritten(tmp_path: Path, language: str) -> None:
    folder = tmp_path / "guard"
    folder.mkdir()
    make(tmp_path, "guard", language)
    before = {file: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(NewPluginError, match="is there and not empty: nothing was written"):
        make(tmp_path, "guard", language)
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("name", ["1x", "a b", "a.py", "a$b", "ä", "-x"])
def test_a_name_that_is_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(NewPluginError, match="is no name for a plugin"):
        make(tmp_path, name, "python")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["json", "prox", "msgspec"])
def test_a_name_that_would_hide_a_module(tmp_path: Path, name: str) -> None:
    with pytest.raises(NewPluginError, match=f"would hide the Python module {name}"):
        make(tmp_path, name, "python")
    assert make(tmp_path, name, "go").files


def test_a_place_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(NewPluginError, match=r"file/guard: Not a directory"):
        make(tmp_path, "file/guard", "python")
    with pytest.raises(NewPluginError, match=r"file: File exists"):
        make(tmp_path, "file", "python")
