"""Compiles the modules of the hot path with mypyc when a wheel is built with PROX_COMPILE=1.

Without it the wheel is pure Python: the same code, interpreted, and slower. The modules are listed in pyproject.toml. The
source tree is not touched: mypyc works on a copy, and only its libraries go into the wheel, beside the files that they were
made from.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SETUP = """
import sys
from mypyc.build import mypycify
from setuptools import setup

modules = mypycify(["--config-file=pyproject.toml", *sys.argv[1:]], group_name="prox", opt_level="3", debug_level="0")
setup(name="prox", package_dir={"": "src"}, packages=[], ext_modules=modules, script_args=["build_ext", "--inplace"])
"""


class MypycHook(BuildHookInterface[Any]):
    """The build hook."""

    _copy: Path | None = None

    def dependencies(self) -> list[str]:
        """What an isolated build needs besides: mypyc reads the types of all that prox imports."""
        if not _wanted():
            return []
        core = self.metadata.core
        return [*core.optional_dependencies["compile"], *core.dependencies]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, unless the build is for an editable installation, which must follow its sources."""
        if not _wanted() or version == "editable":
            return
        self._copy = copy = Path(tempfile.mkdtemp(prefix="prox-compile-"))
        root = Path(self.root)
        shutil.copytree(root / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        modules = [f"src/prox/{name}" for name in self.config["modules"]]
        # setuptools must not take the project's own table for its own, mypy needs the other tables.
        settings = (root / "pyproject.toml").read_text(encoding="utf-8")
        (copy / "pyproject.toml").write_text(settings[settings.index("[tool.mypy]") :], encoding="utf-8")
        done = subprocess.run(  # noqa: S603 - our own program and our own files
            [sys.executable, "-c", _SETUP, *modules],
            cwd=copy,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            self.app.abort(f"mypyc failed:\n{done.stdout}{done.stderr}")
        for library in (copy / "src").rglob("*.so"):
            build_data["force_include"][str(library)] = str(library.relative_to(copy / "src"))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove the copy; the wheel is written."""
        if self._copy is not None:
            shutil.rmtree(self._copy)


def _wanted() -> bool:
    return os.environ.get("PROX_COMPILE", "") == "1"
