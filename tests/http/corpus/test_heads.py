"""Request lines, hosts, targets, fields: what a head may hold, and what of it the upstream gets."""

from __future__ import annotations

import pytest

from support.client import get
from support.corpus import Corpus, Forwarded, Refused


def line(first: str, *headers: str, host: str | None = "Host: a") -> bytes:
    lines = [first, *([] if host is None else [host]), *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def refused(name: str, first: str, status: int, rfc: str) -> Refused:
    return Refused(name, line(first), status, rfc)


def upgrade(
    name: str,
    asked: str,
    forwarded: bytes = b"",
    *,
    connection: str = "Upgrade",
    version: str = "1.1",
    settings: str = "X-A: b",
    body: str = "",
) -> Forwarded:
    """What goes on of an Upgrade; the upstream declines it."""
    has = (b"Upgrade: " + forwarded, b"Connection: Upgrade") if forwarded else ()
    lacks = () if forwarded else ("connection", "upgrade")
    extra = [settings, f"Content-Length: {len(body)}"] if body else [settings]
    data = line(f"GET / HTTP/{version}", f"Connection: {connection}", f"Upgrade: {asked}", *extra)
    return Forwarded(name, data + body.encode(), GET, "9110 7.8", has, lacks, body.encode())


REQUEST_LINES = [
    refused("two spaces behind the method", "GET  / HTTP/1.1", 400, "9112 3"),
    refused("two spaces behind the target", "GET /  HTTP/1.1", 400, "9112 3"),
    refused("a space behind the version", "GET / HTTP/1.1 ", 400, "9112 3"),
    refused("a space before the method", " GET / HTTP/1.1", 400, "9112 3"),
    refused("a tab before the method", "\tGET / HTTP/1.1", 400, "9112 3"),
    refused("a tab behind the method", "GET\t/ HTTP/1.1", 400, "9112 3"),
    refused("a tab behind the target", "GET /\tHTTP/1.1", 400, "9112 3"),
    refused("a space in the target", "GET /a b HTTP/1.1", 400, "9112 3.2"),
    refused("no target", "GET HTTP/1.1", 400, "9112 3"),
    refused("no version", "GET /", 400, "9112 3"),
    refused("nothing", "x", 400, "9112 3"),
    refused("an answer", "HTTP/1.1 200 OK", 400, "9112 3"),
    refused("a method that is no token", "G(T / HTTP/1.1", 400, "9110 9.1"),
    refused("a method with a NUL", "G\x00T / HTTP/1.1", 400, "9110 9.1"),
    refused("a method with a colon", "GET: / HTTP/1.1", 400, "9110 9.1"),
    refused("lower case", "get / HTTP/1.1", 501, "9110 9.1"),
    refused("an unknown method", "BREW / HTTP/1.1", 501, "9110 15.6.2"),
    refused("a method that begins like another", "GETX / HTTP/1.1", 501, "9110 15.6.2"),
    *(
        refused(f"version {version}", f"GET / {version}", 505, "9112 2.3")
        for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/1.9", "HTTP/9.1", "HTTP/3.0"]
    ),
    *(
        refused(f"version {version!r}", f"GET / {version}", 400, "9112 2.3")
        for version in [
            "HTTP/1",
            "HTTP/11",
            "HTTP/1.10",
            "HTTP/01.1",
            "HTTP/1.01",
            "HTTP/1.",
            "HTTP/.1",
            "HTTP 1.1",
            "http/1.1",
            "Http/1.1",
            "HTTPS/1.1",
            "HTP/1.1",
            "HTTP/-1.1",
            "HTTP/1.1\x00",
            "HTTP/\xb9.1",
            "HTTP/1,1",
        ]
    ),
    refused("the preface of HTTP/2", "PRI * HTTP/2.0", 505, "9113 3.4"),
    Refused("TLS", b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03" + bytes(40), 400, "9112 3"),
]

TARGETS = [
    *(
        refused(f"target {target!r}", f"GET {target} HTTP/1.1", 400, rfc)
        for target, rfc in [
            ("/#a", "9112 3.2"),
            ("/a#", "9112 3.2"),
            ("#", "9112 3.2"),
            ("/a\x00b", "9112 3.2"),
            ("/a\x1fb", "9112 3.2"),
            ("/a\x7fb", "9112 3.2"),
            ("/\xe9", "3986 2"),
            ("a", "9112 3.2"),
            ("a/b", "9112 3.2"),
            ("?a", "9112 3.2"),
            ("*", "9112 3.2.4"),
            ("/a\rb", "9112 2.2"),
            ("\\a", "9112 3.2"),
            ("http:/a/", "9112 3.2.2"),
            ("http:///", "9110 4.2.1"),
            ("http://", "9110 4.2.1"),
            ("http://?a", "9110 4.2.1"),
            ("http://:80/", "9110 4.2.1"),
            ("http://a@a/", "9110 4.2.4"),
            ("http://a:x/", "9110 4.2.1"),
            ("ftp://a/", "9112 3.2.2"),
            ("file:///etc/passwd", "9112 3.2.2"),
            ("http://a\\b/", "9112 3.2.2"),
            ("http://a#b/", "9112 3.2.2"),
            ("mailto:a", "9112 3.2.2"),
            ("http://b/", "9112 3.2.2"),
            ("http://a:81/", "9112 3.2.2"),
            ("http://a.b/", "9112 3.2.2"),
            ("a:80", "9112 3.2.3"),
        ]
    ),
    *(
        Refused(
            f"CONNECT {target!r}",
            line(f"CONNECT {target} HTTP/1.1", host=f"Host: {target}"),
            400,
            "9110 9.3.6",
        )
        for target in [
            "a",
            "a:",
            ":80",
            "a:0",
            "a:65536",
            "a:x",
            "a:-1",
            "a:+1",
            "a:80:80",
            "a:80/",
            "/",
            "http://a:80",
            "a:80?b",
            "a b:80",
            "*",
            "[::1",
            "::1:80",
        ]
    ),
    refused("CONNECT with another Host", "CONNECT b:80 HTTP/1.1", 400, "9112 3.2"),
]

HOSTS = [
    Refused("no Host", line("GET / HTTP/1.1", host=None), 400, "9112 3.2"),
    Refused("two", line("GET / HTTP/1.1", "Host: b"), 400, "9112 3.2"),
    Refused("the same twice", line("GET / HTTP/1.1", "Host: a"), 400, "9112 3.2"),
    Refused("two in different cases", line("GET / HTTP/1.1", "hOST: b"), 400, "9112 3.2"),
    Refused("one beside Host spelled with a space", line("GET / HTTP/1.1", "Host : b"), 400, "9112 5.1"),
    Refused("two on HTTP/1.0", line("GET / HTTP/1.0", "Host: b"), 400, "9112 3.2"),
    Refused("folded", line("GET / HTTP/1.1", " b"), 400, "9112 5.2"),
    *(
        Refused(f"Host {host!r}", line("GET / HTTP/1.1", host=f"Host: {host}"), 400, "9112 3.2")
        for host in [
            "a b",
            "a,b",
            "a, a",
            "a/b",
            "a@b",
            "a?b",
            "a#b",
            "a\\b",
            "a:b",
            "a:1:2",
            "a:123456",
            "a:-1",
            "a:1 2",
            "[::1",
            "::1",
            "[::1]a",
            "[]",
            "[g::]",
            "a%2eb",
            "\xe9",
            'a"b',
            "<a>",
            "a|b",
            "a^b",
            "a`b",
            "{a}",
            "a\x00",
            "a\x7f",
            "http://a",
            "a\tb",
        ]
    ),
]

FIELDS = [
    *(
        Refused(f"line {text!r}", line("GET / HTTP/1.1", text), 400, rfc)
        for text, rfc in [
            ("X : a", "9112 5.1"),
            ("X\t: a", "9112 5.1"),
            ("X \t: a", "9112 5.1"),
            (": a", "9110 5.1"),
            (":", "9110 5.1"),
            ("X", "9112 5"),
            ("X a", "9112 5"),
            ("X y: a", "9110 5.1"),
            ("X(: a", "9110 5.1"),
            ("X\x00: a", "9110 5.1"),
            ("X\x7f: a", "9110 5.1"),
            ("\xe9: a", "9110 5.1"),
            ('"X": a', "9110 5.1"),
            ("X/y: a", "9110 5.1"),
            ("X@y: a", "9110 5.1"),
            ("[X]: a", "9110 5.1"),
            ("{X}: a", "9110 5.1"),
            ("X,y: a", "9110 5.1"),
            ("X;y: a", "9110 5.1"),
            ("X=y: a", "9110 5.1"),
            ("X\\: a", "9110 5.1"),
            ("\rX: a", "9112 2.2"),
            ("X: a\r", "9112 2.2"),
            ("X: \ra", "9112 2.2"),
            *((f"X: a{chr(code)}b", "9110 5.5") for code in [*range(9), *range(10, 32), 127]),
            *((f"X: {chr(code)}", "9110 5.5") for code in (0, 11, 12, 27, 127)),
        ]
    ),
    *(
        Refused(f"a line folded by {blank!r}", line("GET / HTTP/1.1", "X: a", f"{blank}b"), 400, "9112 5.2")
        for blank in [" ", "\t", "  ", " \t", " X: "]
    ),
    Refused("a folded line that is empty", line("GET / HTTP/1.1", "X: a", " ", "Y: b"), 400, "9112 5.2"),
    Refused("a blank line first", line("GET / HTTP/1.1", host=" Host: a"), 400, "9112 2.2"),
    Refused("LF alone as line ends", line("GET / HTTP/1.1").replace(b"\r\n", b"\n"), 400, "9112 2.2"),
    Refused("LF behind the request line", line("GET / HTTP/1.1").replace(b"\r\n", b"\n", 1), 400, "9112 2.2"),
    Refused("LF at the end", line("GET / HTTP/1.1", "X: a")[:-2] + b"\n", 400, "9112 2.2"),
    Refused("LF LF at the end", line("GET / HTTP/1.1", "X: a")[:-4] + b"\n\n", 400, "9112 2.2"),
    Refused(
        "CR alone as line ends", line("GET / HTTP/1.1").replace(b"\r\n", b"\r") + b"\r\n\r\n", 400, "9112 2.2"
    ),
    Refused("CR CR LF", line("GET / HTTP/1.1", "X: a").replace(b"X: a\r\n", b"X: a\r\r\n"), 400, "9112 2.2"),
    Refused("an unknown expectation", line("GET / HTTP/1.1", "Expect: 200-ok"), 417, "9110 10.1.1"),
    Refused("two expectations", line("GET / HTTP/1.1", "Expect: 100-continue, x"), 417, "9110 10.1.1"),
    Refused("a head that is too large", line("GET / HTTP/1.1", "X: " + "a" * 70_000), 431, "6585 5"),
    Refused("too many lines", line("GET / HTTP/1.1", *["X: a"] * 100), 431, "6585 5"),
    Refused("a target that is too long", line("GET /" + "a" * 17_000 + " HTTP/1.1"), 414, "9110 15.5.15"),
    Refused("a target without end", b"GET /" + b"a" * 17_000, 414, "9110 15.5.15"),
    Refused("a head without end", line("GET / HTTP/1.1")[:-2] + b"X: " + b"a" * 70_000, 431, "6585 5"),
]

GET = b"GET / HTTP/1.1"
HOP = ("connection", "keep-alive", "proxy-connection", "upgrade", "te", "trailer", "proxy-authorization")

FORWARDED = [
    Forwarded(
        "values are kept but for blanks around them",
        line("GET / HTTP/1.1", "X: \t a b\t\xe9  "),
        GET,
        "9110 5.5",
        (b"X: a b\t\xe9",),
    ),
    Forwarded(
        "names are kept",
        line("GET / HTTP/1.1", "x-!#$%&'*+.^_`|~9:1"),
        GET,
        "9110 5.1",
        (b"x-!#$%&'*+.^_`|~9: 1",),
    ),
    Forwarded("empty values", line("GET / HTTP/1.1", "X:", "Y: "), GET, "9110 5.5", (b"X: ", b"Y: ")),
    Forwarded(
        "the upstream's own Host",
        line("GET / HTTP/1.1", host="Host: A.Example:8080"),
        GET,
        "9112 3.2",
        (b"X-Forwarded-Host: A.Example:8080",),
    ),
    Forwarded(
        "an empty Host", line("GET / HTTP/1.1", host="Host:"), GET, "9112 3.2", (b"X-Forwarded-Host: ",)
    ),
    Forwarded(
        "HTTP/1.0 without Host", line("GET / HTTP/1.0", host=None), GET, "9112 3.2", (b"X-Forwarded-Host: ",)
    ),
    Forwarded("empty lines first", b"\r\n\r\n" + line("GET / HTTP/1.1"), GET, "9112 2.2"),
    Forwarded(
        "path and query byte for byte",
        line("GET /%2F%00//a;b?c=d&%zz+? HTTP/1.1"),
        b"GET /%2F%00//a;b?c=d&%zz+? HTTP/1.1",
        "9112 3.2.1",
    ),
    Forwarded("OPTIONS *", line("OPTIONS * HTTP/1.1"), b"OPTIONS * HTTP/1.1", "9112 3.2.4"),
    Forwarded("HEAD", line("HEAD / HTTP/1.1"), b"HEAD / HTTP/1.1", "9110 9.3.2"),
    Forwarded(
        "hop-by-hop fields",
        line(
            "GET / HTTP/1.1",
            "Connection: keep-alive",
            "Keep-Alive: 5",
            "Proxy-Connection: x",
            "TE: gzip",
            "Trailer: X",
            "Upgrade: x",
            "Proxy-Authorization: x",
        ),
        GET,
        "9110 7.6.1",
        (),
        HOP,
    ),
    Forwarded(
        "those that Connection names",
        line(
            "GET / HTTP/1.1",
            "Connection: X-A, x_b,, ,X-C",
            "connection: x-d",
            "X-A: 1",
            "x-a: 2",
            "X_B: 1",
            "X-B: 1",
            "X_C: 1",
            "X-D: 1",
        ),
        GET,
        "9110 7.6.1",
        (),
        ("connection", "x-a", "x-b", "x_b", "x_c", "x-d"),
    ),
    Forwarded(
        "those that it can't take away",
        get(
            "/",
            "Connection: Host, Content-Length, X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Port, Forwarded, close",
            "X-Forwarded-For: 1.2.3.4",
            "X-Forwarded-Port: 1",
            "Forwarded: for=x",
            "Content-Length: 2",
            method="PUT",
        )
        + b"ok",
        b"PUT / HTTP/1.1",
        "9110 7.6.1",
        (
            b"Content-Length: 2",
            b"X-Forwarded-For: 1.2.3.4, 127.0.0.1",
            b"X-Forwarded-Port: 1",
            b"Forwarded: for=x",
            b"X-Forwarded-Proto: http",
        ),
        ("connection",),
        b"ok",
    ),
    Forwarded(
        "upgrade to h2c",
        line(
            "GET / HTTP/1.1",
            "Connection: Upgrade, HTTP2-Settings",
            "Upgrade: h2c",
            "HTTP2-Settings: AAMAAABkAAQAAP__",
        ),
        GET,
        "9110 7.8",
        (),
        ("connection", "upgrade", "http2-settings"),
    ),
    upgrade("upgrade to a WebSocket", "websocket", b"websocket"),
    upgrade("in any spelling and with a version", "WebSocket, x/1.2", b"WebSocket, x/1.2"),
    upgrade("to what may be forwarded of several", "h2c, websocket, TLS/1.2 , HTTP/2.0", b"websocket"),
    upgrade("upgrade to HTTP/2", "h2c", settings="HTTP2-Settings: AAMAAABkAAQAAP__"),
    upgrade("upgrade to a draft of HTTP/2", "h2c-14, h2-14"),
    upgrade("upgrade to another HTTP", "HTTP/1.1, hTTP/3, http"),
    upgrade("upgrade to TLS", "TLS/1.0"),
    upgrade("upgrade to what is no protocol", "web socket, a/b/c, ,, (x)"),
    upgrade("upgrade that Connection does not name", "websocket", connection="keep-alive"),
    upgrade("upgrade on HTTP/1.0", "websocket", version="1.0"),
    upgrade("upgrade beside a body", "websocket", body="x"),
    Forwarded(
        "addresses that are told",
        line(
            "GET / HTTP/1.1", "X-Forwarded-For: 1.2.3.4", "x_forwarded_for: 6.6.6.6", "X-Forwarded-Host: evil"
        ),
        GET,
        "7239 8",
        (b"X-Forwarded-For: 1.2.3.4, 127.0.0.1", b"X-Forwarded-Host: a"),
        ("x_forwarded_for",),
    ),
]


@pytest.mark.parametrize("row", [*REQUEST_LINES, *TARGETS, *HOSTS, *FIELDS], ids=lambda row: row.name)
def test_refused(corpus: Corpus, row: Refused) -> None:
    corpus.refused(row)


@pytest.mark.parametrize("row", FORWARDED, ids=lambda row: row.name)
def test_forwarded(corpus: Corpus, row: Forwarded) -> None:
    corpus.forwarded(row)
