"""How several plugins' answers become one, and which headers are taken."""

from __future__ import annotations

import pytest

from prox.plugin.complaints import Complaints
from prox.plugin.merge import RequestMerge, ResponseMerge, stands_alone
from prox.wire import AuthorizeResult, HeaderChanges, ResponseModResult, Speed

COMPLAINTS = Complaints("p")
NONE: frozenset[str] = frozenset()


def merged(*results: AuthorizeResult, foreign: frozenset[str] = NONE) -> AuthorizeResult:
    merge = RequestMerge()
    for result in results:
        merge.add(result, foreign, Complaints("p"))
    return merge.result()


def allow(**fields: object) -> AuthorizeResult:
    return AuthorizeResult(allow=True, **fields)  # type: ignore[arg-type] # typed by the cases


def changed(*results: ResponseModResult) -> ResponseModResult:
    merge = ResponseMerge()
    for result in results:
        merge.add(result, Complaints("p"))
    return merge.result()


def test_allowing_ones_merge() -> None:
    result = merged(
        allow(headers={"X-A": "1", "X-B": "1"}, path="/one", speed=Speed(download_mbps=8, group_key="g")),
        allow(strip_query=True),
        allow(
            headers={"x-b": "2", "X_A": "3"},
            path="/two",
            speed=Speed(download_mbps=5, upload_mbps=2, group_key="h"),
        ),
        allow(speed=Speed()),
    )
    assert result == allow(
        headers={"x-b": "2", "X_A": "3"},
        path="/two",
        strip_query=True,
        speed=Speed(download_mbps=5, upload_mbps=2, group_key="g"),
    )


def test_nothing_but_allowances_is_an_allowance() -> None:
    assert merged() == merged(allow(), allow()) == AuthorizeResult(allow=True)


def test_a_denial_has_only_its_own_headers() -> None:
    deny = AuthorizeResult(
        allow=False, body="no", headers={"WWW-Authenticate": "Bearer", "Content-Length": "1"}
    )
    result = merged(allow(headers={"X-A": "1"}), deny)
    assert result == AuthorizeResult(
        allow=False, status=403, body="no", headers={"WWW-Authenticate": "Bearer"}
    )


def test_a_denial_may_ask_for_proxy_authentication() -> None:
    deny = AuthorizeResult(allow=False, status=407, headers={"Proxy-Authenticate": "Basic"})
    assert merged(deny).headers == {"Proxy-Authenticate": "Basic"}


@pytest.mark.parametrize("ok", [True, False])
def test_drop_wins_over_what_else_it_says(ok: bool) -> None:
    assert merged(AuthorizeResult(allow=ok, drop=True, status=401)) == AuthorizeResult(allow=False, drop=True)


def test_a_fallback_does_not_end_it() -> None:
    fallback = AuthorizeResult(allow=False, fallback=True, headers={"X-A": "1"})
    assert merged(fallback, allow(path="/p")) == AuthorizeResult(
        allow=False, fallback=True, headers={"X-A": "1"}, path="/p"
    )
    assert merged(fallback, AuthorizeResult(allow=False, status=401)).status == 401
    assert not merged(fallback, AuthorizeResult(allow=False, status=401)).fallback


def test_a_path_is_absolute() -> None:
    assert merged(allow(path="new")).path == "/new"


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "1"},
        {"transfer_encoding": "chunked"},
        {"CONNECTION": "close"},
        {"Keep-Alive": "1"},
        {"TE": "trailers"},
        {"Trailer": "x"},
        {"Upgrade": "h2c"},
        {"Proxy-Connection": "close"},
        {"Proxy-Authorization": "x"},
        {"X-A": "1\r\nX-B: 2"},
        {"X-A": "1\n"},
        {"X-A": "\0"},
        {"X A": "1"},
        {"X-A:": "1"},
        {"": "1"},
        {"X-Ä": "1"},
        {"X-A\r\n": "1"},
        {"X-User": "root"},
        {"x_user": "root"},
    ],
)
def test_what_is_no_plugins_business_is_left_out_with_a_warning(
    headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    assert merged(allow(headers=headers | {"X-Ok": "ü\tx"}), foreign=frozenset({"x-user"})).headers == {
        "X-Ok": "ü\tx"
    }
    assert "left out" in caplog.text


def test_responses_merge_removals_first() -> None:
    result = changed(
        ResponseModResult(status=201, headers={"X-A": "1"}, remove=["Server", "Content-Length"]),
        ResponseModResult(headers={"x-a": "2", "Transfer-Encoding": "x"}, remove=["server", "X-B"]),
        ResponseModResult(status=0),
    )
    assert result == ResponseModResult(status=201, headers={"x-a": "2"}, remove=["Server", "X-B"])
    assert changed() == changed(ResponseModResult()) == ResponseModResult()


# Changes of headers with several values.


def test_removals_then_sets_then_appends() -> None:
    first = HeaderChanges(remove=["X-A"], set={"X-B": ["1", "2"], "X-C": ["3"]}, append={"X-D": ["4"]})
    second = HeaderChanges(
        remove=["x_a", "X-B"], set={"x-c": [], "X-E": ["5"]}, append={"x_d": ["6"], "X-B": ["7"]}
    )
    result = merged(allow(headers={"X-E": "0", "X-F": "f"}, changes=first), allow(changes=second))
    assert result.headers == {"X-E": "5", "X-F": "f"}
    assert result.changes == HeaderChanges(
        remove=["X-A", "X-B"], set={"X-B": ["1", "2"], "x-c": []}, append={"X-D": ["4", "6"], "X-B": ["7"]}
    )


def test_a_later_plain_header_goes_over_an_earlier_list() -> None:
    result = merged(allow(changes=HeaderChanges(set={"X-A": ["1", "2"]})), allow(headers={"x_a": "3"}))
    assert (result.headers, result.changes) == ({"x_a": "3"}, None)


@pytest.mark.parametrize("value", ["1\n", "\0", "a\r\nb"])
def test_a_value_that_is_refused_leaves_its_header_without_any(value: str) -> None:
    gone = HeaderChanges(set={"X-A": []})
    assert merged(allow(headers={"X-A": value})).changes == gone
    assert merged(allow(headers={"x-a": "1"}), allow(headers={"X-A": value})).changes == gone
    assert merged(allow(headers={"X-A": value}), allow(headers={"X-A": "1"})) == allow(headers={"X-A": "1"})
    assert merged(allow(changes=HeaderChanges(set={"X-A": ["1", value]}))).changes == gone
    assert merged(allow(changes=HeaderChanges(append={"X-A": ["1", value]}))).changes is None
    assert changed(ResponseModResult(headers={"X-A": value})).changes == gone
    assert merged(allow(response=HeaderChanges(set={"X-A": [value]}))).response == gone


def test_what_is_refused_for_being_anothers_changes_nothing() -> None:
    foreign = frozenset({"x-user"})
    forged = HeaderChanges(remove=["X-User"], set={"x_user": ["1"]}, append={"X-User": ["2"]})
    for result in (allow(changes=forged), allow(headers={"X-User": "a\n"})):
        assert merged(result, foreign=foreign) == allow()


def test_responses_of_allowances_merge_and_those_of_others_are_gone() -> None:
    one = HeaderChanges(remove=["Server"], set={"X-A": ["1"]}, append={"Set-Cookie": ["a"]})
    two = HeaderChanges(set={"x-a": ["2"]}, append={"set-cookie": ["b"], "Content-Length": ["1"]})
    result = merged(allow(response=one), allow(response=two))
    assert result.response == HeaderChanges(
        remove=["Server"], set={"x-a": ["2"]}, append={"Set-Cookie": ["a", "b"]}
    )
    assert merged(allow(response=one), AuthorizeResult(allow=False, response=two)).response is None
    fallback = AuthorizeResult(allow=False, fallback=True, response=one)
    assert merged(fallback).response == one


def test_a_denial_with_lists() -> None:
    deny = AuthorizeResult(allow=False, changes=HeaderChanges(set={"Allow": ["a", "b"], "TE": ["x"]}))
    assert merged(deny).changes == HeaderChanges(set={"Allow": ["a", "b"]})


def test_only_what_is_plain_stands_alone() -> None:
    assert stands_alone(allow(headers={"X-A": "1"}), NONE)
    assert not stands_alone(allow(changes=HeaderChanges()), NONE)
    assert not stands_alone(allow(response=HeaderChanges()), NONE)
