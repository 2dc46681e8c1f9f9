"""What validation asks about files and names, for all parts whose relative paths count from one folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .invalid import InvalidError, suggestion
from .model import PluginRef

if TYPE_CHECKING:
    from .model import Action, Plugin, Resource


class Names(Protocol):
    """What is known by name; each raises InvalidError for what there is not."""

    def find_action(self, name: str) -> Action:
        """The action of that name."""

    def find_resource(self, name: str) -> Resource:
        """The resource of that name."""

    def find_plugin(self, name: str) -> Plugin | None:
        """The plugin of that name, or None."""

    def unnamed_plugin(self, path: str, context: Surroundings) -> Plugin:
        """The plugin at an absolute path."""

    @property
    def plugin_names(self) -> list[str]:
        """All names of plugins."""


class Surroundings:
    """The `Context` of parts whose document lies in `base`."""

    def __init__(self, names: Names, base: Path) -> None:
        self._names = names
        self._base = base
        self._references: dict[str, PluginRef] = {}

    def path(self, text: str) -> str:
        """See `Context`."""
        if not text:
            raise InvalidError("a path is empty")
        if "\0" in text:
            raise InvalidError("a path can't hold a NUL character")
        return os.path.normpath(self._base / text)

    def readable(self, text: str) -> str:
        """See `Context`."""
        path = Path(self.path(text))
        try:
            path.stat()
        except OSError as error:
            raise InvalidError(f'can\'t read "{text}": {reason(error)}') from None
        if not is_file(path):
            raise InvalidError(f'can\'t read "{text}": it is {"a folder" if is_folder(path) else "no file"}')
        if not os.access(path, os.R_OK):
            raise InvalidError(f'can\'t read "{text}": permission denied')
        return str(path)

    def is_folder(self, path: str) -> bool:
        """See `Context`."""
        return is_folder(path)

    def certificates(self, text: str) -> str:
        """See `Context`."""
        folder = Path(self.path(text))
        if not is_folder(folder):
            return self.readable(text)
        try:
            names = {file.name for file in folder.iterdir()}
        except OSError as error:
            raise InvalidError(f'can\'t read "{text}": {reason(error)}') from None
        certificates = sorted(name for name in names if name.endswith((".crt", ".pem")))
        if not certificates:
            raise InvalidError(f'there is no certificate in "{text}"', "name.crt or name.pem, with name.key")
        for name in certificates:
            key = f"{name.rpartition('.')[0]}.key"
            if key not in names:
                raise InvalidError(f'the certificate "{name}" in "{text}" has no key "{key}"')
            self.readable(f"{text}/{name}")
            self.readable(f"{text}/{key}")
        return str(folder)

    def action(self, name: str) -> Action:
        """See `Context`."""
        return self._names.find_action(name)

    def resource(self, name: str) -> Resource:
        """See `Context`."""
        return self._names.find_resource(name)

    def plugin(self, reference: str) -> Plugin:
        """See `Context`."""
        return self.reference(reference).plugin

    def reference(self, reference: str) -> PluginRef:
        """See `Context`."""
        found = self._references.get(reference)
        if found is None:
            plugin = self._names.find_plugin(reference) or self._by_path(reference)
            found = PluginRef.model_construct({"plugin"}, plugin=plugin, on_error=None, timeout=None)
            self._references[reference] = found
        return found

    def _by_path(self, reference: str) -> Plugin:
        path = self.path(reference)
        if "/" not in reference and not (exists(path) or exists(f"{path}.go")):
            hint = suggestion(reference, self._names.plugin_names)
            raise InvalidError(f'there is no plugin "{reference}", and no such file', hint)
        return self._names.unnamed_plugin(path, self)


def is_folder(path: Path | str) -> bool:
    """Whether there is a folder; False, too, where the system refuses to say."""
    return stat.S_ISDIR(_mode(path))


def is_file(path: Path | str) -> bool:
    """Whether there is a regular file; False, too, where the system refuses to say."""
    return stat.S_ISREG(_mode(path))


def exists(path: Path | str) -> bool:
    """Whether there is anything; False, too, where the system refuses to say."""
    return _mode(path) != 0


def _mode(path: Path | str) -> int:
    # Path.is_dir and its kin raise for a name that is too long or a folder that may not be searched.
    try:
        return Path(path).stat().st_mode
    except OSError:
        return 0


def reason(error: OSError) -> str:
    """Why the system refused, as the end of a sentence."""
    return (error.strerror or str(error)).lower()
