"""How the answers of several plugins become one. Pure but for the warnings about headers that are left out."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from prox.wire import AuthorizeResult, HeaderChanges, ResponseModResult, Speed

from .complaints import Complaints
from .headers import ON_REQUESTS, ON_RESPONSES, HeaderMerge, all_taken

RequestVerdict: TypeAlias = Literal["allow", "deny", "drop", "fallback"]

_UNCHANGED: Final = ResponseModResult()
_NONE: Final[dict[str, str]] = {}
_NOBODYS: Final[frozenset[str]] = frozenset()


def stands_alone(result: AuthorizeResult, foreign: frozenset[str]) -> bool:
    """Whether a plain allowance needs no merge where nobody else is asked: it is what RequestMerge would give."""
    if not result.allow or result.drop or result.fallback or result.status or result.body:
        return False
    if result.path and result.path[0] != "/":
        return False
    if result.changes is not None or result.response is not None:
        return False
    return not result.headers or all_taken(result.headers, foreign)


class RequestMerge:
    """Merges verdicts of on_request in the order of the plugins."""

    __slots__ = ("_fallback", "_headers", "_path", "_refusal", "_response", "_speed", "_strip_query")

    def __init__(self) -> None:
        self._headers: HeaderMerge | None = None
        self._response: HeaderMerge | None = None
        self._speed: Speed | None = None
        self._path = ""
        self._strip_query = self._fallback = False
        self._refusal: AuthorizeResult | None = None

    def add(self, result: AuthorizeResult, foreign: frozenset[str], complaints: Complaints) -> RequestVerdict:
        """Take a plugin's answer; deny and drop must be the last.

        Args:
            result: the answer.
            foreign: normalised request headers that only other plugins may set.
            complaints: takes warnings about headers that are left out.
        """
        if result.drop:
            self._refusal = AuthorizeResult(allow=False, drop=True)
            return "drop"
        if not result.allow and not result.fallback:
            own = HeaderMerge(ON_RESPONSES)
            own.take(result.headers, result.changes, _NOBODYS, complaints)
            self._refusal = AuthorizeResult(
                allow=False,
                status=result.status or 403,
                body=result.body,
                headers=own.headers,
                changes=own.changes([]),
            )
            return "deny"
        if result.headers or result.changes is not None:
            if self._headers is None:
                self._headers = HeaderMerge(ON_REQUESTS)
            self._headers.take(result.headers, result.changes, foreign, complaints)
        if result.response is not None:
            if self._response is None:
                self._response = HeaderMerge(ON_RESPONSES)
            self._response.take(_NONE, result.response, _NOBODYS, complaints)
        if result.speed is not None:
            self._speed = slower(self._speed, result.speed)
        if result.strip_query:
            self._strip_query = True
        if result.path:
            self._path = result.path if result.path.startswith("/") else f"/{result.path}"
        if result.fallback:
            self._fallback = True
            return "fallback"
        return "allow"

    def result(self) -> AuthorizeResult:
        """What all of them together say."""
        if self._refusal is not None:
            return self._refusal
        headers: dict[str, str] = {}
        changes: HeaderChanges | None = None
        response: HeaderChanges | None = None
        if self._headers is not None:
            headers = self._headers.headers
            changes = self._headers.changes(self._headers.removed)
        if self._response is not None:
            response = self._response.all_changes()
        return AuthorizeResult(
            allow=not self._fallback,
            fallback=self._fallback,
            headers=headers,
            speed=self._speed,
            strip_query=self._strip_query,
            path=self._path,
            changes=changes,
            response=response,
        )


class ResponseMerge:
    """Merges what plugins change in an answer, in the order of the plugins."""

    __slots__ = ("_headers", "_status")

    def __init__(self) -> None:
        self._headers = HeaderMerge(ON_RESPONSES)
        self._status = 0

    def add(self, result: ResponseModResult, complaints: Complaints) -> Literal["keep", "change"]:
        """Take a plugin's answer."""
        self._headers.take(result.headers, result.changes, _NOBODYS, complaints)
        self._headers.remove(result.remove, _NOBODYS, complaints)
        if result.status:
            self._status = result.status
        return "keep" if result == _UNCHANGED else "change"

    def result(self) -> ResponseModResult:
        """What all of them together say: removals first, then headers."""
        headers = self._headers
        return ResponseModResult(
            status=self._status,
            headers=headers.headers,
            remove=headers.removed,
            changes=headers.changes([]),
        )


def slower(one: Speed | None, other: Speed) -> Speed:
    """The lowest cap of each direction that is one, and the first group key."""
    if one is None:
        return other
    return Speed(
        download_mbps=_lower(one.download_mbps, other.download_mbps),
        upload_mbps=_lower(one.upload_mbps, other.upload_mbps),
        group_key=one.group_key or other.group_key,
    )


def _lower(one: float, other: float) -> float:
    return min(one, other) if one and other else one or other
