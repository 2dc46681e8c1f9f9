"""Every part of a configuration, with the path that leads to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .model import Config, Model, Plugin
from .model.base import NamedModel

if TYPE_CHECKING:
    from .document import Path_


def models(config: Config) -> Iterator[tuple[Path_, Model]]:
    """Each part once, named ones where they are defined; paths lead from the root."""
    yield from _walk(config, ())


def _walk(value: Any, path: Path_) -> Iterator[tuple[Path_, Model]]:
    """Every model below `value`, named ones only where they are defined."""
    if isinstance(value, Model):
        if isinstance(value, NamedModel) and (value.name or isinstance(value, Plugin)) and len(path) != 2:
            return
        yield path, value
        for key in value.model_fields_set:
            yield from _walk(getattr(value, key), (*path, key))
    elif isinstance(value, tuple):
        for index, member in enumerate(value):
            if isinstance(member, Model):
                yield from _walk(member, (*path, index))
    elif isinstance(value, dict):
        for key, member in value.items():
            if isinstance(member, Model):
                yield from _walk(member, (*path, key))
