"""The compiled table against the rules of routes, sentence by sentence, and against a naive matcher."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prox import routing
from prox.config.invalid import InvalidError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prox.routing import Match


@dataclass(frozen=True)
class Rule:
    domain: str | None = None
    path: str | None = None
    methods: Sequence[str] | None = None
    forward_proxy: bool | None = None


def match(
    rule: Rule | None, host: str = "", path: str = "/", method: str = "GET", *, absolute: bool = False
) -> Match[str] | None:
    return routing.compile([(rule, "it")]).match(host, path, method, absolute)


def first(
    rules: Sequence[Rule | None], host: str, path: str = "/", method: str = "GET", absolute: bool = False
) -> int:
    found = routing.compile([(rule, str(index)) for index, rule in enumerate(rules)]).match(
        host, path, method, absolute
    )
    if found is None:
        return -1
    assert found.value == str(found.index)
    return found.index


class TestDomain:
    @pytest.mark.parametrize(
        ("pattern", "host", "domain", "glob"),
        [
            ("api.example.com", "api.example.com", "", ""),
            ("API.Example.COM", "api.example.com", "", ""),
            ("*.example.com", "api.example.com", "api", ""),
            ("*.Example.com", "api.example.com", "api", ""),
            ("*.*.example.com", "a.b.example.com", "a.b", ""),
            ("api.*.com", "api.example.com", "example", ""),
            ("pre-*.example.com", "pre-x.example.com", "x", ""),
            ("pre-*.example.com", "pre-.example.com", "", ""),
            ("*-suf.example.com", "x-y-suf.example.com", "x-y", ""),
            ("*-suf.example.com", "-suf.example.com", "", ""),
            ("a-*-b.example.com", "a-x-b.example.com", "x", ""),
            ("a-*-b.example.com", "a--b.example.com", "", ""),
            ("v*.*-eu.example.com", "v2.shop-eu.example.com", "2.shop", ""),
            ("v*.*-eu.example.com", "v.-eu.example.com", ".", ""),
            ("example.**", "example.com", "", "com"),
            ("example.**", "example.co.uk", "", "co.uk"),
            ("*.example.**", "shop.example.co.uk", "shop", "co.uk"),
            ("a.example.com", "a.example.com.", "", ""),
            ("*.example.com", "a.example.com.", "a", ""),
            ("example.**", "example.com.", "", "com"),
            ("10.0.0.1", "10.0.0.1", "", ""),
            ("10.0.*.*", "10.0.2.3", "2.3", ""),
            ("10.**", "10.1.2.3", "", "1.2.3"),
        ],
    )
    def test_takes_and_captures(self, pattern: str, host: str, domain: str, glob: str) -> None:
        found = match(Rule(domain=pattern), host)
        assert found is not None
        assert (found.match_domain, found.match_glob) == (domain, glob)
        assert found.domain_pattern == pattern
        assert (found.match_path, found.prefix) == ("", "")

    @pytest.mark.parametrize(
        ("pattern", "host"),
        [
            ("api.example.com", "example.com"),
            ("api.example.com", "x.api.example.com"),
            ("*.example.com", "example.com"),
            ("*.example.com", "a.b.example.com"),
            ("*.example.com", ".example.com"),
            ("*.example.com", ""),
            ("pre-*.example.com", "pre.example.com"),
            ("pre-*.example.com", "pre-x.y.example.com"),
            ("a-*-b.example.com", "a-b.example.com"),
            ("aa*aa.example.com", "aaa.example.com"),
            ("example.**", "example"),
            ("example.**", "example."),
            ("example.**", "example..com"),
            ("example.**", "my.example.com"),
            ("*.**", "a..b"),
            ("a.example.com", "a.example.com.."),
            ("*.2.3.*", "[::ffff:1.2.3.4]"),
            ("*.2.3.*", "::ffff:1.2.3.4"),
        ],
    )
    def test_leaves_alone(self, pattern: str, host: str) -> None:
        assert match(Rule(domain=pattern), host) is None

    @pytest.mark.parametrize(
        ("pattern", "host", "key"),
        [
            ("*.*.example.com", "a.b.example.com", "a"),
            ("*.example.**", "a.example.co.uk", "a"),
            ("example.**", "example.co.uk", "co.uk"),
            ("pre-*.*.com", "pre-.x.com", ""),
            ("a.example.com", "a.example.com", ""),
        ],
    )
    def test_first_capture_is_the_key(self, pattern: str, host: str, key: str) -> None:
        found = match(Rule(domain=pattern), host)
        assert found is not None
        assert found.key == key

    def test_a_request_without_a_host_takes_only_routes_for_all_hosts(self) -> None:
        assert first([Rule(domain="*.**"), Rule(path="/*")], "") == 1

    @pytest.mark.parametrize(
        "pattern",
        ["**.com", "a.**.com", "a..com", ".com", "a*b*c.com", "x**.com", "***", ".", "a.com:80", "*.com:1"],
    )
    def test_malformed(self, pattern: str) -> None:
        with pytest.raises(InvalidError):
            routing.compile([(Rule(domain=pattern), 0)])


class TestPath:
    @pytest.mark.parametrize(
        ("pattern", "path", "reported", "prefix"),
        [
            ("/a", "/a", "/a", ""),
            ("/", "/", "/", ""),
            ("/api/*", "/api/", "/api/*", "/api"),
            ("/api/*", "/api/x/y", "/api/*", "/api"),
            ("/api/v1/*", "/api/v1/x", "/api/v1/*", "/api/v1"),
            ("/*", "/", "/*", ""),
            ("/*", "/anything/at all", "/*", ""),
            ("/a, /b/*", "/b/c", "/b/*", "/b"),
            ("/a,/b", "/b", "/b", ""),
            ("/b,/b", "/b", "/b", ""),
            ("/a/*,/a/b", "/a/b", "/a/*", "/a"),
            ("/a/b,/a/*", "/a/b", "/a/b", ""),
            ("/*,/a/*", "/a/b", "/*", ""),
            ("/a//*", "/a//b", "/a//*", "/a/"),
        ],
    )
    def test_takes(self, pattern: str, path: str, reported: str, prefix: str) -> None:
        found = match(Rule(path=pattern), "h.test", path)
        assert found is not None
        assert (found.match_path, found.prefix) == (reported, prefix)

    @pytest.mark.parametrize(
        ("pattern", "path"),
        [
            ("/a", "/a/"),
            ("/a/", "/a"),
            ("/a", "/A"),
            ("/api/*", "/api"),
            ("/api/*", "/apix/y"),
            ("/api/*", "/x/api/"),
            ("/api/v1/*", "/api/v1"),
            ("/*", ""),
            ("/*", "*"),
        ],
    )
    def test_leaves_alone(self, pattern: str, path: str) -> None:
        assert match(Rule(path=pattern), "h.test", path) is None

    @pytest.mark.parametrize("pattern", ["a", "*", "/a*", "/*/b", "/a/**", "/a,", ",/a", "/a,b", " "])
    def test_malformed(self, pattern: str) -> None:
        with pytest.raises(InvalidError):
            routing.compile([(Rule(path=pattern), 0)])


class TestMethods:
    def test_any_of_them_in_any_case(self) -> None:
        rule = Rule(methods=["get", "Post"])
        assert match(rule, method="GET") is not None
        assert match(rule, method="POST") is not None
        assert match(rule, method="PUT") is None

    def test_the_request_s_case_counts(self) -> None:
        assert match(Rule(methods=["get"]), method="get") is None

    def test_alone_they_match_all_hosts_and_paths(self) -> None:
        assert match(Rule(methods=["CONNECT"]), "h.test", "", "CONNECT") is not None

    def test_same_place_by_method(self) -> None:
        rules = [Rule(path="/a", methods=["GET"]), Rule(path="/a", methods=["GET", "POST"]), Rule(path="/a")]
        assert [first(rules, "", "/a", method) for method in ("GET", "POST", "PUT")] == [0, 1, 2]


class TestForwardProxy:
    def test_true_takes_only_absolute_urls(self) -> None:
        rule = Rule(forward_proxy=True)
        assert match(rule, "h.test", absolute=True) is not None
        assert match(rule, "h.test") is None

    def test_a_domain_holds_on_forward_proxy_routes(self) -> None:
        rule = Rule(forward_proxy=True, domain="*.test")
        assert match(rule, "h.test", absolute=True) is not None
        assert match(rule, "h.example", absolute=True) is None
        assert match(rule, "h.test") is None

    @pytest.mark.parametrize("forward_proxy", [None, False])
    def test_without_it_the_domain_must_name_the_host(self, forward_proxy: bool | None) -> None:
        rule = Rule(domain="h.test", forward_proxy=forward_proxy)
        assert match(rule, "h.test", absolute=True) is not None
        assert match(rule, "other.test", absolute=True) is None

    @pytest.mark.parametrize(
        "rule", [None, Rule(path="/*"), Rule(methods=["GET"]), Rule(path="/", forward_proxy=False)]
    )
    def test_a_route_for_all_hosts_never_takes_it(self, rule: Rule | None) -> None:
        assert match(rule, "h.test", absolute=True) is None
        assert match(rule, "h.test") is not None

    def test_equal_domains_with_and_without(self) -> None:
        rules = [
            Rule(domain="H.test", path="/a"),
            Rule(domain="h.test", forward_proxy=True),
            Rule(domain="h.TEST"),
            Rule(domain="*.test", forward_proxy=True),
            Rule(domain="*.test"),
        ]
        assert first(rules, "h.test", "/a", absolute=True) == 0
        assert first(rules, "h.test", "/b", absolute=True) == 1
        assert first(rules, "h.test", "/b") == 2
        assert first(rules, "x.test", absolute=True) == 3
        assert first(rules, "x.test") == 4


class TestConnect:
    @pytest.mark.parametrize(
        ("rule", "taken"),
        [
            (None, False),
            (Rule(domain="h.test"), False),
            (Rule(methods=["GET"], forward_proxy=True), False),
            (Rule(path="/*", forward_proxy=True), False),
            (Rule(path="/*", methods=["CONNECT"]), False),
            (Rule(domain="*.example", forward_proxy=True), False),
            (Rule(forward_proxy=True), True),
            (Rule(domain="*.test", forward_proxy=True), True),
            (Rule(methods=["get", "connect"]), True),
            (Rule(methods=["connect"], domain="h.test", forward_proxy=True), True),
        ],
    )
    def test_only_routes_that_say_so_take_it(self, rule: Rule | None, taken: bool) -> None:
        assert (routing.compile([(rule, 0)]).match_connect("h.test") is not None) is taken

    def test_the_first_of_them_with_its_place_and_captures(self) -> None:
        rules = [
            None,
            Rule(domain="*.test", forward_proxy=True),
            Rule(domain="h.test", methods=["CONNECT"]),
            Rule(domain="h.example", methods=["CONNECT"]),
        ]
        table = routing.compile([(rule, number) for number, rule in enumerate(rules)])
        found = table.match_connect("h.test")
        assert found is not None
        assert (found.index, found.value, found.match_domain, found.key) == (1, 1, "h", "h")
        other = table.match_connect("h.example")
        assert other is not None
        assert other.index == 3
        assert table.match_connect("other.example.org") is None


class TestOrder:
    def test_no_routes(self) -> None:
        assert first([], "h.test") == -1

    def test_no_match_takes_everything_but_absolute_urls(self) -> None:
        assert first([None], "") == 0
        assert first([None], "h.test", "", "CONNECT") == 0
        assert first([None], "h.test", "*", "OPTIONS") == 0
        assert first([None], "h.test", absolute=True) == -1

    def test_first_wins_however_specific_a_later_one_is(self) -> None:
        rules = [Rule(path="/a/*"), Rule(domain="*.test"), Rule(domain="h.test", path="/a/b"), None]
        assert first(rules, "h.test", "/a/b") == 0
        assert first(rules, "h.test", "/c") == 1
        assert first(rules[::-1], "h.test", "/a/b") == 0
        assert first([rules[2], rules[1], rules[0]], "h.test", "/a/b") == 0

    def test_many_slashes_cost_no_more_than_the_deepest_prefix(self) -> None:
        table = routing.compile([(Rule(path="/a/b/*"), "it")])
        assert table.match("h.test", "/a/b" + "/" * 16000, "GET") is not None
        assert table.match("h.test", "/" * 16000, "GET") is None

    def test_a_plain_match_is_not_made_anew(self) -> None:
        table = routing.compile([(Rule(domain="h.test", path="/a/*"), "it")])
        assert table.match("h.test", "/a/1", "GET") is table.match("h.test", "/a/2", "GET")

    def test_a_match_shows_itself(self) -> None:
        found = match(Rule(domain="*.test", path="/a/*"), "h.test", "/a/b")
        assert "key='h'" in repr(found)
        assert "match_path='/a/*'" in repr(found)


# -- against a naive matcher, written from the rules and nothing else --


def domain_matches(pattern: str, host: str) -> tuple[list[str], str] | None:
    """What the stars and the glob stand for, or None."""
    expression = ""
    for label in pattern.lower().split("."):
        if expression:
            expression += r"\."
        if label == "**":
            expression += r"(?P<glob>[^.]+(?:\.[^.]+)*)"
        elif label == "*":
            expression += r"([^.]+)"
        else:
            expression += r"(?=[^.])" + re.escape(label).replace(r"\*", r"([^.]*)")
    found = re.fullmatch(expression, host.removesuffix("."))
    if found is None:
        return None
    glob = found["glob"] if "**" in pattern else ""
    groups = list(found.groups())
    return (groups[:-1] if "**" in pattern else groups), glob


def path_matches(patterns: str, path: str) -> str | None:
    for pattern in patterns.split(","):
        if path == pattern or (pattern.endswith("/*") and path.startswith(pattern[:-1])):
            return pattern
    return None


def naive(
    rules: list[Rule | None], host: str, path: str, method: str, absolute: bool
) -> tuple[int, str, str, str, str] | None:
    for index, rule in enumerate(rules):
        asked = rule or Rule()
        if asked.forward_proxy and not absolute:
            continue
        if absolute and not asked.forward_proxy and not asked.domain:
            continue
        captures: tuple[list[str], str] | None = ([], "")
        if asked.domain:
            captures = domain_matches(asked.domain, host)
        pattern: str | None = ""
        if asked.path:
            pattern = path_matches(asked.path, path)
        if captures is None or pattern is None:
            continue
        if asked.methods and method not in [name.upper() for name in asked.methods]:
            continue
        stars, glob = captures
        return index, ".".join(stars), glob, pattern, (stars or [glob])[0]
    return None


# Few and short words, so that generated requests meet generated routes.
words = st.sampled_from(["a", "b", "ab", "a-b", "aa", "com"])
labels = st.one_of(
    words,
    words.map(str.upper),
    st.just("*"),
    st.builds("{}*{}".format, st.sampled_from(["", "a", "a-"]), words),
)
domains = st.builds(
    lambda parts, last: ".".join(parts) + last,
    st.lists(labels, min_size=1, max_size=3),
    st.sampled_from([".com", ".COM", ".**"]),
)
hosts = st.builds(
    lambda parts, dot: ".".join(parts) + dot,
    st.lists(st.one_of(words, st.sampled_from(["", "a-", "aab"])), max_size=4),
    st.sampled_from(["", "", "."]),
)
segments = st.lists(st.sampled_from(["", "a", "b", "ab"]), max_size=4)
paths = segments.map(lambda parts: "/" + "/".join(parts))
path_patterns = st.lists(
    st.builds(
        lambda parts, end: "/" + "".join(f"{part}/" for part in parts) + end,
        segments,
        st.sampled_from(["*", "a", ""]),
    ),
    min_size=1,
    max_size=3,
).map(",".join)
methods = st.sampled_from(["GET", "POST", "PUT"])
rules_strategy = st.lists(
    st.none()
    | st.builds(
        Rule,
        st.none() | domains,
        st.none() | path_patterns,
        st.none() | st.lists(methods | methods.map(str.lower), max_size=2),
        st.sampled_from([None, None, False, True]),
    ),
    max_size=8,
)


def filled(pattern: str, word: str) -> str:
    """A host or a path that `pattern` matches, `word` standing for what is wild."""
    return pattern.lower().replace("**", word).replace("*", word)


@given(rules_strategy, hosts, paths | st.sampled_from(["", "*"]), methods, st.booleans(), words, st.data())
def test_agrees_with_the_naive_matcher(
    rules: list[Rule | None],
    host: str,
    path: str,
    method: str,
    absolute: bool,
    word: str,
    data: st.DataObject,
) -> None:
    aimed = data.draw(st.sampled_from(rules)) if rules else None
    if aimed is not None and aimed.domain:
        host = filled(aimed.domain, word)
    if aimed is not None and aimed.path:
        path = filled(aimed.path.split(",")[-1], word)
    found = routing.compile([(rule, index) for index, rule in enumerate(rules)]).match(
        host, path, method, absolute
    )
    got = found and (found.index, found.match_domain, found.match_glob, found.match_path, found.key)
    assert got == naive(rules, host, path, method, absolute)


@given(domains, hosts)
def test_one_domain_agrees_with_its_expression(pattern: str, host: str) -> None:
    found = match(Rule(domain=pattern), host)
    expected = domain_matches(pattern, host)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert (found.match_domain.split(".") if expected[0] else [], found.match_glob) == (
            ".".join(expected[0]).split(".") if expected[0] else [],
            expected[1],
        )


@given(domains, words)
def test_a_host_made_from_its_pattern_is_taken(pattern: str, word: str) -> None:
    assert match(Rule(domain=pattern), filled(pattern, word)) is not None
