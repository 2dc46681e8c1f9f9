from __future__ import annotations

import json
import subprocess
import sys

import pytest

import prox
from prox.cli import main
from prox.cli.version import is_compiled


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int | str | None, str]:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    return exit_.value.code, capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    way = "compiled" if is_compiled() else "interpreted"
    assert run(capsys, "version") == (0, f"prox {prox.__version__} ({way})\n")


@pytest.mark.parametrize(
    ("arguments", "title"),
    [((), "prox"), (("--for", "service"), "prox service"), (("--for", "routes"), "prox routes")],
)
def test_schema(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], title: str) -> None:
    code, out = run(capsys, "schema", *arguments)
    assert code == 0
    assert json.loads(out)["title"] == title


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, "--help")
    assert code == 0
    for command in ("serve", "validate", "schema", "version"):
        assert f"\n  {command} " in out


def test_help_of_validate(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, "validate", "-h")
    assert code == 0
    assert "--config" in out
    assert "config.json5" in out


def test_a_command_loads_only_its_own_part() -> None:
    code = (
        "import sys; from prox.cli import application; application();"
        "print([name for name in ('pydantic', 'rich', 'asyncio', 'httptools', 'prox.app') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prox", "version"], capture_output=True, text=True, check=True, timeout=15
    )
    assert done.stdout.startswith(f"prox {prox.__version__} (")
