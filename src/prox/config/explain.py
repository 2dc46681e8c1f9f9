"""From pydantic's errors to problems: at the right place, in words about what the person meant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from .assemble import FRAGMENT_KEYS, kind_of
from .drafts import ACTIONS, action_model, models_in
from .invalid import AlreadyReportedError, InvalidError, ManyInvalidError, suggestion
from .model import Model, ProxyAction

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from .assemble import Part
    from .document import Path_
    from .problem import Problem

_WANTED = {
    "string_type": "a text in quotation marks",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
    "greater_than": ("more than", "gt"),
    "less_than": ("less than", "lt"),
}

# What these keys are called in the configurations of other proxies.
_USUAL_NAMES = {
    **dict.fromkeys(("host", "hosts", "server_name"), "domain"),
    **dict.fromkeys(("backend", "to", "url", "proxy_pass"), "upstream"),
    **dict.fromkeys(("address", "bind", "port"), "listen"),
    **dict.fromkeys(("servers", "backends", "upstreams"), "targets"),
    **dict.fromkeys(("directory", "folder"), "root"),
    **dict.fromkeys(("middleware", "middlewares", "filters"), "plugins"),
    **dict.fromkeys(("locations", "rules"), "routes"),
    "body": "body_ref",
    "code": "status",
    "command": "path",
}


def explain(failure: ValidationError, part: Part, model: type[Model] | None) -> Iterable[Problem]:
    """The problems behind a failed validation of `part`; `model` is None for an action of any type."""
    for error in failure.errors(include_url=False):
        yield from _explain(error, part, model)


def _explain(error: ErrorDetails, part: Part, model: type[Model] | None) -> Iterable[Problem]:
    path = tuple(step for step in error["loc"] if not (isinstance(step, str) and step[:1] == "<"))
    kind = error["type"]
    if kind == "value_error":
        yield from _broken_rules(error, part, path)
    elif kind == "missing":
        yield part.problem("error", f'"{path[-1]}" is missing', _existing(part.raw, path[:-1]))
    elif kind == "extra_forbidden":
        key = str(path[-1])
        hint = _hint_for_key(key, path, part, model)
        yield part.problem("error", f'unknown key "{key}"', path, hint, at_key=True)
    else:
        message, hint = _say(error)
        yield part.problem("error", message, _existing(part.raw, path), hint)


def _broken_rules(error: ErrorDetails, part: Part, path: Path_) -> Iterable[Problem]:
    if path and path[-1] == "[key]":
        path = path[:-1]
    cause = error.get("ctx", {}).get("error")
    for broken in cause.errors if isinstance(cause, ManyInvalidError) else (cause,):
        if isinstance(broken, AlreadyReportedError):
            continue
        if isinstance(broken, InvalidError):
            place = _existing(part.raw, _go(path, broken.at))
            yield part.problem("error", broken.message, place, broken.hint)
        else:
            yield part.problem("error", str(broken), _existing(part.raw, path))


def _go(path: Path_, way: Path_) -> Path_:
    for step in way:
        path = path[:-1] if step == ".." else (*path, step)
    return path


def _existing(raw: Any, path: Path_) -> Path_:
    """As much of `path` as stands in the document; the rest was filled in by us."""
    for count, step in enumerate(path):
        try:
            raw = raw[step]
        except (KeyError, IndexError, TypeError):
            return path[:count]
    return path


def _say(error: ErrorDetails) -> tuple[str, str]:
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    if kind in _WANTED:
        if kind in {"int_type", "int_from_float"} and isinstance(given, float):
            return f"must be a whole number, not {given:g}", ""
        hint = ""
        if isinstance(given, str) and kind in {"int_type", "float_type", "bool_type"}:
            hint = (
                "write it without quotation marks"
                if given.strip("0123456789.") in {"", "true", "false"}
                else ""
            )
        elif given is None:
            hint = "leave it out"
        elif kind == "tuple_type":
            hint = "write it in brackets"
        return f"must be {_WANTED[kind]}, not {kind_of(given)}", hint
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        return f"must be {words} {context[name]:.15g}", ""
    if kind == "literal_error":
        known = [word.strip("'") for word in context["expected"].replace(" or ", ", ").split(", ")]
        wanted = _either(known)
        if isinstance(given, str):
            return f'must be {wanted}, not "{given}"', suggestion(given, known)
        return f"must be {wanted}, not {kind_of(given)}", ""
    if kind == "finite_number":
        return "must be a finite number", ""
    return str(error["msg"]), ""


def _either(words: list[str]) -> str:
    quoted = [f'"{word}"' for word in words]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def _hint_for_key(key: str, path: Path_, part: Part, model: type[Model] | None) -> str:
    owner = _model_at(model, path[:-1], part.raw)
    if owner is None:
        return ""
    known = keys_of(owner)
    if part.is_fragment and len(path) == 1:
        known = [name for name in known if name != "plugins"] + list(FRAGMENT_KEYS)
    if owner in ACTIONS.values():
        others = [f'"{name}"' for name, other in ACTIONS.items() if key in keys_of(other)]
        if others:
            return f"it belongs to an action of type {' or '.join(others)}"
    usual = _USUAL_NAMES.get(key.lower())
    return suggestion(key, known) or (f'here it is called "{usual}"' if usual in known else "")


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys of an object in the document that becomes a `model`."""
    keys = (str(field.validation_alias or name) for name, field in model.model_fields.items())
    return [key for key in keys if key[0] != "<"]


def _model_at(model: type[BaseModel] | None, path: Path_, raw: Any) -> type[BaseModel] | None:
    """The model that the object at `path` is for."""
    if model is None:
        model = action_model(raw)
    for step in path:
        if model is None:
            return None
        try:
            raw = raw[step]
        except (KeyError, IndexError, TypeError):
            return None
        if isinstance(step, int):
            continue
        fields = {str(field.validation_alias or name): field for name, field in model.model_fields.items()}
        found = list(models_in(fields[step].annotation)) if step in fields else []
        model = action_model(raw) if ProxyAction in found else next(iter(found), None)
    return model
