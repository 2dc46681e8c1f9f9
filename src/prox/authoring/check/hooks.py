"""Checks of each hook: what it is called with, and what it may answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prox.authoring.refused import refused_headers
from prox.wire import AuthorizeResult, DecodeError, HookType, Result, decode_result

from .model import CheckFailedError, Group
from .packing import call, pack
from .samples import PAYLOADS, REQUEST, REQUESTS, RESPONSES
from .subject import Subject, decoded

on_request = Group("on_request", needs="ready.said")
on_response = Group("on_response", needs="ready.said")
on_connect = Group("on_connect", needs="ready.said")
on_disconnect = Group("on_disconnect", needs="ready.said")


@on_request.check("answer", "on-request-result")
def request_answer(subject: Subject) -> None:
    """Each request is answered with a verdict of the right shape."""
    _results(subject, HookType.ON_REQUEST, REQUESTS)


@on_request.check("status", "on-request-result")
def request_status(subject: Subject) -> None:
    """The status of a denial is one from 200 to 599, or left out."""
    for what, result in _results(subject, HookType.ON_REQUEST, REQUESTS).items():
        assert isinstance(result, AuthorizeResult)
        if not result.allow and result.status and not 200 <= result.status <= 599:
            raise CheckFailedError(f"{what} is denied with status {result.status}")


@on_request.check("headers", "what-prox-leaves-out")
def request_headers(subject: Subject) -> None:
    """The headers of verdicts are such that prox takes them."""
    _headers(_results(subject, HookType.ON_REQUEST, REQUESTS))


@on_request.check("bodies", "on-request-payload")
def request_bodies(subject: Subject) -> None:
    """A body of bytes that are no text, and one of 64 KiB of a longer one, are taken."""
    post = REQUEST | {"m": "POST"}
    bodies = {
        "a POST with a body that is no text": post | {"cl": 256, "bd": bytes(range(256))},
        "a POST with a long body": post | {"cl": 10_000_000, "bd": b"x" * 65536},
    }
    _results(subject, HookType.ON_REQUEST, bodies)


@on_request.check("unknown-route", "on-request-payload", needs="frames.answered")
def request_unknown_route(subject: Subject) -> None:
    """A call for a route that the plugin was not told of does no harm to others."""
    subject.need(HookType.ON_REQUEST)
    with subject.connection() as connection:
        subject.send(connection, call(HookType.ON_REQUEST, pack(REQUEST | {"r": "never:9"})))
        subject.still_serves("a call for a route that it was not told of")


@on_response.check("answer", "on-response-result")
def response_answer(subject: Subject) -> None:
    """Each response is answered with changes of the right shape, and no status but 200 to 599."""
    _results(subject, HookType.ON_RESPONSE, RESPONSES)


@on_response.check("headers", "what-prox-leaves-out")
def response_headers(subject: Subject) -> None:
    """The headers that are set are such that prox takes them."""
    _headers(_results(subject, HookType.ON_RESPONSE, RESPONSES))


@on_connect.check("answer", "on-connect-result")
def connect_answer(subject: Subject) -> None:
    """Each connection is answered with a verdict of the right shape."""
    plain = PAYLOADS[HookType.ON_CONNECT]
    named = {"a connection": plain, "a connection without a name": plain | {"d": ""}}
    _results(subject, HookType.ON_CONNECT, named)


@on_disconnect.check("no-answer", "on-disconnect-payload")
def disconnect_no_answer(subject: Subject) -> None:
    """An end is not answered."""
    subject.need(HookType.ON_DISCONNECT)
    with subject.connection() as connection:
        for _ in range(3):
            subject.send(connection, subject.frame(HookType.ON_DISCONNECT))
        connection.sock.settimeout(subject.patience.quiet)
        try:
            data = connection.sock.recv(1000)
        except (TimeoutError, ConnectionError):
            return
    if data:
        raise CheckFailedError(
            f"bytes come back, which prox takes for an answer of a later call: {data[:80].hex(' ')}"
        )


@on_disconnect.check("many-in-one-write", "on-disconnect-payload")
def disconnect_many(subject: Subject) -> None:
    """Ends that come in one write are read, and their connection stays open."""
    subject.need(HookType.ON_DISCONNECT)
    with subject.connection() as connection:
        subject.send(connection, subject.frame(HookType.ON_DISCONNECT) * 100)
        connection.sock.settimeout(subject.patience.quiet)
        try:
            while connection.sock.recv(65536):
                pass  # an answer is the business of the check before
        except TimeoutError:
            return
        except ConnectionError:
            pass
    raise CheckFailedError("the plugin closes the connection")


def _results(
    subject: Subject, hook: HookType, payloads: Mapping[str, Mapping[str, Any]]
) -> dict[str, Result]:
    """The answers to some calls, by what is special about each."""
    subject.need(hook)
    results = {}
    with subject.connection() as connection:
        for what, payload in payloads.items():
            subject.send(connection, call(hook, pack(payload)))
            body = subject.answer(connection, what)
            try:
                results[what] = decode_result(hook, body)
            except DecodeError as error:
                raise CheckFailedError(f"{what} is answered with {decoded(body)!r}: {error}") from None
    return results


def _headers(results: Mapping[str, Result]) -> None:
    for what, result in results.items():
        for reason in refused_headers(result):
            raise CheckFailedError(f"in the answer to {what} prox leaves a header out: {reason}")
