"""Resources: bodies that static answers refer to."""

import math
from typing import Any, Self

from pydantic import Field, model_validator

from prox.config.invalid import InvalidError

from .base import NamedModel, ReadableFile


class Resource(NamedModel):
    """A body: exactly one of `text`, `json` and `file`."""

    text: str | None = None
    """The body itself, as text/plain."""
    json_value: Any = Field(default=None, validation_alias="json")
    """A value that is sent as application/json."""
    file: ReadableFile | None = None
    """A file whose content is the body."""

    @property
    def kind(self) -> str:
        """Which of the three it is: "text", "json" or "file"."""
        if self.text is not None:
            return "text"
        return "file" if self.file is not None else "json"

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        given = sorted(self.model_fields_set)
        if len(given) != 1:
            raise InvalidError('a body is exactly one of "text", "json" and "file"')
        if given != ["json_value"] and self.text is None and self.file is None:
            raise InvalidError(f'"{given[0]}" is null')
        if not _is_json(self.json_value):
            raise InvalidError("NaN and Infinity are no JSON", at=("json",))
        return self


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_json, value.values()))
    if isinstance(value, list):
        return all(map(_is_json, value))
    return not isinstance(value, float) or math.isfinite(value)
