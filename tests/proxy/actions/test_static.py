from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from prox.config import model, parse
from prox.proxy.actions.static import StaticAction
from support.action_server import ActionServer


async def load(base: Path, **action: Any) -> StaticAction:
    """The action as a configuration gives it; made in a thread, as reading its body may block."""
    return await asyncio.get_running_loop().run_in_executor(
        None, lambda: StaticAction(configured(base, **action))
    )


def configured(base: Path, **action: Any) -> model.StaticAction:
    document = {
        "services": {
            "web": {"listen": "127.0.0.1:0", "routes": [{"action": {"type": "static", **action}}]},
        },
    }
    found = parse(document, base).config.services["web"].routes[0].action
    assert isinstance(found, model.StaticAction)
    return found


async def test_text(tmp_path: Path) -> None:
    async with ActionServer(await load(tmp_path, body_ref={"text": "hellö"})) as server:
        status, headers, body = await server.get()
    assert (status, body) == (200, "hellö".encode())
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["content-length"] == "6"
    assert headers["date"].endswith(" GMT")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [None, True, 1.5, "é"]}, '{"b":1,"a":[null,true,1.5,"é"]}'),
        (None, "null"),
        (0, "0"),
        ("", '""'),
        ([], "[]"),
    ],
)
async def test_json(tmp_path: Path, value: object, text: str) -> None:
    async with ActionServer(await load(tmp_path, body_ref={"json": value})) as server:
        _, headers, body = await server.get()
    assert headers["content-type"] == "application/json"
    assert body == text.encode()


async def test_file_with_its_type(tmp_path: Path) -> None:
    (tmp_path / "page.HTML").write_text("<p>{path}</p>")
    action = await load(tmp_path, body_ref={"file": "page.HTML"})
    assert action.source == str(tmp_path / "page.HTML")
    async with ActionServer(action) as server:
        _, headers, body = await server.get("/%3Cb%3E")
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert body == b"<p>/&lt;b&gt;</p>"


async def test_a_file_that_is_no_text_is_no_template(tmp_path: Path) -> None:
    content = b"\x89PNG{path}" + os.urandom(300_000)
    (tmp_path / "logo.png").write_bytes(content)
    async with ActionServer(await load(tmp_path, body_ref={"file": "logo.png"})) as server:
        _, headers, body = await server.get()
    assert headers["content-type"] == "image/png"
    assert body == content


def test_a_file_that_has_gone_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "x.txt"
    file.write_text("x")
    config = configured(tmp_path, body_ref={"file": "x.txt"})
    file.unlink()
    with pytest.raises(FileNotFoundError):
        StaticAction(config)


def test_a_number_that_json_lacks_is_an_error() -> None:
    resource = model.Resource.model_construct({"json_value"}, text=None, file=None, json_value=float("inf"))
    action = model.StaticAction.model_construct(type="static", status=200, headers={}, body_ref=resource)
    with pytest.raises(ValueError, match="JSON"):
        StaticAction(action)


async def test_status_and_headers(tmp_path: Path) -> None:
    headers = {"Location": "https://b.test{path}", "X-Empty": ""}
    async with ActionServer(await load(tmp_path, status=301, headers=headers)) as server:
        status, got, body = await server.get("/x")
    assert (status, body) == (301, b"")
    assert got["location"] == "https://b.test{path}", "header values are no templates"
    assert got["x-empty"] == ""
    assert got["content-length"] == "0"
    assert "content-type" not in got


async def test_own_content_type_and_date_replace_the_default(tmp_path: Path) -> None:
    headers = {"content-TYPE": "text/html", "date": "Thu, 01 Jan 1970 00:00:00 GMT"}
    async with ActionServer(await load(tmp_path, headers=headers, body_ref={"text": "<i>{path}"})) as server:
        _, got, body = await server.get("/&")
    assert got["content-type"] == "text/html"
    assert got["date"] == headers["date"]
    assert body == b"<i>/&amp;", "escaped for the type that is sent"


async def test_template_knows_request_and_route(tmp_path: Path) -> None:
    text = "{method} {host} {domain} {domain.pattern} {match.domain} {match.glob} {match.path} {path} {none}"
    action = await load(tmp_path, body_ref={"text": text})
    match = {"domain_pattern": "*.T.test", "match_domain": "a", "match_glob": "g", "match_path": "/p/*"}
    async with ActionServer(action, match) as server:
        _, _, body = await server.get("/p/%41?q", method="POST", host="A.T.test:99")
        _, _, again = await server.get("/p/z", host="b.t.test")
    assert body == b"POST A.T.test:99 A.T.test *.T.test a g /p/* /p/A {none}"
    assert again == b"GET b.t.test b.t.test *.T.test a g /p/* /p/z {none}"


async def test_json_template_stays_json(tmp_path: Path) -> None:
    action = await load(tmp_path, body_ref={"json": {"{method}": "{path}", "x": {"{y}": 1}}})
    async with ActionServer(action) as server:
        _, _, body = await server.get("/%22%5C%0A")
    assert json.loads(body) == {"GET": '/"\\\n', "x": {"{y}": 1}}


@pytest.mark.parametrize("text", ["body", "{path}"])
async def test_head_has_the_length_and_no_body(tmp_path: Path, text: str) -> None:
    async with ActionServer(await load(tmp_path, body_ref={"text": text})) as server:
        connection = await server.connect()
        connection.send("/long", method="HEAD")
        _, headers, _ = await connection.reply("HEAD")
        connection.send("/long")
        whole = await connection.reply()
        await connection.close()
    assert headers["content-length"] == str(len(whole.body))
    assert whole.status == 200, "the connection was still in step"


@pytest.mark.parametrize("status", [204, 205, 304])
async def test_statuses_without_a_body(tmp_path: Path, status: int) -> None:
    async with ActionServer(await load(tmp_path, status=status, body_ref={"text": "{path} body"})) as server:
        connection = await server.connect()
        for _ in range(2):
            connection.send()
            got, headers, body = await connection.reply()
            assert (got, body) == (status, b"")
            assert headers.get("content-length") == ("0" if status == 205 else None)
            assert "content-type" not in headers
        await connection.close()


async def test_an_informational_status_is_announced_before_200(tmp_path: Path) -> None:
    action = await load(
        tmp_path, status=103, headers={"Link": "</s.css>; rel=preload"}, body_ref={"text": "body"}
    )
    async with ActionServer(action) as server:
        connection = await server.connect()
        for _ in range(2):
            connection.send()
            status, headers = await connection.head()
            assert status == 103
            assert headers["link"] == "</s.css>; rel=preload"
            assert "content-length" not in headers
            final = await connection.reply()
            assert (final.status, final.body) == (200, b"body")
            assert final.headers["link"] == "</s.css>; rel=preload"
        await connection.close()


async def test_nobody_is_made_to_believe_in_a_switch_of_protocols(tmp_path: Path) -> None:
    async with ActionServer(await load(tmp_path, status=101, body_ref={"text": "body"})) as server:
        reply = await server.get("/", "Connection: Upgrade", "Upgrade: websocket")
    assert (reply.status, reply.body) == (200, b"body")


async def test_a_request_body_is_read_away(tmp_path: Path) -> None:
    async with ActionServer(await load(tmp_path, body_ref={"text": "ok"})) as server:
        connection = await server.connect()
        connection.send("/", "Content-Length: 5", method="POST")
        connection.writer.write(b"hello")
        assert (await connection.reply()).body == b"ok"
        connection.send()
        assert (await connection.reply()).body == b"ok"
        await connection.close()
