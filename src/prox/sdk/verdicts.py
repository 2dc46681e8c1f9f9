"""What a handler may answer, as functions; the methods of `Request` and `Response` are the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from prox.wire import AuthorizeResult, HeaderChanges, ResponseModResult, Speed

Verdict: TypeAlias = AuthorizeResult
"""What on_request answers; made by `allow`, `deny`, `drop` and `fallback`."""

Changes: TypeAlias = ResponseModResult
"""What on_response answers; made by `modify`."""

HeaderValues: TypeAlias = Mapping[str, str | Sequence[str]]
"""Names to values. A list of several (or of none, which takes the header away) needs the feature `headers.multi`."""

_DROP = AuthorizeResult(allow=False, drop=True)
_FALLBACK = AuthorizeResult(allow=False, fallback=True)


def allow(
    headers: HeaderValues | None = None,
    *,
    append: HeaderValues | None = None,
    remove: Iterable[str] = (),
    response: Changes | None = None,
    path: str = "",
    strip_query: bool = False,
    download_mbps: float = 0,
    upload_mbps: float = 0,
    group_key: str = "",
) -> Verdict:
    """Let the request through.

    Args:
        headers: set on the request to the upstream, in place of what the client sent under these names.
        append: put on it beside what the client sent (feature `headers.multi`).
        remove: names of headers that don't go on (feature `headers.multi`).
        response: changes to the headers of the client's response, made by `modify` without a status; whatever action
            serves it, but for prox's own errors (feature `response.allow`).
        path: decoded path to send upstream in place of the client's.
        strip_query: send the upstream no query.
        download_mbps: cap towards the client in megabits a second; 0 for none.
        upload_mbps: cap from the client.
        group_key: all connections with this key share one cap.

    Raises:
        TypeError: a header's name or value, the path or the group's key is no string; `remove` is a single one.
        ValueError: a speed is negative or not finite, or `response` has a status.
    """
    _check_text("path", path)
    speed = None
    if download_mbps or upload_mbps or group_key:
        speed = make_speed(download_mbps, upload_mbps, group_key)
    single, several = _split(headers)
    return AuthorizeResult(
        allow=True,
        headers=single,
        speed=speed,
        strip_query=strip_query,
        path=path,
        changes=_changes(_names(remove), several, append),
        response=None if response is None else _of_response(response),
    )


def deny(status: int = 403, body: str | bytes = "", headers: HeaderValues | None = None) -> Verdict:
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
    single, several = _split(headers)
    return AuthorizeResult(
        allow=False, status=status, body=body, headers=single, changes=_changes([], several, None)
    )


def drop() -> Verdict:
    """Close the client's connection with no answer."""
    return _DROP


def fallback() -> Verdict:
    """Let the fallback of the route's action serve the request."""
    return _FALLBACK


def modify(
    status: int | None = None,
    headers: HeaderValues | None = None,
    remove: Iterable[str] = (),
    *,
    append: HeaderValues | None = None,
) -> Changes:
    """Change the upstream's answer on its way to the client.

    Args:
        status: 200 to 599 in place of the upstream's.
        headers: set on the answer.
        remove: names of headers to remove; done before the others are set.
        append: put on the answer beside what the upstream sent, `Set-Cookie` for instance (feature `headers.multi`).

    Raises:
        TypeError: a header's name or value is no string, or `remove` is a single string.
        ValueError: the status is out of range.
    """
    if status is not None:
        _check_status(status)
    single, several = _split(headers)
    return ResponseModResult(
        status=status or 0,
        headers=single,
        remove=_names(remove),
        changes=_changes([], several, append),
    )


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


def _split(headers: Mapping[Any, Any] | None) -> tuple[dict[str, str], dict[str, list[str]]]:
    """What has one value, and what has a list of them."""
    single: dict[str, str] = {}
    several: dict[str, list[str]] = {}
    for name, value in (headers or {}).items():
        if isinstance(value, str) and isinstance(name, str):
            single[name] = value
        else:
            several[name] = _values(name, value)
    return single, several


def _values(name: object, value: object) -> list[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(name, str) or not isinstance(values, list | tuple):
        raise TypeError(f"header {name!r}: names and values are str, not {type(value).__name__}")
    for one in values:
        _check_text(f"a value of header {name!r}", one)
    return list(values)


def _changes(
    remove: list[str], several: dict[str, list[str]], append: Mapping[Any, Any] | None
) -> HeaderChanges | None:
    if not (remove or several or append):
        return None
    added = {name: _values(name, value) for name, value in (append or {}).items()}
    return HeaderChanges(remove=remove, set=several, append=added)


def _of_response(response: Changes) -> HeaderChanges:
    """What `modify` says, as changes that an allowance carries."""
    if not isinstance(response, ResponseModResult):
        raise TypeError(f"response is what modify(…) gives, not {type(response).__name__}")
    if response.status:
        raise ValueError("an allowance can't change the status of the response; on_response can")
    more = response.changes or HeaderChanges()
    single = {name: [value] for name, value in response.headers.items()}
    return HeaderChanges(remove=response.remove, set=single | more.set, append=more.append)


def _names(names: Iterable[str]) -> list[str]:
    if isinstance(names, str):
        raise TypeError("remove takes a list of header names, not one string")
    names = list(names)
    for name in names:
        _check_text("the name of a header", name)
    return names
