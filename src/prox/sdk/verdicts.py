"""What a handler may answer, as functions; the methods of `Request` and `Response` are the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from prox.wire import AuthorizeResult, ResponseModResult, Speed

Verdict: TypeAlias = AuthorizeResult
"""What on_request answers; made by `allow`, `deny`, `drop` and `fallback`."""

Changes: TypeAlias = ResponseModResult
"""What on_response answers; made by `modify`."""

_DROP = AuthorizeResult(allow=False, drop=True)
_FALLBACK = AuthorizeResult(allow=False, fallback=True)


def allow(
    headers: Mapping[str, str] | None = None,
    *,
    path: str = "",
    strip_query: bool = False,
    download_mbps: float = 0,
    upload_mbps: float = 0,
    group_key: str = "",
) -> Verdict:
    """Let the request through.

    Args:
        headers: set on the request to the upstream, in place of what the client sent under these names.
        path: decoded path to send upstream in place of the client's.
        strip_query: send the upstream no query.
        download_mbps: cap towards the client in megabits a second; 0 for none.
        upload_mbps: cap from the client.
        group_key: all connections with this key share one cap.

    Raises:
        TypeError: a header's name or value, the path or the group's key is no string.
        ValueError: a speed is negative or not finite.
    """
    _check_text("path", path)
    speed = None
    if download_mbps or upload_mbps or group_key:
        speed = make_speed(download_mbps, upload_mbps, group_key)
    return AuthorizeResult(
        allow=True, headers=_strings(headers), speed=speed, strip_query=strip_query, path=path
    )


def deny(status: int = 403, body: str | bytes = "", headers: Mapping[str, str] | None = None) -> Verdict:
    """Answer the client here and now.

    Args:
        status: 200 to 599.
        body: of the answer; text is sent as UTF-8.
        headers: of the answer.

    Raises:
        TypeError: a header's name or value is no string, or the body is neither text nor bytes.
        ValueError: the status is out of range.
    """
    _check_status(status)
    if not isinstance(body, str | bytes):
        raise TypeError(f"the body of a denial is str or bytes, not {type(body).__name__}")
    return AuthorizeResult(allow=False, status=status, body=body, headers=_strings(headers))


def drop() -> Verdict:
    """Close the client's connection with no answer."""
    return _DROP


def fallback() -> Verdict:
    """Let the fallback of the route's action serve the request."""
    return _FALLBACK


def modify(
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
    remove: Iterable[str] = (),
) -> Changes:
    """Change the upstream's answer on its way to the client.

    Args:
        status: 200 to 599 in place of the upstream's.
        headers: set on the answer.
        remove: names of headers to remove; done before the others are set.

    Raises:
        TypeError: a header's name or value is no string, or `remove` is a single string.
        ValueError: the status is out of range.
    """
    if status is not None:
        _check_status(status)
    return ResponseModResult(status=status or 0, headers=_strings(headers), remove=_names(remove))


def make_speed(download_mbps: float, upload_mbps: float, group_key: str) -> Speed:
    """Caps that prox accepts.

    Raises:
        ValueError: one is negative or not finite.
    """
    _check_text("group_key", group_key)
    for rate in (download_mbps, upload_mbps):
        if not 0 <= rate < float("inf"):
            raise ValueError(f"{rate} Mbps is no speed")
    return Speed(
        download_mbps=download_mbps or 0,  # 0 is left out on the wire, 0.0 is not
        upload_mbps=upload_mbps or 0,
        group_key=group_key,
    )


def _check_status(status: int) -> None:
    if not 200 <= status <= 599:
        raise ValueError(f"{status} is no status for an answer: it must be 200 to 599")


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} is str, not {type(value).__name__}")


def _strings(headers: Mapping[Any, Any] | None) -> dict[str, str]:
    if not headers:
        return {}
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"header {name!r}: names and values are str, not {type(value).__name__}")
    return dict(headers)


def _names(names: Iterable[str]) -> list[str]:
    if isinstance(names, str):
        raise TypeError("remove takes a list of header names, not one string")
    names = list(names)
    for name in names:
        _check_text("the name of a header", name)
    return names
