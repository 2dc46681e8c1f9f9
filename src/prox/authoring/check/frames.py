"""Checks of what the plugin reads on its socket. Writers differ, so a reader takes every form of msgpack."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

from prox.authoring.running import send_bytewise
from prox.sdk.testing.frames import FrameConnection
from prox.wire import FRAME_LIMIT, HookType

from .model import CheckFailedError, Group
from .packing import call, frame, pack
from .samples import BARE, LEFT_OUT, PAYLOADS
from .subject import Subject, decoded

group = Group("frames", needs="frames.answered")


@group.check("answered", "frames", needs="ready.said")
def answered(subject: Subject) -> None:
    """A call is answered with one frame, a msgpack map without an envelope."""
    data = subject.frame()
    with subject.connection() as connection:
        subject.send(connection, data)
        try:
            answer = decoded(subject.answer(connection))
        except CheckFailedError as error:
            raise CheckFailedError(
                f"{error}\nEach answer is four bytes of length, big-endian, then msgpack."
            ) from None
        if not isinstance(answer, dict):
            raise CheckFailedError(f"the answer is no map: {answer!r}")
        if surplus := _more(connection, subject.patience.quiet):
            raise CheckFailedError(f"bytes come after the answer: {surplus[:80].hex(' ')}")


@group.check("split", "frames")
def split(subject: Subject) -> None:
    """A frame that arrives byte by byte is one frame."""

    def send(connection: FrameConnection) -> None:
        with contextlib.suppress(ConnectionError):
            send_bytewise(connection.sock.fileno(), connection.send, subject.frame(), subject.patience.answer)

    subject.same_answer(send, "a frame that comes byte by byte")


@group.check("many-in-turn", "frames")
def many_in_turn(subject: Subject) -> None:
    """One connection carries many calls, one after the other."""
    data = subject.frame()
    with subject.connection() as connection:
        for number in range(100):
            subject.send(connection, data)
            subject.answer(connection, f"call {number + 1} on one connection")


@group.check("limit", "frames")
def limit(subject: Subject) -> None:
    """A call of 1 MiB, the largest, is answered."""
    hook = subject.hook
    payload = dict(PAYLOADS[hook])

    def grown(size: int) -> bytes:
        """The call with so many bytes of a long text in it."""
        text = "x" * size
        match hook:
            case HookType.ON_REQUEST:
                return call(hook, pack(payload | {"h": {"X-Long": text}}))
            case HookType.ON_RESPONSE:
                return call(hook, pack(payload | {"resp": {"s": 200, "h": {"X-Long": text}}}))
            case _:
                return call(hook, pack(payload | {"mg": text}))

    size = FRAME_LIMIT - 1000
    largest = grown(size + FRAME_LIMIT + 4 - len(grown(size)))
    assert len(largest) == FRAME_LIMIT + 4
    subject.ask(largest, "a frame of 1 MiB")


@group.check("oversize", "frames")
def oversize(subject: Subject) -> None:
    """A frame above the limit, or one that claims to be, does no harm to other connections."""
    for size in (FRAME_LIMIT + 1, 2**32 - 1):
        with subject.connection() as connection:
            subject.send(connection, struct.pack(">I", size) + bytes(1000))
            subject.still_serves(f"a frame of {size} bytes has begun")


@group.check("garbage", "frames")
def garbage(subject: Subject) -> None:
    """A frame that can't be decoded does no harm to other connections."""
    hook = int(subject.hook)
    cases = {
        "an empty frame": frame(b""),
        "a frame that is no msgpack": frame(b"\xc1\xc1\xc1"),
        "a frame that is no map": frame(pack([1, 2])),
        "an envelope without payload": frame(pack({"t": hook})),
        "a payload that is no msgpack": call(hook, b"\xc1"),
        "a payload that is no map": call(hook, pack("text")),
        "a payload without its keys": call(hook, pack({})),
        "a payload with wrong types": call(hook, pack({"r": 1, "m": [], "h": 5, "req": 1, "d": {}})),
    }
    for what, data in cases.items():
        with subject.connection() as connection:
            subject.send(connection, data)
            subject.still_serves(what)


@group.check("unknown-hook", "frames")
def unknown_hook(subject: Subject) -> None:
    """A call of a hook that is not served, or that is none, does no harm to other connections."""
    unserved = [hook for hook in HookType if not subject.serves(hook)]
    for number in (*unserved, 0, 5, 200, -1):
        payload = pack(PAYLOADS[HookType(number)]) if number in unserved else pack({})
        with subject.connection() as connection:
            subject.send(connection, call(number, payload))
            subject.still_serves(f"a call with the hook number {int(number)}")


@group.check("key-order", "frames")
def key_order(subject: Subject) -> None:
    """Maps with their keys in another order mean the same."""
    hook = subject.hook
    data = call(hook, pack(PAYLOADS[hook], reverse=True), reverse=True)
    subject.same_answer(
        lambda connection: subject.send(connection, data), "a call with its keys in another order"
    )


@group.check("wide", "frames")
def wide(subject: Subject) -> None:
    """Integers, texts, maps and binaries in their widest forms mean the same."""
    hook = subject.hook
    data = call(hook, pack(PAYLOADS[hook], wide=True), wide=True)
    subject.same_answer(
        lambda connection: subject.send(connection, data), "a call in the widest forms of msgpack"
    )


@group.check("unknown-keys", "frames")
def unknown_keys(subject: Subject) -> None:
    """Keys that are not known are ignored."""
    hook = subject.hook
    later = {"zz": 1, "later": {"a": [1.5, None, b"\xff", -1, True]}}
    payload: dict[str, Any] = {**PAYLOADS[hook], **later}
    if hook is HookType.ON_RESPONSE:
        payload |= {"req": payload["req"] | later, "resp": payload["resp"] | later}
    data = call(hook, pack(payload), more=True)
    subject.same_answer(lambda connection: subject.send(connection, data), "a call with further keys")


@group.check("left-out", "frames")
def left_out(subject: Subject) -> None:
    """A call without all that may be left out is answered."""
    subject.ask(subject.frame(payload=BARE[subject.hook]), "a call without what may be left out")


@group.check("nil", "frames")
def nil(subject: Subject) -> None:
    """A nil stands for what is left out."""
    hook = subject.hook
    nothing = dict.fromkeys(LEFT_OUT if hook is not HookType.ON_CONNECT else ("md", "mg"))
    payload = dict(BARE[hook])
    if hook is HookType.ON_RESPONSE:
        payload["req"] = payload["req"] | nothing
    else:
        payload |= nothing
    subject.ask(subject.frame(payload=payload), "a call with nil for what may be left out")


@group.check("text", "frames")
def text(subject: Subject) -> None:
    """Text is UTF-8: characters of any length are read."""
    hook = subject.hook
    odd = "\u00e4\u20ac\U0001f600\x00\u00ff"
    request = PAYLOADS[HookType.ON_REQUEST] | {"p": f"/{odd}", "h": {"X-Text": odd}, "v": {odd: odd}}
    payload: dict[str, Any] = {
        HookType.ON_REQUEST: request,
        HookType.ON_RESPONSE: {"req": request, "resp": {"s": 200, "h": {"X-Text": odd}}},
        HookType.ON_CONNECT: PAYLOADS[HookType.ON_CONNECT] | {"mg": odd},
    }[hook]
    subject.ask(subject.frame(payload=payload), "a call with text beyond ASCII")


def _more(connection: FrameConnection, seconds: float) -> bytes:
    """What comes although nothing was asked; also the end, as nothing."""
    connection.sock.settimeout(seconds)
    try:
        return connection.sock.recv(65536)
    except (TimeoutError, ConnectionError):
        return b""
