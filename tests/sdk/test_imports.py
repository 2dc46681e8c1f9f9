"""The SDK runs where nothing but Python, msgspec and the two packages is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import prox.sdk
from support.plugin_driver import PluginDriver

PROX = Path(prox.sdk.__file__).parent.parent


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with msgspec, prox.wire and prox.sdk, and nothing else."""
    site = tmp_path / "site"
    (site / "prox").mkdir(parents=True)
    for name in ("__init__.py", "_version.py", "wire", "sdk"):
        (site / "prox" / name).symlink_to(PROX / name)
    (site / "msgspec").symlink_to(Path(msgspec.__file__).parent)
    return site


@pytest.mark.parametrize("package", ["prox.sdk", "prox.sdk.testing"])
def test_what_an_import_brings_in(site: Path, package: str) -> None:
    script = (
        f"import sys, json; sys.path.insert(0, sys.argv[1]); import {package};"
        "print(json.dumps([n for n, m in sys.modules.items() if getattr(m, '__file__', None)]))"
    )
    # -I: no environment, no user site; -S: no site-packages
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, str(site)], capture_output=True, check=True, text=True
    )
    foreign = {name.partition(".")[0] for name in json.loads(run.stdout)} - set(sys.stdlib_module_names)
    assert foreign == {"msgspec", "prox"}
    inside = {name.split(".")[1] for name in json.loads(run.stdout) if name.startswith("prox.")}
    assert inside == {"_version", "wire", "sdk"}
    assert any(name.startswith("prox.sdk.testing") for name in json.loads(run.stdout)) is (
        package != "prox.sdk"
    )


async def test_a_plugin_runs_there(site: Path, tmp_path: Path) -> None:
    source = f"""
import sys
sys.path.insert(0, {str(site)!r})
from prox.sdk import Plugin
plugin = Plugin()

@plugin.on_request
async def decide(request):
    return request.allow({{"Has-Uvloop": str("uvloop" in sys.modules)}})

plugin.run()
"""
    async with PluginDriver(source, tmp_path, flags=("-I", "-S", "-W", "error")) as plugin:
        client = await (await plugin.start()).connect()
        assert (await client.on_request("/")).headers == {"Has-Uvloop": "False"}
        assert await plugin.stop() == (0, [], "")
