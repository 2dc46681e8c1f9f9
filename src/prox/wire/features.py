"""What a plugin gets and may say beyond the base protocol: only what belongs to the features that it has named.

A plugin that names none is shown exactly what it was shown before there were features, and what it happens to answer
under their keys means nothing, as any key that is not known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar, cast

import msgspec

from .messages import (
    AuthorizeResult,
    ConnInfo,
    DisconnectInfo,
    RequestInfo,
    ResponseModResult,
    ResponsePair,
)
from .names import FEATURE_HEADERS_MULTI, FEATURE_RESPONSE_ALLOW, FEATURE_TLS_CLIENT, FEATURE_TRACE

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from .messages import Payload, Result

P = TypeVar("P", bound=RequestInfo | ResponsePair | ConnInfo | DisconnectInfo)
R = TypeVar("R", bound=AuthorizeResult | ResponseModResult)

RESULT_KEYS: Final = {"hc": FEATURE_HEADERS_MULTI, "rc": FEATURE_RESPONSE_ALLOW}
"""The keys of results that belong to a feature, on the wire."""

SHOWN: Final = frozenset({FEATURE_HEADERS_MULTI, FEATURE_TLS_CLIENT, FEATURE_TRACE})
"""The features that add something to what a plugin is shown."""


def has_more(payload: Payload) -> bool:
    """Whether a payload holds anything that belongs to a feature."""
    if isinstance(payload, ResponsePair):
        return bool(payload.response.all_values) or has_more(payload.request)
    if isinstance(payload, RequestInfo):
        return bool(payload.all_values) or payload.trace is not None or payload.certificate is not None
    return isinstance(payload, DisconnectInfo) and payload.trace is not None


def shown_to(payload: P, features: AbstractSet[str]) -> P:
    """The payload without what belongs to other features than these."""
    return cast("P", _shown_to(payload, features))


def _shown_to(payload: Payload, features: AbstractSet[str]) -> Payload:
    if isinstance(payload, ResponsePair):
        response = payload.response
        if response.all_values and FEATURE_HEADERS_MULTI not in features:
            response = msgspec.structs.replace(response, all_values={})
        return ResponsePair(request=shown_to(payload.request, features), response=response)
    if isinstance(payload, RequestInfo) and payload.all_values and FEATURE_HEADERS_MULTI not in features:
        payload = msgspec.structs.replace(payload, all_values={})
    if isinstance(payload, RequestInfo) and payload.certificate and FEATURE_TLS_CLIENT not in features:
        payload = msgspec.structs.replace(payload, certificate=None)
    if isinstance(payload, RequestInfo | DisconnectInfo) and payload.trace and FEATURE_TRACE not in features:
        payload = msgspec.structs.replace(payload, trace=None)
    return payload


def understood(result: R, features: AbstractSet[str]) -> R:
    """The result without what belongs to other features than these."""
    return cast("R", _understood(result, features))


def _understood(
    result: AuthorizeResult | ResponseModResult, features: AbstractSet[str]
) -> AuthorizeResult | ResponseModResult:
    if result.changes is not None and FEATURE_HEADERS_MULTI not in features:
        result = msgspec.structs.replace(result, changes=None)
    if isinstance(result, ResponseModResult) or result.response is None or FEATURE_RESPONSE_ALLOW in features:
        return result
    return msgspec.structs.replace(result, response=None)


def features_used(result: Result) -> list[str]:
    """The features that a result makes use of."""
    keys = {"hc": getattr(result, "changes", None), "rc": getattr(result, "response", None)}
    return [feature for key, feature in RESULT_KEYS.items() if keys[key] is not None]
