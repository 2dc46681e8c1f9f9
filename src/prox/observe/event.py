"""A log message with values beside it, and perhaps a trace.

The formatters of prox show the values as fields. Any other one asks for the text, which has them behind the message,
so a program that embeds prox and has its own logging loses nothing: `log.info(Event("let in", {"plugin": "guard"}))`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

# A net under the code, which does not log secrets in the first place.
_SECRET = frozenset(
    {
        *("token", "secret", "password", "passwd", "authorization", "proxy_authorization"),
        *("cookie", "set_cookie", "api_key", "apikey", "access_key", "secret_key"),
        *("private_key", "tls_key", "env"),
    }
)
_REDACTED = "[REDACTED]"
_encode = msgspec.json.Encoder(enc_hook=repr).encode


class Event:
    """The message of a log record.

    Attributes:
        text: what has happened.
        values: beside it, by name; a name may be any text.
        trace: lines to be shown below, as those of an exception are.
    """

    __slots__ = ("text", "trace", "values")

    def __init__(self, text: str, values: Mapping[str, object], trace: str = "") -> None:
        self.text = text
        self.values = values
        self.trace = trace

    def __str__(self) -> str:
        """One line with the values, and the trace below it. Characters that do not print are shown by their number."""
        pairs = [pair(key, redacted(key, value)) for key, value in self.values.items()]
        words = [visible(self.text), *(f"{key}={value}" for key, value in pairs)]
        return "\n".join([" ".join(words), *below(self.trace)])


def pair(key: str, value: object) -> tuple[str, str]:
    """A name and its value for people: text is in quotes where it could be taken for more than that, all else is JSON."""
    return _quoted(key, "=" in key), _quoted(value) if isinstance(value, str) else visible(_json(value))


def redacted(key: str, value: object) -> object:
    """The value, unless its name says that it is a secret."""
    return _REDACTED if value and key.lower().replace("-", "_") in _SECRET else value


def _quoted(text: str, odd: bool = False) -> str:
    text = visible(text)
    if odd or not text or " " in text or '"' in text:
        return '"' + text.replace('"', '\\"') + '"'
    return text


def _json(value: object) -> str:
    try:
        return _encode(value).decode()
    except (UnicodeEncodeError, TypeError, ValueError):
        return repr(value)


def below(trace: str) -> list[str]:
    """The lines of a trace as they stand below a line for people."""
    return ["    " + visible(text) for text in trace.splitlines()]


def visible(text: str) -> str:
    """The text in one line, with characters that do not print shown by their number."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
