"""Answer with a fixed status, fixed headers and a body that is in memory.

A body that is a file is read when the configuration is built, like the configuration itself: requests never wait for the
disk, and none sees half of a file that is just being written. A change of the file is a change of the configuration: it is
watched (`StaticAction.source`), and a reload reads it again. Large files are for `serve`.
"""

from __future__ import annotations

import json
from pathlib import Path

from prox.config import model
from prox.http.codec.fields import Headers
from prox.http.dates import http_date
from prox.http.errors import UpstreamError
from prox.proxy.route import Action, Routed
from prox.proxy.templates import Template, compile_body, is_textual

from .mediatypes import media_type

_WITHOUT_BODY = frozenset({204, 205, 304})


class StaticAction:
    """Serves the same answer to every request.

    A status below 200 is no answer but an announcement (RFC 9110 section 15.2): it is sent with the headers as one, and 200
    with the headers and the body follows. For 101, which would end HTTP on the connection, only the 200 is sent.
    204, 205 and 304 have no body.

    Making one reads the file of its body, so it belongs into a thread.

    Args:
        config: the action as it is configured; a Content-Type in its headers decides how a template escapes.

    Attributes:
        source: the file that the body was read from, "" for none.

    Raises:
        OSError: the file of the body can't be read.
        ValueError: a JSON body holds a number that JSON does not have.
    """

    fallback: Action | None = None

    def __init__(self, config: model.StaticAction) -> None:
        own = {name.lower(): value for name, value in config.headers.items()}
        resource = config.body_ref
        self.source = (resource and resource.file) or ""
        self._interim = config.status if config.status < 200 and config.status != 101 else 0
        self._status = max(config.status, 200)
        self._headers: Headers = [(name.encode(), value.encode()) for name, value in config.headers.items()]
        self._dated = "date" in own
        self._body: bytes | Template = b""
        if resource is None or self._status in _WITHOUT_BODY:
            return
        body, content_type = _read(resource)
        if "content-type" not in own:
            self._headers.insert(0, (b"Content-Type", content_type.encode()))
        content_type = own.get("content-type", content_type)
        if resource.file is None or is_textual(content_type):
            self._body = compile_body(body, content_type)
        else:
            self._body = body

    async def serve(self, routed: Routed) -> UpstreamError | None:
        """See Action."""
        if self._status < 300 and routed.exchange.opens_by_success:
            routed.exchange.refuse(501, reason="no_tunnel")
            return None
        answer = routed.answer
        if self._interim:
            answer.interim(self._interim, self._headers)
        body = self._body
        if isinstance(body, Template):
            body = body.render(routed)
        headers = self._headers if self._dated else [(b"Date", http_date()), *self._headers]
        answer.begin(self._status, headers, None if self._status == 304 else len(body))
        answer.end(b"" if routed.exchange.method == "HEAD" else body)
        return None


def _read(resource: model.Resource) -> tuple[bytes, str]:
    """A body and its media type."""
    if resource.text is not None:
        return resource.text.encode(errors="replace"), "text/plain; charset=utf-8"
    if resource.file is not None:
        return Path(resource.file).read_bytes(), media_type(resource.file)
    text = json.dumps(resource.json_value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode(errors="replace"), "application/json"
