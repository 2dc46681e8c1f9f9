from __future__ import annotations

import errno
import logging
import os
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import prox
from prox.proxy.actions.files import OpenFile
from support.action_server import ActionServer, Connection, until
from support.served_files import make_root, open_below, serve, serve_file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_root(tmp_path)


# What is found.


async def test_a_file(root: Path) -> None:
    async with ActionServer(serve(root)) as server:
        status, headers, body = await server.get("/digits.txt?query")
    assert (status, body) == (200, b"0123456789")
    assert headers.pop("date").endswith(" GMT")
    assert headers.pop("etag").startswith('"')
    modified = (root / "digits.txt").stat().st_mtime
    assert headers == {
        "content-type": "text/plain; charset=utf-8",
        "content-length": "10",
        "accept-ranges": "bytes",
        "last-modified": formatdate(int(modified), usegmt=True),
    }
    await until(lambda: not open_below(root))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", b"top"),
        ("/index.html", b"top"),
        ("/folder/", b"folder"),
        ("/f%6Flder/index.html", b"folder"),
        ("/empty", b""),
    ],
)
async def test_names(root: Path, path: str, body: bytes) -> None:
    async with ActionServer(serve(root)) as server:
        reply = await server.get(path)
    assert (reply.status, reply.body) == (200, body)


async def test_a_name_beyond_ascii_and_with_marks(root: Path) -> None:
    (root / "a b%3f é?.txt").write_text("found")
    async with ActionServer(serve(root)) as server:
        assert (await server.get("/a%20b%253f%20%C3%A9%3F.txt")).body == b"found"


@pytest.mark.parametrize(
    "path",
    [
        "/none",
        "/digits.txt/",
        "/empty%20folder/",
        "/../secret",
        "/%2e%2e/secret",
        "/folder/../../secret",
        "/folder/..%2F..%2fsecret",
        "/..%5Csecret",
        "/%5c..%5csecret",
        "//digits.txt",
        "/folder//index.html",
        "/./digits.txt",
        "/digits.txt%00",
        "/%00",
        "/out",
        "/outside/secret",
        "/fifo",
        "/" + "x" * 4000,
    ],
)
async def test_not_found(root: Path, path: str) -> None:
    (root / "out").symlink_to("../secret")
    (root / "outside").symlink_to("..")
    os.mkfifo(root / "fifo")
    async with ActionServer(serve(root)) as server:
        connection = await server.connect()
        connection.send(path)
        status, headers, body = await connection.reply()
        assert (status, body) == (404, b"Not Found\n")
        assert headers["content-type"] == "text/plain; charset=utf-8"
        connection.send("/digits.txt")
        assert (await connection.reply()).status == 200, "the connection goes on"
        await connection.close()
    await until(lambda: not open_below(root))


async def test_a_link_inside_the_root(root: Path) -> None:
    (root / "link.txt").symlink_to("digits.txt")
    async with ActionServer(serve(root)) as server:
        assert (await server.get("/link.txt")).body == b"0123456789"


async def test_the_routes_prefix_is_stripped(root: Path) -> None:
    async with ActionServer(serve(root), {"prefix": "/static/v1"}) as server:
        assert (await server.get("/static/v1/digits.txt")).body == b"0123456789"
        assert (await server.get("/static/v1/")).body == b"top"
        assert (await server.get("/digits.txt")).status == 404


@pytest.mark.parametrize(
    ("target", "prefix", "location"),
    [
        ("/folder", "", "/folder/"),
        ("/folder?a=/b?c&d=%2F", "", "/folder/?a=/b?c&d=%2F"),
        ("/folder?", "", "/folder/?"),
        ("/f%6flder", "", "/f%6flder/"),
        ("/empty%20folder", "", "/empty%20folder/"),
        ("/x/folder?q", "/x", "/x/folder/?q"),
        ("http://a.test/folder?q", "", "/folder/?q"),
        ("/folder?<>", "", "/folder/?%3C%3E"),
    ],
)
async def test_a_folder_without_slash_is_redirected(
    root: Path, target: str, prefix: str, location: str
) -> None:
    async with ActionServer(serve(root), {"prefix": prefix}) as server:
        status, headers, _ = await server.get(target)
    assert (status, headers["location"]) == (301, location)


@pytest.mark.parametrize("target", ["//folder", "/%2Ffolder", "/%5Cfolder", "//a.test/..", "/\\folder"])
async def test_no_redirection_leads_to_another_host(root: Path, target: str) -> None:
    async with ActionServer(serve(root)) as server:
        status, headers, _ = await server.get(target)
    assert status == 404
    assert "location" not in headers


async def test_an_index_that_is_a_folder(root: Path) -> None:
    (root / "odd" / "index.html").mkdir(parents=True)
    async with ActionServer(serve(root)) as server:
        assert (await server.get("/odd/")).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
async def test_other_methods(root: Path, method: str) -> None:
    async with ActionServer(serve(root)) as server:
        status, headers, _ = await server.get("/digits.txt", method=method)
    assert (status, headers["allow"]) == (405, "GET, HEAD")


async def test_head(root: Path) -> None:
    async with ActionServer(serve(root)) as server:
        connection = await server.connect()
        for path, status in (("/digits.txt", 200), ("/big.bin", 200), ("/none", 404), ("/folder", 301)):
            replies = []
            for method in ("HEAD", "GET"):
                connection.send(path, "Range: bytes=0-0" if path == "/none" else "Accept: */*", method=method)
                replies.append(await connection.reply(method))
            head, get = replies
            assert head.status == get.status == status
            assert head.headers.items() - {("date", head.headers["date"])} <= get.headers.items()
        connection.send("/digits.txt", "Range: bytes=0-1", method="HEAD")
        assert (await connection.reply("HEAD")).status == 200, "ranges are for GET"
        await connection.close()
    await until(lambda: not open_below(root))


@pytest.mark.parametrize("target", ["/", "/any/thing?x", "/digits.txt/", "//x"])
async def test_one_file_answers_everything(root: Path, target: str) -> None:
    async with ActionServer(serve_file(root / "digits.txt")) as server:
        status, headers, body = await server.get(target)
    assert (status, body) == (200, b"0123456789")
    assert headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.HTML", "text/html; charset=utf-8"),
        ("a.min.js", "text/javascript; charset=utf-8"),
        ("a.svg", "image/svg+xml"),
        ("a.json", "application/json"),
        ("a.tar.gz", "application/gzip"),
        ("a.woff2", "font/woff2"),
        ("a.unknown", "application/octet-stream"),
        ("html", "application/octet-stream"),
        (".html", "application/octet-stream"),
        ("a.", "application/octet-stream"),
    ],
)
async def test_types(root: Path, name: str, kind: str) -> None:
    (root / name).touch()
    async with ActionServer(serve(root)) as server:
        assert (await server.get(f"/{name}")).headers["content-type"] == kind


# What cannot be read.


async def test_a_missing_root_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "later"
    caplog.set_level(logging.WARNING, "prox.proxy")
    async with ActionServer(serve(root)) as server:
        for _ in range(3):
            assert (await server.get("/x.txt")).status == 404
        assert [record.getMessage() for record in caplog.records] == [
            f"route web:0: can't serve from {root}: No such file or directory"
        ]
        root.mkdir()
        (root / "x.txt").write_text("here")
        assert (await server.get("/x.txt")).body == b"here"
        (root / "x.txt").unlink()
        root.rmdir()
        assert (await server.get("/x.txt")).status == 404
    assert len(caplog.records) == 2, "said again when it went again"


async def test_a_missing_file_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "prox.proxy")
    async with ActionServer(serve_file(tmp_path / "none.html")) as server:
        for _ in range(2):
            assert (await server.get("/")).status == 404
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (errno.EACCES, 403),
        (errno.EPERM, 403),
        (errno.EIO, 500),
        (errno.EMFILE, 503),
        (errno.ESTALE, 404),
    ],
)
async def test_errors_of_the_system(
    root: Path, code: int, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors that a file system can't be made to give on demand, and that root never meets."""

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(OpenFile, "_reopen", fail)
    async with ActionServer(serve(root)) as server:
        reply = await server.get("/digits.txt")
        assert server.exchanges[0].reason == ("file_error" if status >= 500 else "")
    assert reply.status == status
    await until(lambda: not open_below(root))


@contextmanager
def without_privileges() -> Iterator[None]:
    """As nobody, where the tests run as root, who may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def guarded() -> Iterator[Path]:
    """A root that everybody reaches, with a file and a folder that nobody may open."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "closed").mkdir()
        for name, mode in (("private.txt", 0), ("closed/x", 0o644), ("closed", 0), (".", 0o755)):
            if not (root / name).exists():
                (root / name).write_text("private")
            (root / name).chmod(mode)
        yield root
        (root / "closed").chmod(0o755)


async def test_a_file_that_may_not_be_read(guarded: Path) -> None:
    async with ActionServer(serve(guarded)) as server:
        with without_privileges():
            assert (await server.get("/private.txt")).status == 403
            assert (await server.get("/closed/x")).status == 403
            assert (await server.get("/none")).status == 404
        await until(lambda: not open_below(guarded))


async def test_out_of_descriptors(root: Path) -> None:
    async with ActionServer(serve(root)) as server:
        connection = await server.connect()
        connection.send("/digits.txt")
        assert (await connection.reply()).status == 200
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1, hard))
        try:
            connection.send("/digits.txt")
            assert (await connection.reply()).status == 503
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        connection.send("/digits.txt")
        assert (await connection.reply()).status == 200
        await connection.close()


# Conditions.


async def test_a_copy_that_is_still_good(root: Path) -> None:
    async with ActionServer(serve(root)) as server:
        first = await server.get("/digits.txt")
        etag, modified = first.headers["etag"], first.headers["last-modified"]
        connection = await server.connect()
        for condition in (
            f"If-None-Match: {etag}",
            f"If-None-Match: W/{etag}",
            f'if-none-match: "x", {etag}',
            "If-None-Match: *",
            f"If-Modified-Since: {modified}",
        ):
            connection.send("/digits.txt", condition)
            status, headers, body = await connection.reply()
            assert (status, body) == (304, b"")
            assert headers["etag"] == etag
            assert headers["last-modified"] == modified
            assert not {"content-type", "content-length", "transfer-encoding"} & headers.keys()
        connection.send("/digits.txt", 'If-None-Match: "x"', f"If-None-Match: {etag}")
        assert (await connection.reply()).status == 304, "two lines are one list"
        await connection.close()
    await until(lambda: not open_below(root))


async def test_preconditions_that_fail(root: Path) -> None:
    async with ActionServer(serve(root)) as server:
        for condition in ('If-Match: "x"', "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT"):
            status, headers, body = await server.get("/digits.txt", condition)
            assert (status, body) == (412, b"Precondition Failed\n")
            assert "etag" in headers
        assert (await server.get("/none", "If-Match: *")).status == 404


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.write_bytes(b"9876543210 and more"),
        lambda file: os.utime(file, ns=(0, file.stat().st_mtime_ns + 1)),
        lambda file: replace(file, b"9876543210"),
    ],
    ids=["content", "time", "replaced"],
)
async def test_another_version_has_another_tag(root: Path, change: Callable[[Path], None]) -> None:
    file = root / "digits.txt"
    async with ActionServer(serve(root)) as server:
        etag = (await server.get("/digits.txt")).headers["etag"]
        assert (await server.get("/digits.txt")).headers["etag"] == etag
        change(file)
        reply = await server.get("/digits.txt", f"If-None-Match: {etag}")
    assert reply.status == 200
    assert reply.headers["etag"] != etag


def replace(file: Path, content: bytes) -> None:
    """By another file with the same time and size."""
    before = file.stat()
    new = file.with_suffix(".new")
    new.write_bytes(content)
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.rename(file)


async def test_a_time_to_come_is_not_told(root: Path) -> None:
    os.utime(root / "digits.txt", (4_000_000_000, 4_000_000_000))
    async with ActionServer(serve(root)) as server:
        headers = (await server.get("/digits.txt")).headers
    assert "2096" not in headers["last-modified"]


# Ranges.


@pytest.mark.parametrize(
    ("wanted", "body", "described"),
    [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=7-100", b"789", "bytes 7-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=-100", b"0123456789", "bytes 0-9/10"),
        ("bytes=0-1,50-", b"01", "bytes 0-1/10"),
    ],
)
async def test_one_range(root: Path, wanted: str, body: bytes, described: str) -> None:
    async with ActionServer(serve(root)) as server:
        status, headers, got = await server.get("/digits.txt", f"Range: {wanted}")
    assert (status, got, headers["content-range"]) == (206, body, described)
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["content-length"] == str(len(body))
    await until(lambda: not open_below(root))


async def test_several_ranges(root: Path) -> None:
    async with ActionServer(serve(root)) as server:
        status, headers, body = await server.get("/digits.txt", "Range: bytes=0-1, -1 ,4-5")
    assert status == 206
    assert "content-range" not in headers
    kind, _, boundary = headers["content-type"].partition("; boundary=")
    assert kind == "multipart/byteranges"
    parts = [(b"bytes 0-1/10", b"01"), (b"bytes 9-9/10", b"9"), (b"bytes 4-5/10", b"45")]
    expected = b"".join(
        b"--%b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Range: %b\r\n\r\n%b\r\n"
        % (boundary.encode(), *part)
        for part in parts
    )
    assert body == expected + b"--%b--\r\n" % boundary.encode()
    await until(lambda: not open_below(root))


async def test_several_long_ranges(root: Path) -> None:
    content = os.urandom(1_000_000)
    (root / "random").write_bytes(content)
    async with ActionServer(serve(root)) as server:
        _, headers, body = await server.get("/random", "Range: bytes=0-399999,500000-999999")
    boundary = headers["content-type"].rpartition("=")[2].encode()
    first, second = body.split(b"--" + boundary)[1:3]
    assert first.endswith(b"\r\n\r\n" + content[:400_000] + b"\r\n")
    assert second.endswith(b"\r\n\r\n" + content[500_000:] + b"\r\n")
    await until(lambda: not open_below(root))


@pytest.mark.parametrize("wanted", ["bytes=10-", "bytes=-0", "bytes=99-100"])
async def test_ranges_beyond_the_end(root: Path, wanted: str) -> None:
    async with ActionServer(serve(root)) as server:
        status, headers, _ = await server.get("/digits.txt", f"Range: {wanted}")
    assert (status, headers["content-range"]) == (416, "bytes */10")


@pytest.mark.parametrize("wanted", ["bytes=5-4", "lines=1-2", "bytes=0-,0-", "bytes=0-1,x", ""])
async def test_ranges_that_are_ignored(root: Path, wanted: str) -> None:
    async with ActionServer(serve(root)) as server:
        reply = await server.get("/digits.txt", f"Range: {wanted}")
    assert (reply.status, reply.body) == (200, b"0123456789")


async def test_if_range(root: Path) -> None:
    async with ActionServer(serve(root)) as server:
        headers = (await server.get("/digits.txt")).headers
        for validator, status in (
            (headers["etag"], 206),
            (headers["last-modified"], 206),
            ('"old"', 200),
            (f"W/{headers['etag']}", 200),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 200),
        ):
            reply = await server.get("/digits.txt", "Range: bytes=-1", f"If-Range: {validator}")
            assert (validator, reply.status) == (validator, status)
            assert reply.body == (b"9" if status == 206 else b"0123456789")
        reply = await server.get("/digits.txt", "Range: bytes=-1", f"If-None-Match: {headers['etag']}")
        assert reply.status == 304, "conditions go before ranges"
        reply = await server.get("/digits.txt", "Range: bytes=20-", 'If-Range: "old"')
        assert reply.status == 200


def test_no_etag_tells_the_inode(root: Path) -> None:
    from prox.proxy.actions.serve import make_reply

    file = OpenFile()
    file.open_below(str(root), "digits.txt")
    try:
        reply = make_reply(file, "GET", {}, 2e9)
    finally:
        file.close()
    etag = dict(reply.headers)[b"ETag"].decode()
    assert re.fullmatch(r'"[0-9a-f]{24}"', etag)
    for form in ("x", "d"):
        assert format(file.status.st_ino, form) not in etag or file.status.st_ino < 100_000


# Behind a whole prox.


async def test_in_a_configuration(root: Path) -> None:
    config = {
        "runtime": {"dot_segments": "pass"},
        "actions": {"files": {"type": "serve", "root": "root"}},
        "services": {
            "web": {
                "listen": "127.0.0.1:0",
                "routes": [
                    {"match": {"path": "/one"}, "action": {"type": "serve", "file": "root/digits.txt"}},
                    {"match": {"path": "/a/*, /b/c/*"}, "action": "files"},
                    {"action": "files"},
                ],
            },
        },
    }
    async with prox.Server(config, base=root.parent) as server:
        address = server.addresses["web"]
        assert isinstance(address, tuple)
        connection = await Connection.open(*address)
        for path, status, body in (
            ("/one", 200, b"0123456789"),
            ("/a/digits.txt", 200, b"0123456789"),
            ("/b/c/folder/", 200, b"folder"),
            ("/b/c/", 200, b"top"),
            ("/folder/index.html", 200, b"folder"),
            ("/a", 404, b"Not Found\n"),
            ("/a/../../secret", 404, b"Not Found\n"),
            ("/a/%2e%2e/digits.txt", 404, b"Not Found\n"),
        ):
            connection.send(path)
            reply = await connection.reply()
            assert (path, reply.status, reply.body) == (path, status, body)
        connection.send("/b/c/folder?x")
        assert (await connection.reply()).headers["location"] == "/b/c/folder/?x"
        await connection.close()
