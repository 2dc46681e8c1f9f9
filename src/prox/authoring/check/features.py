"""Checks of what a plugin knows beyond the base protocol; each applies where `ready` names the feature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prox.authoring.refused import refused_headers
from prox.sdk.testing.shown import TRACE
from prox.wire import (
    FEATURE_HEADERS_MULTI,
    FEATURE_RESPONSE_ALLOW,
    FEATURE_TLS_CLIENT,
    FEATURE_TRACE,
    FEATURES,
    AuthorizeResult,
    DecodeError,
    HookType,
    ResponseModResult,
    decode_result,
)

from .model import CheckFailedError, CheckSkippedError, Group
from .packing import call, pack
from .samples import PAYLOADS, REQUEST, REQUESTS, RESPONSES
from .subject import Subject, decoded

group = Group("features", needs="frames.answered")

_REPEATED = {"Cookie": ["a=1", "b=2"], "X-Empty": ["", ""], "X-Text": ["\u00e4", "\u20ac"] * 50}
_FIRST = {name: values[0] for name, values in _REPEATED.items()}
_FINGERPRINT = "0123456789abcdef" * 4
_STATE = "vendor=1,tenant@system=" + "x" * 200


@group.check("named", "ready", needs="ready.said")
def named(subject: Subject) -> None:
    """The features in ready are names, each once."""
    features = _said(subject)
    if "" in features:
        raise CheckFailedError("one is empty")
    if len(set(features)) < len(features):
        raise CheckFailedError(f"one is there twice: {', '.join(features)}")


@group.check("declared", "features")
def declared(subject: Subject) -> None:
    """No answer makes use of a feature that is not named in ready: prox would ignore it."""
    features = _features(subject)
    for hook, key in ((HookType.ON_REQUEST, "rc"), (HookType.ON_REQUEST, "hc"), (HookType.ON_RESPONSE, "hc")):
        feature = FEATURE_RESPONSE_ALLOW if key == "rc" else FEATURE_HEADERS_MULTI
        if not subject.serves(hook) or feature in features:
            continue
        for what, body in _answers(
            subject, hook, REQUESTS if hook is HookType.ON_REQUEST else RESPONSES
        ).items():
            if key in body:
                raise CheckFailedError(
                    f"the answer to {what} has {key!r}, and ready does not name {feature!r}"
                )


@group.check("all-values", "headers-multi")
def all_values(subject: Subject) -> None:
    """With headers.multi, a call with all values of repeated headers is answered."""
    _need(subject, FEATURE_HEADERS_MULTI)
    request = REQUEST | {"h": REQUEST["h"] | _FIRST, "hm": _REPEATED}
    response = {"s": 200, "h": {"Set-Cookie": "a=1"}, "hm": {"Set-Cookie": ["a=1", "b=2"]}}
    payloads = {HookType.ON_REQUEST: request, HookType.ON_RESPONSE: {"req": request, "resp": response}}
    _served(subject, payloads, "with repeated headers")


@group.check("header-changes", "headers-multi")
def header_changes(subject: Subject) -> None:
    """With headers.multi, the changes of headers are of the right shape, and such that prox takes them."""
    _need(subject, FEATURE_HEADERS_MULTI)
    _changes(subject, "hc")


@group.check("response-changes", "response-allow")
def response_changes(subject: Subject) -> None:
    """With response.allow, the changes of the response are of the right shape, and such that prox takes them."""
    _need(subject, FEATURE_RESPONSE_ALLOW)
    _changes(subject, "rc")


@group.check("tls-client", "tls-client")
def tls_client(subject: Subject) -> None:
    """With tls.client, a call with a client's certificate is answered, with a subject and without."""
    _need(subject, FEATURE_TLS_CLIENT)
    for what, certificate in (
        ("with a client's certificate", {"sj": "CN=\u00e4lice\\, a.,O=Example", "fp": _FINGERPRINT}),
        ("with a client's certificate that names nobody", {"fp": _FINGERPRINT}),
    ):
        request = REQUEST | {"tc": certificate}
        pair = PAYLOADS[HookType.ON_RESPONSE] | {"req": request}
        _served(subject, {HookType.ON_REQUEST: request, HookType.ON_RESPONSE: pair}, what)
    subject.survives("calls with a client's certificate")


@group.check("trace", "trace")
def trace(subject: Subject) -> None:
    """With trace, a call with a trace is answered, with tracestate and without."""
    _need(subject, FEATURE_TRACE)
    for what, context in (("with a trace", {"tp": TRACE}), ("with tracestate", {"tp": TRACE, "ts": _STATE})):
        request = REQUEST | {"tr": context}
        pair = PAYLOADS[HookType.ON_RESPONSE] | {"req": request}
        _served(subject, {HookType.ON_REQUEST: request, HookType.ON_RESPONSE: pair}, what)
    if subject.serves(HookType.ON_DISCONNECT):
        with subject.connection() as connection:
            end = PAYLOADS[HookType.ON_DISCONNECT] | {"tr": {"tp": TRACE}}
            subject.send(connection, call(HookType.ON_DISCONNECT, pack(end)))
            subject.still_serves("an end with a trace")
    subject.survives("calls with a trace")


def _said(subject: Subject) -> list[str]:
    """The features that it names; skips the check where it has no hooks."""
    assert subject.ready_hooks is not None
    ready = subject.plugin.inbox.ready
    return (ready.features if ready else None) or []


def _features(subject: Subject) -> frozenset[str]:
    return frozenset(_said(subject)) & FEATURES


def _need(subject: Subject, feature: str) -> None:
    if feature not in _features(subject):
        raise CheckSkippedError(f"the plugin does not name {feature}")


def _served(subject: Subject, payloads: Mapping[HookType, Mapping[str, Any]], what: str) -> None:
    """Ask each hook that is served."""
    for hook, payload in payloads.items():
        if subject.serves(hook):
            subject.ask(call(hook, pack(payload)), f"{hook.hook_name} {what}")


def _changes(subject: Subject, key: str) -> None:
    """See to what stands under a key of answers."""
    for hook, payloads in ((HookType.ON_REQUEST, REQUESTS), (HookType.ON_RESPONSE, RESPONSES)):
        if not subject.serves(hook):
            continue
        for what, body in _answers(subject, hook, payloads).items():
            if key not in body:
                continue
            base: dict[str, Any] = {"ok": body.get("ok", True)} if hook is HookType.ON_REQUEST else {}
            try:
                result = decode_result(hook, pack(base | {key: body[key]}))
            except DecodeError as error:
                raise CheckFailedError(f"{what} is answered with {key} {body[key]!r}: {error}") from None
            assert isinstance(result, AuthorizeResult | ResponseModResult)
            for reason in refused_headers(result):
                raise CheckFailedError(f"in the answer to {what} prox leaves a header out: {reason}")


def _answers(
    subject: Subject, hook: HookType, payloads: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The answers to some calls as maps, by what is special about each; those that are none are left out."""
    answers = {}
    with subject.connection() as connection:
        for what, payload in payloads.items():
            subject.send(connection, call(hook, pack(payload)))
            body = decoded(subject.answer(connection, what))
            if isinstance(body, dict):
                answers[what] = body
    return answers
