"""A client of HTTP/2 that sends what it is told: the `h2` library reads strictly, and checks nothing of what it sends."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import h2.config
import h2.connection
import h2.events
import h2.settings
from hyperframe.frame import GoAwayFrame

Pairs = list[tuple[bytes, bytes]]


class Answer:
    """What came on one stream.

    Attributes:
        status: 0 before the head.
        fields: those of the head, without pseudo-fields.
        data: what has come of the body.
        interims: statuses of interim heads, with their fields.
        trailers: None without.
        ended: END_STREAM came.
        reset: the code of RST_STREAM, -1 without one.
        unread: bytes of the body whose windows were not given back.
    """

    def __init__(self) -> None:
        self.status = 0
        self.fields: Pairs = []
        self.data = bytearray()
        self.interims: list[tuple[int, Pairs]] = []
        self.trailers: Pairs | None = None
        self.ended = False
        self.reset = -1
        self.unread = 0

    @property
    def body(self) -> bytes:
        """What has come of the body."""
        return bytes(self.data)

    @property
    def size(self) -> int:
        """Bytes of it."""
        return len(self.data)

    @property
    def over(self) -> bool:
        """Whether nothing comes any more."""
        return self.ended or self.reset >= 0

    def get(self, name: bytes) -> bytes | None:
        """The first field of this name."""
        return next((value for key, value in self.fields if key == name), None)

    def __repr__(self) -> str:
        return (
            f"<{self.status} {self.fields} {bytes(self.data[:40])!r} ended={self.ended} reset={self.reset}>"
        )


class H2Client:
    """One connection.

    Attributes:
        h2: the library's connection.
        answers: by stream.
        goaways: (error code, last stream) of each GOAWAY.
        eof: prox closed.
        was_reset: the end was a reset.
        opens_windows: give windows back as data comes.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        # The library takes GOAWAY for the end of the connection, which it is not: streams go on (RFC 9113 section 6.8).
        self.h2._frame_dispatch_table[GoAwayFrame] = self._goaway
        self.answers: dict[int, Answer] = {}
        self.goaways: list[tuple[int, int]] = []
        self.eof = False
        self.was_reset = False
        self.opens_windows = True
        self.pings = 0
        self.pongs = 0
        self.authority = b"test.example"
        self.greeted = False

    @classmethod
    async def connect(
        cls,
        address: tuple[str, int] | str,
        *,
        settings: dict[int, int] | None = None,
        tls: ssl.SSLContext | None = None,
        receive_buffer: int = 1 << 16,
    ) -> Self:
        """Connect and greet; `settings` by their numbers."""
        assert not isinstance(address, str)
        host, port = address
        reader, writer = await asyncio.open_connection(
            host, port, ssl=tls, server_hostname="localhost" if tls else None, limit=receive_buffer
        )
        client = cls(reader, writer)
        # What is said first is in force at once.
        client.h2.local_settings = h2.settings.Settings(
            client=True, initial_values={h2.settings.SettingCodes(2): 0, **_codes(settings or {})}
        )
        client.h2.initiate_connection()
        await client.flush()
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close at once."""
        self._writer.transport.abort()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    def half_close(self) -> None:
        """Send FIN."""
        self._writer.write_eof()

    # Out.

    async def flush(self) -> None:
        """Send what the library has made."""
        data = self.h2.data_to_send()
        if data:
            self._writer.write(data)
            with suppress(ConnectionError):
                await self._writer.drain()

    async def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)
        with suppress(ConnectionError):
            await self._writer.drain()

    async def open(self, pairs: Pairs, *, end: bool = True) -> int:
        """Begin a request with exactly these fields."""
        stream = self.h2.get_next_available_stream_id()
        self.answers[stream] = Answer()
        self.h2.send_headers(stream, pairs, end_stream=end)
        await self.flush()
        return stream

    async def request(
        self,
        method: str = "GET",
        path: str = "/",
        *fields: tuple[bytes, bytes],
        body: bytes | None = None,
        end: bool = True,
    ) -> int:
        """Begin a request; with a body it is sent as far as the windows allow at once."""
        pairs = [*self.pseudo(method, path), *fields]
        stream = await self.open(pairs, end=end and body is None)
        if body is not None:
            await self.send(stream, body, end=end)
        return stream

    def pseudo(self, method: str = "GET", path: str = "/") -> Pairs:
        """The pseudo-fields of a request."""
        return [
            (b":method", method.encode()),
            (b":scheme", b"http"),
            (b":authority", self.authority),
            (b":path", path.encode()),
        ]

    async def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Send a body, waiting for windows."""
        answer = self.answers[stream]
        while True:
            if data:
                await self.until(lambda: answer.over or self._room(stream) > 0)
            if answer.over:
                return
            size = min(len(data), self._room(stream))
            piece, data = data[:size], data[size:]
            self.h2.send_data(stream, piece, end_stream=end and not data)
            await self.flush()
            if not data:
                return

    def _room(self, stream: int) -> int:
        try:
            return min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
        except h2.exceptions.ProtocolError:
            return 0

    async def send_trailers(self, stream: int, pairs: Pairs) -> None:
        """End a request with trailers."""
        self.h2.send_headers(stream, pairs, end_stream=True)
        await self.flush()

    async def reset(self, stream: int, code: int = 8) -> None:
        """Send RST_STREAM."""
        self.h2.reset_stream(stream, code)
        await self.flush()

    async def open_window(self, size: int, stream: int | None = None) -> None:
        """Send WINDOW_UPDATE."""
        self.h2.increment_flow_control_window(size, stream)
        await self.flush()

    # In.

    async def more(self) -> bool:
        """Read once; False at the end."""
        try:
            data = await self._reader.read(1 << 18)
        except ConnectionResetError:
            self.was_reset = True
            data = b""
        if not data:
            self.eof = True
            return False
        for event in self.h2.receive_data(data):
            self._take(event)
        await self.flush()
        return True

    async def until(self, holds: Callable[[], Any]) -> None:
        """Read until something holds.

        Raises:
            AssertionError: the connection ended before.
        """
        while not holds():
            assert await self.more(), f"the connection ended early: {self.answers} {self.goaways}"

    async def answer(self, stream: int) -> Answer:
        """The answer, as soon as it is over."""
        answer = self.answers[stream]
        await self.until(lambda: answer.over)
        return answer

    async def head(self, stream: int) -> Answer:
        """The answer, as soon as its head is there."""
        answer = self.answers[stream]
        await self.until(lambda: answer.status or answer.over)
        return answer

    async def get(self, path: str = "/", *fields: tuple[bytes, bytes], method: str = "GET") -> Answer:
        """A request without a body, and its whole answer."""
        return await self.answer(await self.request(method, path, *fields))

    async def gather(self, streams: Iterable[int]) -> list[Answer]:
        """The answers, as soon as all are over."""
        return [await self.answer(stream) for stream in streams]

    async def closed(self) -> None:
        """Read until prox ends the connection, and close."""
        while await self.more():
            pass
        await self.close()

    def _goaway(self, frame: GoAwayFrame) -> tuple[list[Any], list[Any]]:
        self.goaways.append((frame.error_code, frame.last_stream_id))
        return [], []

    def _take(self, event: h2.events.Event) -> None:
        stream = getattr(event, "stream_id", 0) or 0
        answer = self.answers.setdefault(stream, Answer()) if stream else Answer()
        if isinstance(event, h2.events.InformationalResponseReceived):
            pairs = _pairs(event.headers)
            answer.interims.append((int(pairs[0][1]), pairs[1:]))
        elif isinstance(event, h2.events.ResponseReceived):
            pairs = _pairs(event.headers)
            assert pairs[0][0] == b":status"
            answer.status = int(pairs[0][1])
            answer.fields = pairs[1:]
        elif isinstance(event, h2.events.DataReceived):
            answer.data += event.data or b""
            size = event.flow_controlled_length or 0
            if self.opens_windows and size:
                self.h2.acknowledge_received_data(size, stream)
            else:
                answer.unread += size
        elif isinstance(event, h2.events.TrailersReceived):
            answer.trailers = _pairs(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            answer.ended = True
        elif isinstance(event, h2.events.StreamReset):
            answer.reset = int(event.error_code or 0)
        elif isinstance(event, h2.events.PingReceived):
            self.pings += 1
        elif isinstance(event, h2.events.PingAckReceived):
            self.pongs += 1
        elif isinstance(event, h2.events.RemoteSettingsChanged):
            self.greeted = True


def _codes(settings: dict[int, int]) -> dict[h2.settings.SettingCodes, int]:
    return {h2.settings.SettingCodes(name): value for name, value in settings.items()}


def _pairs(headers: Any) -> Pairs:
    return [(bytes(name), bytes(value)) for name, value in headers]
