"""How several plugins' answers become one, and which headers are taken."""

from __future__ import annotations

import pytest

from prox.plugin.complaints import Complaints
from prox.plugin.merge import RequestMerge, ResponseMerge
from prox.wire import AuthorizeResult, ResponseModResult, Speed

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
