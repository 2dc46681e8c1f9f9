"""An upstream that speaks HTTP/2 by the `h2` library, or breaks its rules by frames of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import h2.config
import h2.connection
import h2.events
import h2.settings
from hpack import Encoder

from support.upstream import Script, UpstreamPeer

Headers = list[tuple[bytes, bytes]]


@dataclass
class Request:
    """One request as it came."""

    stream: int
    headers: Headers
    body: bytes = b""
    ended: bool = False
    trailers: Headers = field(default_factory=list)

    def __getitem__(self, name: str) -> bytes:
        (value,) = [value for key, value in self.headers if key == name.encode()]
        return value

    def __contains__(self, name: str) -> bool:
        return any(key == name.encode() for key, _ in self.headers)


class Http2Peer:
    """One connection of prox's.

    Attributes:
        requests: by stream.
        resets: code by stream.
        goaway: prox's last word.
        pings: how many came.
    """

    def __init__(self, peer: UpstreamPeer, settings: dict[int, int] | None = None) -> None:
        config = h2.config.H2Configuration(
            client_side=False,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.peer = peer
        self.connection = h2.connection.H2Connection(config)
        if settings:
            self.connection.local_settings = h2.settings.Settings(
                client=False, initial_values=cast("Any", settings)
            )
        self.requests: dict[int, Request] = {}
        self.resets: dict[int, int] = {}
        self.goaway: int | None = None
        self.pings = 0
        self.automatic = True
        self.encoder = Encoder()

    async def start(self) -> None:
        """Say SETTINGS."""
        self.connection.initiate_connection()
        await self.flush()

    async def flush(self) -> None:
        """Send what the library has made."""
        data = self.connection.data_to_send()
        if data:
            await self.peer.send(data)

    async def more(self) -> bool:
        """Take what comes; False at the end of the connection."""
        if not await self.peer.more():
            return False
        data, self.peer._rest = self.peer._rest, b""
        for event in self.connection.receive_data(data):
            self._take(event)
        await self.flush()
        return True

    def _take(self, event: Any) -> None:
        match event:
            case h2.events.RequestReceived():
                self.requests[event.stream_id] = Request(event.stream_id, event.headers)
            case h2.events.DataReceived():
                self.requests[event.stream_id].body += event.data
                if self.automatic and event.flow_controlled_length:
                    self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.TrailersReceived():
                self.requests[event.stream_id].trailers = event.headers
            case h2.events.StreamEnded():
                self.requests[event.stream_id].ended = True
            case h2.events.StreamReset():
                self.resets[event.stream_id] = event.error_code
            case h2.events.ConnectionTerminated():
                self.goaway = event.error_code
            case h2.events.PingReceived():
                self.pings += 1

    async def until(self, holds: Callable[[], object]) -> None:
        """Read until it holds."""
        while not holds():
            assert await self.more(), "the connection ended"

    async def request(self, number: int = 0) -> Request:
        """The request of this number, whole."""
        await self.until(lambda: len(self.requests) > number and list(self.requests.values())[number].ended)
        return list(self.requests.values())[number]

    async def head(self, number: int = 0) -> Request:
        """The same as soon as its head is there."""
        await self.until(lambda: len(self.requests) > number)
        return list(self.requests.values())[number]

    async def answer(
        self, stream: int, body: bytes = b"ok", *headers: tuple[bytes, bytes], status: bytes = b"200"
    ) -> None:
        """Answer with a body that fits into the windows."""
        self.connection.send_headers(stream, [(b":status", status), *headers], end_stream=not body)
        if body:
            self.connection.send_data(stream, body, end_stream=True)
        await self.flush()

    async def raw_headers(self, stream: int, headers: Headers, *, end: bool = True) -> None:
        """HEADERS whatever they hold."""
        block = self.encoder.encode(headers)
        flags = 0x4 | (0x1 if end else 0)
        await self.frame(0x1, flags, stream, block)

    async def frame(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        """A frame, as it is."""
        await self.peer.send(
            len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
        )

    async def serve(self, body: bytes = b"ok") -> None:
        """Answer whatever comes from now on."""
        answered = set(self.requests)
        while await self.more():
            for stream, request in list(self.requests.items()):
                if request.ended and stream not in answered and stream not in self.resets:
                    answered.add(stream)
                    await self.answer(stream, body)


def speaking(
    script: Callable[[Http2Peer], Awaitable[None]],
    into: list[Http2Peer] | None = None,
    settings: dict[int, int] | None = None,
) -> Script:
    """A script for `Upstream`; peers are put into `into`."""

    async def run(peer: UpstreamPeer) -> None:
        spoken = Http2Peer(peer, settings)
        if into is not None:
            into.append(spoken)
        await spoken.start()
        await script(spoken)

    return run
