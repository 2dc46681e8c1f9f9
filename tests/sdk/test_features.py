"""Features in the SDK: what handlers see and answer with them, and what they are told without."""

from __future__ import annotations

from typing import Any

import pytest

from prox.sdk import Disconnect, Plugin, Request, Response, Trace, allow, deny, modify
from prox.sdk.testing import TRACE, Harness, HookError, make_request
from prox.wire import AuthorizeResult, ClientCertificate, HeaderChanges, ResponseModResult, TraceContext

ALL: Any = ("headers.multi", "response.allow", "tls.client", "trace")


# What is answered.


def test_lists_and_appends_and_removals() -> None:
    assert allow({"X-A": "1", "X-B": ["2", "3"]}, append={"X-C": "4", "X-D": ("5", "6")}, remove=["X-E"]) == (
        AuthorizeResult(
            allow=True,
            headers={"X-A": "1"},
            changes=HeaderChanges(
                remove=["X-E"], set={"X-B": ["2", "3"]}, append={"X-C": ["4"], "X-D": ["5", "6"]}
            ),
        )
    )
    assert deny(401, headers={"Allow": ["a", "b"], "X": "1"}) == AuthorizeResult(
        allow=False, status=401, headers={"X": "1"}, changes=HeaderChanges(set={"Allow": ["a", "b"]})
    )
    assert modify(headers={"X": []}, append={"Set-Cookie": "a"}, remove=["Y"]) == ResponseModResult(
        remove=["Y"], changes=HeaderChanges(set={"X": []}, append={"Set-Cookie": ["a"]})
    )


def test_without_lists_nothing_of_features_is_written() -> None:
    assert allow({"X-A": "1"}) == AuthorizeResult(allow=True, headers={"X-A": "1"})
    assert allow({}, append={}, remove=[]).changes is None
    assert modify(headers={"X-A": "1"}, remove=["X-B"]).changes is None


def test_the_response_of_an_allowance() -> None:
    response = modify(headers={"X-A": "1", "X-B": ["2", "3"]}, remove=["Server"], append={"Set-Cookie": "a"})
    assert allow(response=response).response == HeaderChanges(
        remove=["Server"], set={"X-A": ["1"], "X-B": ["2", "3"]}, append={"Set-Cookie": ["a"]}
    )
    assert allow(response=modify()).response == HeaderChanges()
    with pytest.raises(ValueError, match="can't change the status"):
        allow(response=modify(201))
    with pytest.raises(TypeError, match="what modify"):
        allow(response={"X-A": "1"})  # type: ignore[arg-type] # this is the test


@pytest.mark.parametrize(
    "headers", [{"X": 1}, {"X": [1]}, {"X": {"a": "b"}}, {1: "x"}, {1: ["x"]}, {"X": None}, {"X": {"a"}}]
)
def test_values_are_text_or_lists_of_it(headers: Any) -> None:
    with pytest.raises(TypeError, match="header"):
        allow(headers)
    with pytest.raises(TypeError, match="header"):
        modify(append=headers)


@pytest.mark.parametrize("features", [["trace", "later"], ["headers_multi"], [""]])
def test_a_feature_that_there_is_not(features: Any) -> None:
    with pytest.raises(ValueError, match=r"only headers\.multi, response\.allow, tls\.client, trace"):
        Plugin(features=features)


def test_features_are_a_list() -> None:
    with pytest.raises(TypeError, match="list of names"):
        Plugin(features="trace")  # type: ignore[arg-type] # this is the test
    assert Plugin(features=["trace"]).features == {"trace"}
    assert Plugin().features == frozenset()


# What handlers see.


def plugin_with(*features: Any) -> tuple[Plugin, list[Any]]:
    """A plugin that keeps what it was called with."""
    plugin = Plugin(features=features)
    seen: list[Any] = []

    @plugin.on_request
    def ask(request: Request) -> None:
        seen.append(request)

    @plugin.on_response
    async def answer(response: Response) -> None:
        seen.append(response)

    @plugin.on_disconnect
    def end(event: Disconnect) -> None:
        seen.append(event)

    return plugin, seen


def test_all_values_of_headers() -> None:
    plugin, seen = plugin_with("headers.multi")
    with Harness(plugin) as harness:
        assert harness.features == {"headers.multi"}
        request = make_request(headers={"cookie": ["a", "b, c"], "X-One": "1", "X-None": []})
        harness.request(headers={"cookie": ["a", "b, c"], "X-One": "1", "X-None": []})
        harness.response(headers={"set-cookie": ["x", "y"]}, request=request)
    first, pair = seen
    for headers in (first.headers, pair.request.headers):
        assert headers.get_all("COOKIE") == ["a", "b, c"]
        assert headers["Cookie"] == "a"
        assert (headers.get_all("x-one"), headers.get_all("x-none"), headers.get_all("y")) == (["1"], [], [])
    assert pair.headers.get_all("Set-Cookie") == ["x", "y"]
    assert first.trace is None


def test_without_the_feature_the_first_value_does_not_pass_for_all() -> None:
    plugin, seen = plugin_with("trace")
    with Harness(plugin) as harness:
        harness.request(headers={"cookie": ["a", "b"]})
        harness.response(headers={"set-cookie": ["x", "y"]})
    for call in seen:
        with pytest.raises(TypeError, match=r"Plugin\(features=\['headers.multi'\]\)"):
            call.headers.get_all("cookie")
    assert seen[0].headers["Cookie"] == "a"


def test_the_certificate() -> None:
    shown = ClientCertificate(subject="CN=alice", fingerprint="ab" * 32)
    for features, expected in ((("tls.client",), shown), ((), None)):
        plugin, seen = plugin_with(*features)
        with Harness(plugin) as harness:
            harness.request(certificate=shown)
            harness.request()
        assert [request.client_certificate for request in seen] == [expected, None]


def test_the_trace() -> None:
    plugin, seen = plugin_with("trace")
    with Harness(plugin) as harness:
        harness.request(tracestate="a=1")
        harness.response()
        harness.disconnect(trace=TRACE)
    request, pair, end = seen
    trace = request.trace
    assert (trace.id, trace.parent_id) == ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
    assert (trace.parent, trace.state, trace.sampled) == (TRACE, "a=1", True)
    assert repr(trace) == f"<Trace {TRACE}>"
    assert pair.request.trace.id == end.trace.id == trace.id
    assert not Trace(TraceContext(traceparent=f"{TRACE[:-2]}00")).sampled


def test_who_names_none_is_shown_none() -> None:
    plugin, seen = plugin_with()
    with Harness(plugin) as harness:
        assert harness.features == frozenset()
        harness.request(headers={"cookie": ["a", "b"]})
        harness.disconnect(trace=TRACE)
    assert seen[0].trace is None
    assert seen[1].trace is None


# Answers that need a feature.


@pytest.mark.parametrize(
    ("feature", "answer"),
    [
        ("headers.multi", allow({"X": ["1", "2"]})),
        ("headers.multi", allow(remove=["X"])),
        ("headers.multi", deny(headers={"X": ["1", "2"]})),
        ("response.allow", allow(response=modify(headers={"X": "1"}))),
    ],
)
def test_an_answer_that_needs_a_feature(feature: Any, answer: AuthorizeResult) -> None:
    for features in (ALL, (feature,)):
        plugin = Plugin(features=features)
        plugin.on_request(lambda _: answer)
        with Harness(plugin) as harness:
            assert harness.request() == answer
    plugin = Plugin(features=[name for name in ALL if name != feature])
    plugin.on_request(lambda _: answer)
    with Harness(plugin) as harness, pytest.raises(HookError, match=rf"features=\['{feature}'\]"):
        harness.request()


def test_changes_of_an_answer_that_need_the_feature() -> None:
    for features, fails in ((["headers.multi"], False), ([], True)):
        plugin = Plugin(features=features)  # type: ignore[arg-type] # names of features
        plugin.on_response(lambda _: modify(append={"Set-Cookie": "a"}))
        with Harness(plugin) as harness:
            if fails:
                with pytest.raises(HookError, match=r"features=\['headers.multi'\]"):
                    harness.response()
            else:
                assert harness.response().changes == HeaderChanges(append={"Set-Cookie": ["a"]})
