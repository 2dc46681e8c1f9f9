"""Answer with files: all of a folder by their names, or one file for every request.

All that blocks happens in one call in a thread (see `files`): open the file, decide about conditions and ranges, read the
first piece and, where that is all, close it. A small file costs one such call; larger ones are read on as the client
takes them.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import secrets
import time
from collections.abc import Mapping
from email.utils import formatdate
from hashlib import blake2b
from typing import NamedTuple
from urllib.parse import quote

from prox.config import model
from prox.http.codec.fields import Headers
from prox.http.codec.target import Target
from prox.http.dates import http_date
from prox.http.errors import UpstreamError
from prox.http.exchange import phrase
from prox.proxy.route import Action, Routed

from . import conditions
from .conditions import Validators, precondition, range_holds
from .files import THREADS, OpenFile, RootError, name_below
from .mediatypes import media_type
from .ranges import ByteRange, parse_ranges
from .sending import PIECE, FileReader, Span

_log = logging.getLogger("prox.proxy")

_TEXT = (b"Content-Type", b"text/plain; charset=utf-8")
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ESTALE})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})
_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class Reply(NamedTuple):
    """What is answered.

    Attributes:
        status: 200, 206, 304, 412 or 416.
        headers: without Date.
        length: bytes of the body, None for a 304.
        parts: the body.
        ahead: the first bytes of its first span.
    """

    status: int
    headers: Headers
    length: int | None
    parts: tuple[bytes | Span, ...] = ()
    ahead: bytes = b""


class ServeAction:
    """Serves files.

    Answers 404 for what is no file inside the root, 403 for what prox may not read, 405 for methods but GET and HEAD. A
    folder has its `index.html` or nothing, and without `/` at its end it is a redirection to the name with it.

    With `root` the route's fixed prefix is taken off the path, and what is left names a file below that folder; with `file`
    that file answers whatever the path.

    Args:
        config: the action as it is configured.
    """

    fallback: Action | None = None

    def __init__(self, config: model.ServeAction) -> None:
        self._root = config.root
        self._file = config.file
        self._warned = False

    async def serve(self, routed: Routed) -> UpstreamError | None:
        """See Action."""
        exchange = routed.exchange
        if exchange.opens_by_success:
            exchange.refuse(501, reason="no_tunnel")
            return None
        if exchange.method not in {"GET", "HEAD"}:
            _say(routed, 405, [(b"Allow", b"GET, HEAD")])
            return None
        name = "" if self._root is None else name_below(exchange.target.path, routed.match.prefix)
        if name is None:
            _say(routed, 404)
            return None
        file = OpenFile()
        try:
            reply = await self._reply(routed, file, name)
            if reply is not None:
                await _send(routed, file, reply)
        finally:
            if not file.closed:
                THREADS.submit(file.close)
        return None

    async def _reply(self, routed: Routed, file: OpenFile, name: str) -> Reply | None:
        """What to send; None where the request has been answered."""
        exchange = routed.exchange
        asked = _asked(exchange.head.headers)
        try:
            return await asyncio.get_running_loop().run_in_executor(
                THREADS, self._prepare, file, name, exchange.method, asked
            )
        except IsADirectoryError:
            if name and not name.endswith("/"):
                _say(routed, 301, [(b"Location", _with_slash(exchange.target))])
            else:
                _say(routed, 404)
        except RootError as error:
            self._warn(routed, error)
            _refuse(routed, error.cause)
        except OSError as error:
            _refuse(routed, error)
        return None

    def _prepare(self, file: OpenFile, name: str, method: str, asked: Mapping[bytes, bytes]) -> Reply:
        """Everything up to the first byte; runs in a thread."""
        more = False
        try:
            if self._root is not None:
                file.open_below(self._root, name)
            else:
                file.open_file(self._file or "")
            self._warned = False
            reply = make_reply(file, method, asked, time.time())
            span = next((part for part in reply.parts if isinstance(part, Span)), None)
            if span is None or method == "HEAD":
                return reply
            size = min(span.length, PIECE)
            ahead = file.read(span.offset, size)
            if len(ahead) < size:
                raise OSError(errno.EIO, f"{file.name} became shorter while it was opened")
            more = span.length > size or len(reply.parts) > 1
            return reply._replace(ahead=ahead)
        finally:
            if not more:
                file.close()

    def _warn(self, routed: Routed, error: RootError) -> None:
        """Once until it could be opened again."""
        if not self._warned:
            self._warned = True
            what = self._file if self._root is None else self._root
            _log.warning(
                "route %s: can't serve from %s: %s",
                routed.route.id,
                what,
                error.cause.strerror or error.cause,
            )


def make_reply(file: OpenFile, method: str, asked: Mapping[bytes, bytes], now: float) -> Reply:
    """The answer to a GET or HEAD of an open file.

    Args:
        file: open.
        method: GET or HEAD; ranges are for GET alone (RFC 9110 section 14.2).
        asked: the request's headers in `conditions.NAMES`.
        now: Unix time.
    """
    size = file.status.st_size
    # Not later than now, as RFC 9110 section 8.8.2.1 asks, or the next change could not be told from this one.
    current = Validators(_etag(file), min(file.status.st_mtime_ns // 10**9, int(now)))
    validators = [
        (b"ETag", current.etag),
        (b"Last-Modified", formatdate(current.modified, usegmt=True).encode()),
    ]
    status = precondition(asked, current, now)
    if status == 304:
        return Reply(304, validators, None)
    if status != 200:
        return _text(status, validators)
    kind = media_type(file.name).encode()
    headers = [(b"Accept-Ranges", b"bytes"), *validators]
    if method == "GET" and b"range" in asked and range_holds(asked, current, now):
        ranges = parse_ranges(asked[b"range"], size)
        if ranges:
            return _partial(ranges, size, kind, headers)
        if ranges is not None:
            return _text(416, [(b"Content-Range", b"bytes */%d" % size)])
    return Reply(200, [(b"Content-Type", kind), *headers], size, (Span(0, size),) if size else ())


def _partial(ranges: list[ByteRange], size: int, kind: bytes, headers: Headers) -> Reply:
    """One part as it is, several as multipart/byteranges (RFC 9110 section 14.6)."""
    if len(ranges) == 1:
        only = ranges[0]
        headers = [(b"Content-Type", kind), (b"Content-Range", only.header(size)), *headers]
        return Reply(206, headers, only.length, (Span(only.first, only.length),))
    boundary = secrets.token_hex(16).encode()
    parts: list[bytes | Span] = []
    for part in ranges:
        line_end = b"\r\n" if parts else b""
        parts += (
            b"%b--%b\r\nContent-Type: %b\r\nContent-Range: %b\r\n\r\n"
            % (line_end, boundary, kind, part.header(size)),
            Span(part.first, part.length),
        )
    parts.append(b"\r\n--%b--\r\n" % boundary)
    length = sum(part.length if isinstance(part, Span) else len(part) for part in parts)
    return Reply(
        206,
        [(b"Content-Type", b"multipart/byteranges; boundary=" + boundary), *headers],
        length,
        tuple(parts),
    )


def _text(status: int, headers: Headers) -> Reply:
    body = f"{phrase(status)}\n".encode()
    return Reply(status, [_TEXT, *headers], len(body), (body,))


def _etag(file: OpenFile) -> bytes:
    """Another one for every change of content that the file system tells; hashed, for inodes are nobody's business."""
    status = file.status
    facts = b"%d %d %d" % (status.st_mtime_ns, status.st_size, status.st_ino)
    return b'"%b"' % blake2b(facts, digest_size=12).hexdigest().encode()


def _asked(headers: Headers) -> dict[bytes, bytes]:
    """The headers in `conditions.NAMES`, several of one name joined (RFC 9110 section 5.3)."""
    asked: dict[bytes, bytes] = {}
    for name, value in headers:
        folded = name.lower()
        if folded in conditions.NAMES:
            asked[folded] = b"%b, %b" % (asked[folded], value) if folded in asked else value
    return asked


async def _send(routed: Routed, file: OpenFile, reply: Reply) -> None:
    answer = routed.answer
    reader = FileReader(file, reply.parts, reply.ahead)
    answer.read_from(reader)
    answer.begin(reply.status, [(b"Date", http_date()), *reply.headers], reply.length)
    if routed.exchange.method == "HEAD" or reply.status == 304:
        answer.end()
    else:
        await reader.send(answer)


def _say(routed: Routed, status: int, headers: Headers | None = None) -> None:
    """A short text; like every answer of an action it is shown to on_response."""
    body = f"{phrase(status)}\n".encode()
    routed.answer.respond(routed.exchange.method, status, [_TEXT, *(headers or [])], body)


def _refuse(routed: Routed, error: OSError) -> None:
    code = error.errno
    where = f"route {routed.route.id}: {routed.exchange.target.path}"
    if code is None or code in _MISSING:
        _say(routed, 404)
    elif code in _FORBIDDEN:
        _log.debug("%s: %s", where, error)
        _say(routed, 403)
    else:
        _log.error("%s: %s", where, error)
        routed.exchange.refuse(503 if code in _SCARCE else 500, reason="file_error")


def _with_slash(target: Target) -> bytes:
    """The path as the client wrote it, prefix included, with `/` behind it. It can't begin with `//`: see `name_below`."""
    path, mark, query = target.raw.partition(b"?")
    return quote(path + b"/" + mark + query, safe=_IN_LOCATION).encode()


_IN_LOCATION = "".join(map(chr, range(0x21, 0x7F))).replace('"', "").replace("<", "").replace(">", "")
