"""How the answers of several plugins become one. Pure but for the warnings about headers that are left out."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from prox.wire import AuthorizeResult, ResponseModResult, Speed

from .complaints import Complaints
from .headers import NOT_ON_REQUESTS, NOT_ON_RESPONSES, all_taken, normalise, take_headers

RequestVerdict: TypeAlias = Literal["allow", "deny", "drop", "fallback"]

_ALLOWED: Final = AuthorizeResult(allow=True)
_UNCHANGED: Final = ResponseModResult()
_NOBODYS: Final[frozenset[str]] = frozenset()


def stands_alone(result: AuthorizeResult, foreign: frozenset[str]) -> bool:
    """Whether a plain allowance needs no merge where nobody else is asked: it is what RequestMerge would give."""
    if not result.allow or result.drop or result.fallback or result.status or result.body:
        return False
    if result.path and result.path[0] != "/":
        return False
    return not result.headers or all_taken(result.headers, foreign)


class RequestMerge:
    """Merges verdicts of on_request in the order of the plugins."""

    __slots__ = ("_fallback", "_headers", "_path", "_refusal", "_speed", "_strip_query")

    def __init__(self) -> None:
        self._headers: dict[str, str] = {}
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
            headers: dict[str, str] = {}
            take_headers(result.headers, headers, NOT_ON_RESPONSES, _NOBODYS, complaints)
            status = result.status or 403
            self._refusal = AuthorizeResult(allow=False, status=status, body=result.body, headers=headers)
            return "deny"
        if result.headers:
            take_headers(result.headers, self._headers, NOT_ON_REQUESTS, foreign, complaints)
        if result.speed is not None:
            self._speed = _slower(self._speed, result.speed)
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
        if not (self._fallback or self._headers or self._path or self._strip_query or self._speed):
            return _ALLOWED
        return AuthorizeResult(
            allow=not self._fallback,
            fallback=self._fallback,
            headers=self._headers,
            speed=self._speed,
            strip_query=self._strip_query,
            path=self._path,
        )


class ResponseMerge:
    """Merges what plugins change in an answer, in the order of the plugins."""

    __slots__ = ("_headers", "_remove", "_status")

    def __init__(self) -> None:
        self._headers: dict[str, str] = {}
        self._remove: dict[str, str] = {}
        self._status = 0

    def add(self, result: ResponseModResult, complaints: Complaints) -> Literal["keep", "change"]:
        """Take a plugin's answer."""
        take_headers(result.headers, self._headers, NOT_ON_RESPONSES, _NOBODYS, complaints)
        for name in result.remove:
            plain = normalise(name)
            if not plain or plain in NOT_ON_RESPONSES:
                complaints.warn("header %r is not removed: prox sets it itself", name)
            else:
                self._remove.setdefault(plain, name)
        if result.status:
            self._status = result.status
        return "change" if result.status or result.headers or result.remove else "keep"

    def result(self) -> ResponseModResult:
        """What all of them together say: removals first, then headers."""
        if not (self._status or self._headers or self._remove):
            return _UNCHANGED
        return ResponseModResult(
            status=self._status, headers=self._headers, remove=list(self._remove.values())
        )


def _slower(one: Speed | None, other: Speed) -> Speed:
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
