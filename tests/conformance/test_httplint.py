"""What httplint says of answers: of prox's own, and of good ones that prox passes on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from support.client import Client, get, post
from support.judges import import_path
from support.served_files import make_root
from support.servers import Json, serving
from support.strict_parser import Answer, FaultError, Reader
from support.upstream import Upstream, UpstreamPeer, answer

# What httplint says and that is no fault, see tests/conformance/known.md.
ACCEPTED = ("FRESHNESS_HEURISTIC", "STATUS_")
ACCEPTED_IN_MULTIPART = ("PARTIAL_WITHOUT_RANGE",)


def lint(request: bytes, answered: bytes) -> list[str]:
    """Warnings and errors about the answer to a request, by name."""
    import_path()
    httplint: Any = pytest.importorskip(
        "httplint", reason="there is no httplint: script/conformance installs it"
    )
    asked = httplint.HttpRequestLinter()
    try:
        sent = Reader(request).request()
    except FaultError:  # what was refused; its answer is looked at as that to a plain one
        sent = Reader(get()).request()
    assert sent is not None
    method = sent.method
    asked.process_request_topline(method, b"http://test.example" + sent.target, b"1.1")
    asked.process_headers(sent.fields)
    asked.finish_content(True)
    message = Answer.of(answered, method, canonical=True).message
    assert message is not None
    assert message.whole
    linter = httplint.HttpResponseLinter(start_time=time.time(), no_content=method == b"HEAD")
    linter.request = asked
    linter.process_response_topline(b"1." + message.first[0], message.first[1], message.first[2])
    linter.process_headers(message.fields)
    linter.feed_content(message.body)
    linter.finish_content(True)
    wrong = {httplint.levels.WARN, httplint.levels.BAD}
    notes = [f"{type(note).__name__}: {note.summary}" for note in linter.notes if note.level in wrong]
    is_multipart = message.all(b"content-type")[:1] and message.all(b"content-type")[0].startswith(
        b"multipart/"
    )
    accepted = ACCEPTED + (ACCEPTED_IN_MULTIPART if is_multipart else ())
    return [note for note in notes if not note.startswith(accepted)]


async def check(address: Any, *requests: bytes) -> None:
    """Send each request on a connection of its own; nothing may be found in the answers."""
    for request in requests:
        async with await Client.connect(address) as client:
            method = request.split(b" ")[0].decode()
            message = await client.request(request, method)
            notes = lint(request, message.raw)
            assert not notes, f"{notes}: {request!r} was answered {message.raw!r}"


async def test_serve(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    routes = {"action": {"type": "serve", "root": str(root)}}
    async with serving(routes) as prox:
        async with await prox.connect() as client:
            whole = await client.request(get("/digits.txt"))
        tag, date = whole["ETag"].decode(), whole["Last-Modified"].decode()
        await check(
            prox.address,
            get("/digits.txt"),
            get("/digits.txt", method="HEAD"),
            get("/"),
            get("/empty"),
            get("/digits.txt", "Range: bytes=2-4"),
            get("/digits.txt", "Range: bytes=2-4,6-7"),
            get("/digits.txt", "Range: bytes=20-30"),
            get("/digits.txt", f"If-None-Match: {tag}"),
            get("/digits.txt", f"If-Modified-Since: {date}"),
            get("/digits.txt", 'If-Match: "other"'),
            get("/digits.txt", f"If-Range: {tag}", "Range: bytes=-3"),
            get("/nothing"),
            get("/folder"),
            post(b"x", path="/digits.txt"),
        )


async def test_static() -> None:
    routes: list[Json] = [
        {
            "match": {"path": "/json"},
            "action": {"type": "static", "status": 200, "body_ref": {"json": {"a": 1}}},
        },
        {"match": {"path": "/empty"}, "action": {"type": "static", "status": 204}},
        {
            "match": {"path": "/away"},
            "action": {"type": "static", "status": 301, "headers": {"Location": "/there"}},
        },
        {"action": {"type": "static", "status": 200, "body_ref": {"text": "hello"}}},
    ]
    async with serving(routes) as prox:
        paths = ["/json", "/empty", "/away", "/"]
        await check(prox.address, *map(get, paths), *(get(path, method="HEAD") for path in paths))


async def test_errors() -> None:
    async def broken(peer: UpstreamPeer) -> None:
        await peer.head()
        await peer.send(b"nonsense\r\n\r\n")

    async with Upstream(broken) as upstream:
        routes = [{"match": {"path": "/proxied"}, "action": {"type": "proxy", "upstream": upstream.address}}]
        async with serving(routes, config={"max_body_bytes": 10, "max_header_count": 20}) as prox:
            await check(
                prox.address,
                get("/nothing"),
                get("/a/../b"),
                get("/", "Bad Name: 1"),
                get("/", "Expect: something"),
                get("/", *(f"X-{number}: 1" for number in range(30))),
                get("/" + "x" * 20_000),
                get("/", method="BREW"),
                get("/", "Transfer-Encoding: gzip", method="POST"),
                post(b"x" * 11, path="/proxied"),
                get("/proxied"),
                get("/proxied", method="HEAD"),
                b"GET / HTTP/3.0\r\n\r\n",
            )


async def test_proxied() -> None:
    """Nothing is found in good answers behind prox: it adds no fault."""
    date = b"Date: " + time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()).encode()
    plain = b"Content-Type: text/plain; charset=utf-8"
    good = {
        "/": answer(b"hello", plain, date),
        "/chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%b\r\n%b\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        % (plain, date),
        "/until-close": b"HTTP/1.0 200 OK\r\n%b\r\n\r\nhello" % plain,
        "/empty": b"HTTP/1.1 204 No Content\r\n%b\r\n\r\n" % date,
        "/not-modified": b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n%b\r\n\r\n' % date,
        "/hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload; as=style\r\n\r\n"
        + answer(b"hello", plain),
    }

    async def script(peer: UpstreamPeer) -> None:
        while (request := await peer.request()) is not None:
            path = request.target.decode()
            reply = good[path]
            await peer.send(
                reply.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if request.method == b"HEAD" else reply
            )
            if path == "/until-close":
                peer.close()

    async with Upstream(script) as upstream, serving(upstream.address) as prox:
        requests = [get(path, *(['If-None-Match: "a"'] if path == "/not-modified" else [])) for path in good]
        await check(prox.address, *requests, get("/", method="HEAD"), get("/chunked", method="HEAD"))
