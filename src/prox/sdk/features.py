"""What a plugin may know beyond the base protocol, and names when it is made: `Plugin(features=["trace"])`.

A handler that answers with what belongs to a feature that the plugin has not named is in error: prox would ignore it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

from prox.wire import FEATURES, AuthorizeResult, ResponseModResult, features_used

Feature: TypeAlias = Literal["headers.multi", "response.allow", "tls.client", "trace"]
"""`headers.multi`: all values of repeated headers, both ways. `response.allow`: an allowance changes the headers of the
client's response. `tls.client`: the certificate that the client showed. `trace`: the request's trace (W3C Trace Context),
which prox continues towards the upstream."""


def known_features(names: Iterable[str]) -> frozenset[str]:
    """The names as a set.

    Raises:
        TypeError: it is one string.
        ValueError: one is not known.
    """
    if isinstance(names, str):
        raise TypeError("features takes a list of names, not one string")
    features = frozenset(names)
    for name in sorted(features - FEATURES):
        raise ValueError(f"there is no feature {name!r}, only {', '.join(sorted(FEATURES))}")
    return features


def check_features(answer: AuthorizeResult | ResponseModResult, features: frozenset[str]) -> None:
    """See to it that an answer needs no feature but these.

    Raises:
        TypeError: it does.
    """
    for feature in features_used(answer):
        if feature not in features:
            raise TypeError(f"the answer needs a feature: Plugin(features=[{feature!r}])")
