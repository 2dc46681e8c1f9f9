"""Text for frames: UTF-8, and what is not UTF-8 as Latin-1 characters: every byte sequence can be shown."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes


def decode_text(raw: bytes) -> str:
    """The text of a header value: UTF-8, or else each byte as the Latin-1 character of its number."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def decode_path(raw: bytes) -> str:
    """The path of a request target without its escapes; an invalid escape stays as it is."""
    if b"%" in raw:
        raw = unquote_to_bytes(raw)
    return decode_text(raw)
