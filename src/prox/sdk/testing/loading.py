"""A plugin out of its script, without running it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

from prox.sdk.plugin import Plugin, PluginTaken, taking


def load(script: str | Path) -> Plugin:
    """The plugin that a script makes; each call executes the script anew, so tests share no state.

    The script is executed up to its `plugin.run()`, or whole where that stands below
    `if __name__ == "__main__":`. Its folder is on `sys.path` meanwhile.

    Raises:
        OSError: the script can't be read.
        TypeError: it makes no plugin, or several and runs none.
    """
    path = Path(script).resolve()
    code = compile(path.read_bytes(), path, "exec")
    module = ModuleType(f"prox_plugin_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses and pickle look for it
    sys.path.insert(0, str(path.parent))
    token = taking.set(True)
    try:
        exec(code, module.__dict__)  # noqa: S102 - the plugin under test
    except PluginTaken as taken:
        plugin: Plugin = taken.args[0]
        return plugin
    finally:
        taking.reset(token)
        sys.path.remove(str(path.parent))
    found = {id(value): value for value in vars(module).values() if isinstance(value, Plugin)}
    if len(found) != 1:
        raise TypeError(f"{path} makes {len(found)} plugins and runs none: it needs one Plugin()")
    return next(iter(found.values()))
