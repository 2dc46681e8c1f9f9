"""Frames on the socket: calls with their envelope, results without.

A frame is a 4-byte big-endian length and then that many bytes of msgpack. Encoders and decoders are built
once. Whatever a reader does not like comes out as `DecodeError`, whatever a writer can't say as
`EncodeError`.
"""

from __future__ import annotations

import math
import struct
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from . import lenient
from .errors import DecodeError, EncodeError, FrameTooLarge
from .features import RESULT_KEYS
from .messages import (
    AuthorizeResult,
    ConnInfo,
    ConnResult,
    DisconnectInfo,
    Envelope,
    Payload,
    RequestInfo,
    ResponseModResult,
    ResponsePair,
    Result,
)
from .names import FEATURES, FRAME_LIMIT, HookType

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T", bound=msgspec.Struct)

PREFIX: Final = 4
"""Bytes of a frame's length prefix."""

# Length of the frame, a map of two with the key "t", the hook, the key "d", and the length of a bin: always
# the widest form of bin, so that the payload can be encoded behind it before its length is known.
_HEAD = struct.Struct(">I3sB3sI")
_HEAD_SIZE = _HEAD.size
_pack_head = _HEAD.pack_into
_MAP_T = b"\x82\xa1t"
_D_BIN32 = b"\xa1d\xc6"

_length = struct.Struct(">I")
_ARRAY = b"\xdd"
"""The widest form of an array's head, before its length."""
_encoder = msgspec.msgpack.Encoder()
_encode_into = _encoder.encode_into
_envelopes = msgspec.msgpack.Decoder(Envelope)

# The decoder takes any body, so what is declared is not yet true: compiled code would stop at reading it as such.
_body_of: Final[Callable[[AuthorizeResult], object]] = attrgetter("body")

_REFUSED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_TEXT = (str, bytes)
_UNSAYABLE = (UnicodeEncodeError, OverflowError, TypeError, RecursionError)


def marshal_envelope(hook: HookType, data: Payload, limit: int = FRAME_LIMIT) -> bytes:
    """The whole frame of a call, length prefix included.

    The payload is encoded straight into the buffer that holds the frame's head.

    Raises:
        EncodeError: the payload holds what the wire can't carry.
        FrameTooLarge: the frame is above `limit` bytes.
    """
    frame = bytearray(_HEAD_SIZE)
    try:
        _encode_into(data, frame, _HEAD_SIZE)
    except _UNSAYABLE as error:
        raise EncodeError(f"can't encode a call of {HookType(hook).hook_name}: {error}") from error
    size = len(frame)
    if size - PREFIX > limit:
        raise FrameTooLarge(size - PREFIX, limit)
    _pack_head(frame, 0, size - PREFIX, _MAP_T, hook, _D_BIN32, size - _HEAD_SIZE)
    return bytes(frame)


def unmarshal_envelope(frame: bytes) -> tuple[HookType, Payload]:
    """The hook and the payload of a whole frame: the inverse of `marshal_envelope`.

    Raises:
        DecodeError: it is no frame, or holds no call.
    """
    if len(frame) < PREFIX or _length.unpack_from(frame)[0] != len(frame) - PREFIX:
        raise DecodeError("the length prefix is not the length of the frame")
    return decode_call(frame[PREFIX:])


def decode_call(body: bytes) -> tuple[HookType, Payload]:
    """The hook and the payload of a call's frame without its length prefix.

    Raises:
        DecodeError: undecodable, an unknown hook, or a payload of the wrong shape.
    """
    try:
        envelope = _envelopes.decode(body)
    except _REFUSED:
        envelope = _second_reading(body, Envelope, FEATURES)
    call = _CALLS.get(envelope.hook)
    if call is None:
        raise DecodeError(f"{envelope.hook} is the number of no hook")
    hook, decode = call
    return hook, decode(envelope.data, FEATURES)


def encode_result(result: Result, limit: int = FRAME_LIMIT) -> bytes:
    """The whole frame of a hook's answer, length prefix included.

    Raises:
        EncodeError: the result holds what the wire can't carry.
        FrameTooLarge: the frame is above `limit` bytes.
    """
    try:
        body = _encoder.encode(result)
    except _UNSAYABLE as error:
        raise EncodeError(f"can't encode {type(result).__name__}: {error}") from error
    if len(body) > limit:
        raise FrameTooLarge(len(body), limit)
    return _length.pack(len(body)) + body


def decode_result(hook: HookType, body: bytes, features: frozenset[str] = FEATURES) -> Result:
    """The answer of a hook, from a frame without its length prefix.

    Args:
        hook: that answers.
        body: the frame.
        features: those of the plugin. What stands under keys of others may have any shape; `understood` takes it out.

    Raises:
        DecodeError: undecodable, or of the wrong shape: no `ok` in a verdict, a key twice, a status outside 200 to 599
            from on_response, a speed that is negative or no number.
    """
    decode = _RESULTS.get(hook)
    if decode is None:
        raise DecodeError(f"{hook!r} has no answer")
    return decode(body, features)


def decode_authorize(body: bytes, features: frozenset[str] = FEATURES) -> AuthorizeResult:
    """`decode_result` of on_request."""
    try:
        result = _authorize.decode(body)
    except _REFUSED:
        result = _second_reading(body, AuthorizeResult, features)
    else:
        if body[0] > _MAP_1:
            _check_keys(body)
    text = _body_of(result)
    if not isinstance(text, _TEXT):
        result = _second_reading(body, AuthorizeResult, features)
        text = _body_of(result)
        if not isinstance(text, _TEXT):
            raise DecodeError(f"AuthorizeResult: the body is {type(text).__name__}, not text or bytes")
    speed = result.speed
    if speed is not None:
        for rate in (speed.download_mbps, speed.upload_mbps):
            if not math.isfinite(rate) or rate < 0:
                raise DecodeError(f"{rate} Mbps is no speed")
    return result


def decode_response_mod(body: bytes, features: frozenset[str] = FEATURES) -> ResponseModResult:
    """`decode_result` of on_response."""
    result = _response_mod(body, features)
    if result.status and not 200 <= result.status <= 599:
        raise DecodeError(f"{result.status} is no status for an answer")
    return result


def _check_keys(body: bytes) -> None:
    """Refuse a map of several in which a key stands twice: msgspec takes the last, others may mean the first.

    A map is an array of keys and values but for its head, and so it is read. Most allowances have `ok` and one more
    key, and are not read: the other one is another where "ok" stands there once.

    Raises:
        DecodeError: a key stands there twice.
    """
    head = body[0]
    if head == _MAP_2 and body[1:4] == _OK and body.count(b"ok") == 1:
        return
    if head < _MAP_16:
        count, at = head & 15, 1
    elif head == _MAP_16:
        count, at = int.from_bytes(body[1:3], "big"), 3
    else:
        count, at = int.from_bytes(body[1:5], "big"), 5
    try:
        items = _items.decode(_ARRAY + _length.pack(2 * count) + body[at:])
    except _REFUSED:
        lenient.unpack(body)
        return
    if len(set(items[::2])) != count:
        raise DecodeError("a key stands there twice")


def _second_reading(body: bytes, shape: type[T], features: frozenset[str]) -> T:
    value = lenient.unpack(body)
    if isinstance(value, dict):
        for key, feature in RESULT_KEYS.items():
            if feature not in features:
                value.pop(key, None)
    try:
        return msgspec.convert(value, shape, builtin_types=(bytes,))
    except msgspec.MsgspecError as error:
        raise DecodeError(f"{shape.__name__}: {error}") from error


def _decoding(shape: type[T]) -> Callable[[bytes, frozenset[str]], T]:
    typed = msgspec.msgpack.Decoder(shape).decode

    def decode(body: bytes, features: frozenset[str]) -> T:
        try:
            return typed(body)
        except _REFUSED:
            return _second_reading(body, shape, features)

    return decode


def _decoding_result(shape: type[T]) -> Callable[[bytes, frozenset[str]], T]:
    typed = msgspec.msgpack.Decoder(shape).decode

    def decode(body: bytes, features: frozenset[str]) -> T:
        try:
            result = typed(body)
        except _REFUSED:
            return _second_reading(body, shape, features)
        if body[0] > _MAP_1:
            _check_keys(body)
        return result

    return decode


_MAP_1: Final = 0x81
_MAP_2: Final = 0x82
_MAP_16: Final = 0xDE
_OK: Final = b"\xa2ok"
_items = msgspec.msgpack.Decoder(list[Any])
_authorize = msgspec.msgpack.Decoder(AuthorizeResult)
_response_mod = _decoding_result(ResponseModResult)

_CALLS: Final[dict[int, tuple[HookType, Callable[[bytes, frozenset[str]], Payload]]]] = {
    HookType.ON_REQUEST: (HookType.ON_REQUEST, _decoding(RequestInfo)),
    HookType.ON_RESPONSE: (HookType.ON_RESPONSE, _decoding(ResponsePair)),
    HookType.ON_CONNECT: (HookType.ON_CONNECT, _decoding(ConnInfo)),
    HookType.ON_DISCONNECT: (HookType.ON_DISCONNECT, _decoding(DisconnectInfo)),
}
_RESULTS: Final[dict[HookType, Callable[[bytes, frozenset[str]], Result]]] = {
    HookType.ON_REQUEST: decode_authorize,
    HookType.ON_RESPONSE: decode_response_mod,
    HookType.ON_CONNECT: _decoding_result(ConnResult),
}
