"""What can still be read of a part that is not valid.

A draft is never served. It lets the rules over the whole configuration speak about all that is written, so that
one run shows every problem and not only those of parts that are otherwise faultless.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, get_args

from pydantic import TypeAdapter, ValidationError

from .model import DropAction, Model, PassAction, ProxyAction, ServeAction, StaticAction
from .model.actions import TYPES

if TYPE_CHECKING:
    from .files import Surroundings

M = TypeVar("M", bound=Model)

ACTIONS: dict[str, type[Model]] = dict(
    zip(TYPES, (ProxyAction, StaticAction, ServeAction, PassAction, DropAction), strict=True)
)
"""The model of each type of action."""


@dataclass(frozen=True, slots=True)
class Draft(Generic[M]):
    """A model whose fields are those that could be read; the others have defaults, or are not there at all.

    `unread` are the fields that are wrong, in whole or in part, those that are required and missing, and, where there
    is an unknown key, all that are not there: it may stand for one of them. `parts` are those of the unread that are
    objects, and `names` those that are texts.
    """

    model: M
    unread: frozenset[str]
    parts: dict[str, Draft[Any]]
    names: frozenset[str]

    def may_bind(self) -> bool:
        """Whether it may refer to plugins that can't be told, or that an action refers to which is not valid."""
        if "plugins" in self.unread:
            return True
        for slot in self.unread & {"action", "fallback"} - self.names:
            inner = self.parts.get(slot)
            if inner is None or inner.may_bind() or inner.model.plugins:
                return True
        return False


def draft(model: type[M], raw: object, context: Surroundings) -> Draft[M] | None:
    """Read each field by itself; None for what is no object."""
    if not isinstance(raw, dict):
        return None
    values: dict[str, Any] = {}
    unread = set()
    parts: dict[str, Draft[Any]] = {}
    for name, field in model.model_fields.items():
        key = str(field.validation_alias or name)
        if key not in raw:
            if field.is_required():
                unread.add(name)
            continue
        try:
            values[name] = _reader(model, name).validate_python(raw[key], context=context)
        except ValidationError:
            unread.add(name)
            inner = _inner(model, name, raw[key])
            part: Draft[Any] | None = None if inner is None else draft(inner, raw[key], context)
            if part is not None:
                parts[name] = part
                values[name] = part.model
    names = frozenset(name for name in unread if isinstance(raw.get(name), str))
    if not raw.keys() <= {str(field.validation_alias or name) for name, field in model.model_fields.items()}:
        unread.update(model.model_fields.keys() - values.keys())
    made: Any = model.model_construct(set(values), **values)
    return Draft(made, frozenset(unread), parts, names)


def action_model(raw: object) -> type[Model] | None:
    """The model of an action written as `raw`, where its type can be read."""
    kind = raw.get("type") if isinstance(raw, dict) else None
    return ACTIONS.get(kind) if isinstance(kind, str) else None


def models_in(annotation: Any) -> Iterator[type[Model]]:
    """The models that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


@cache
def _reader(model: type[Model], name: str) -> TypeAdapter[Any]:
    field = model.model_fields[name]
    annotation: Any = field.annotation
    return TypeAdapter(Annotated[(annotation, *field.metadata)] if field.metadata else annotation)


def _inner(model: type[Model], name: str, raw: object) -> type[Model] | None:
    """The model of the one object that a field holds."""
    if not isinstance(raw, dict):
        return None
    found = list(models_in(model.model_fields[name].annotation))
    if ProxyAction in found:
        return action_model(raw)
    return found[0] if found else None
