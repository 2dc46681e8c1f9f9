"""A new plugin from a template: a folder with the plugin, its test or its protocol part, and a configuration.

The templates are files beside this module; those that end in `.tmpl` have `$name` filled in. The result passes
the conformance kit as it is.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

LANGUAGES = ("python", "go")

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")

# Where each file goes, and the template that it is made of.
_FILES: dict[str, dict[str, str]] = {
    "python": {
        "$name.py": "python/plugin.py.tmpl",
        "test_$module.py": "python/test.py.tmpl",
        "config.json5": "config.json5.tmpl",
    },
    "go": {
        "main.go": "go/main.go.tmpl",
        "plugin.go": "go/plugin.go",
        "go.mod": "go/go.mod.tmpl",
        "go.sum": "go/go.sum",
        ".gitignore": "go/gitignore.tmpl",
        "config.json5": "config.json5.tmpl",
    },
}
_PATH = {"python": "$name.py", "go": "."}
_KEY = '-H "X-Api-Key: k-alice"'
_STEPS = {
    "python": ("prox plugin call $name.py " + _KEY, "prox plugin check $name.py", "pytest", "prox serve"),
    "go": ("prox build", "prox plugin call . " + _KEY, "prox plugin check .", "prox serve"),
}


class NewPluginError(Exception):
    """The plugin can't be made; the text says why."""


@dataclass(frozen=True, slots=True)
class NewPlugin:
    """What was made.

    Attributes:
        folder: the plugin's.
        files: in it.
        steps: commands to try there, one after the other.
    """

    folder: Path
    files: tuple[Path, ...]
    steps: tuple[str, ...]


def new_plugin(where: str, language: str) -> NewPlugin:
    """Make a plugin in a folder that is not there yet, or is empty.

    Args:
        where: the folder; its last part is the plugin's name.
        language: one of `LANGUAGES`.

    Raises:
        NewPluginError: the name is none, the folder has something in it, or it can't be written.
    """
    folder = Path(where)
    name = folder.absolute().name
    if not _NAME.fullmatch(name):
        raise NewPluginError(f"{name!r} is no name for a plugin: letters, digits, - and _, a letter first")
    module = name.replace("-", "_")
    if language == "python" and module in {*sys.stdlib_module_names, "prox", "msgspec", "uvloop", "pytest"}:
        raise NewPluginError(
            f"a script named {name}.py would hide the Python module {module}: take another name"
        )
    names = {"name": name, "module": module, "path": Template(_PATH[language]).substitute(name=name)}
    templates = resources.files(__package__) / "templates"
    files = []
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise NewPluginError(f"{folder} is there and not empty: nothing was written")
        folder.mkdir(parents=True, exist_ok=True)
        for target, source in _FILES[language].items():
            text = templates.joinpath(source).read_text("utf-8")
            path = folder / Template(target).substitute(names)
            path.write_text(Template(text).substitute(names) if source.endswith(".tmpl") else text, "utf-8")
            if text.startswith("#!"):
                path.chmod(0o755)
            files.append(path)
    except OSError as error:
        raise NewPluginError(f"{error.filename}: {error.strerror}") from error
    steps = tuple(Template(step).substitute(names) for step in _STEPS[language])
    return NewPlugin(folder, tuple(files), steps)
