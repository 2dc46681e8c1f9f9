from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prox.http.codec.body import LAST_CHUNK, ChunkedDecoder, CloseDecoder, Decoder, LengthDecoder, chunk
from prox.http.codec.errors import BadMessageError


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` cut at places that `cuts` names, modulo its length."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(places)]


def read(decoder: Decoder, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """The body and what stands behind it, as a connection would read them."""
    body = b""
    for number, piece in enumerate(pieces):
        body += decoder.feed(piece)
        if decoder.done:
            return body, decoder.rest + b"".join(pieces[number + 1 :])
    return body, b""


ways = pytest.mark.parametrize("way", ["whole", "byte by byte"])


def cut(data: bytes, way: str) -> list[bytes]:
    return [data] if way == "whole" else [data[at : at + 1] for at in range(len(data))]


BEHIND = b"GET / HTTP/1.1\r\n"


@ways
@pytest.mark.parametrize("behind", [b"", BEHIND])
@pytest.mark.parametrize(
    ("encoded", "body"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"5\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\n\r\n", b"hello world"),
        (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
        (b"00005\r\nhello\r\n000\r\n\r\n", b"hello"),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
        (b'5;a\r\nhello\r\n0;b=c;d="e;\\"f"\r\n\r\n', b"hello"),
        (b"0\r\nA: b\r\nC:\r\n\r\n", b""),
        (b"1\r\nx\r\n0\r\nContent-Length: 5\r\nHost: evil\r\n\r\n", b"x"),
    ],
)
def test_chunked_bodies(encoded: bytes, body: bytes, behind: bytes, way: str) -> None:
    decoder = ChunkedDecoder()
    assert read(decoder, cut(encoded + behind, way)) == (body, behind)
    assert decoder.done
    decoder.eof()


@ways
@pytest.mark.parametrize(
    "encoded",
    [
        b"\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5\t\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5_0\r\nhello\r\n0\r\n\r\n",
        b"g\r\nhello\r\n0\r\n\r\n",
        b"\xb2\r\nhello\r\n0\r\n\r\n",
        b"1000000000000000\r\n",
        b"ffffffffffffffffffff5\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\rhello\r\n0\r\n\r\n",
        b"5\r\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\rX0\r\n\r\n",
        b"5\r\nhelloworld\r\n0\r\n\r\n",
        b"5\r\nhello\r\n\r\n0\r\n\r\n",
        b"5;\r\nhello\r\n0\r\n\r\n",
        b"5;;a\r\nhello\r\n0\r\n\r\n",
        b"5; a\r\nhello\r\n0\r\n\r\n",
        b"5;a =b\r\nhello\r\n0\r\n\r\n",
        b"5;a=\r\nhello\r\n0\r\n\r\n",
        b'5;a="b\r\nhello\r\n0\r\n\r\n',
        b"5;a=b\nc\r\nhello\r\n0\r\n\r\n",
        b"5;a=\x00\r\nhello\r\n0\r\n\r\n",
        b"5,a\r\nhello\r\n0\r\n\r\n",
        b"0\r\n\n",
        b"0\r\nA: b\n\r\n",
        b"0\r\nA : b\r\n\r\n",
        b"0\r\nA\r\n\r\n",
        b"0\r\n: b\r\n\r\n",
        b"0\r\nA: b\x00\r\n\r\n",
        b"0\r\nA: b\r\n c\r\n\r\n",
        b"0\r\nA: b\rc\r\n\r\n",
    ],
)
def test_chunked_bodies_that_are_refused(encoded: bytes, way: str) -> None:
    decoder = ChunkedDecoder()
    with pytest.raises(BadMessageError) as caught:
        read(decoder, cut(encoded, way))
    assert caught.value.status == 400


@ways
@pytest.mark.parametrize(
    ("encoded", "status"),
    [
        (b"5;" + b"a" * 5000 + b"\r\n", 400),
        (b"0\r\nA: " + b"b" * 20000 + b"\r\n\r\n", 431),
        (b"0\r\n" + b"A: b\r\n" * 4000 + b"\r\n", 431),
    ],
    ids=["extension", "one trailer", "many trailers"],
)
def test_endless_lines_are_refused_before_their_end(encoded: bytes, status: int, way: str) -> None:
    decoder = ChunkedDecoder()
    with pytest.raises(BadMessageError) as caught:
        read(decoder, cut(encoded, way))
    assert caught.value.status == status


@ways
def test_framing_out_of_proportion_is_refused(way: str) -> None:
    """RFC 9112 section 7.1.1: the total length of extensions is limited, but not for who sends data too."""
    decoder = ChunkedDecoder()
    read(decoder, cut((b"1\r\nx\r\n" * 5000) + (b"100;a=b\r\n" + b"x" * 256 + b"\r\n") * 50, way))
    pieces = cut((b"1;" + b"a" * 1000 + b"\r\nx\r\n") * 20, way)
    with pytest.raises(BadMessageError, match="framing") as caught:
        read(decoder, pieces)
    assert caught.value.status == 400


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=8),
    st.lists(st.integers(min_value=0), max_size=12),
    st.sampled_from([b"", BEHIND, b"0\r\n\r\n", b"\r\n"]),
)
def test_what_is_chunked_is_read_again_wherever_it_is_cut(
    chunks: list[bytes], cuts: list[int], behind: bytes
) -> None:
    encoded = b"".join(chunk(data) for data in chunks) + LAST_CHUNK
    decoder = ChunkedDecoder()
    assert read(decoder, pieces_of(encoded + behind, cuts)) == (b"".join(chunks), behind)
    assert decoder.done


@given(st.binary(max_size=80), st.lists(st.integers(min_value=0), max_size=10))
def test_any_bytes_read_the_same_wherever_they_are_cut(data: bytes, cuts: list[int]) -> None:
    """Framing by a naive reading of RFC 9112 section 7.1 is the judge of what is a whole chunked body."""
    expected = naive(data)
    decoder = ChunkedDecoder()
    try:
        found = read(decoder, pieces_of(data, cuts))
    except BadMessageError:
        assert expected is None
        return
    if decoder.done:
        assert found == expected
    else:
        assert expected is None
        with pytest.raises(BadMessageError):
            decoder.eof()


@given(
    st.lists(
        st.sampled_from(
            [
                b"0",
                b"3",
                b"\r\n",
                b"\n",
                b"\r",
                b"abc",
                b";",
                b"a=b",
                b" ",
                b"A: b",
                b"3\r\nabc\r\n",
                b"0\r\n\r\n",
            ]
        ),
        max_size=9,
    ),
    st.lists(st.integers(min_value=0), max_size=6),
)
def test_nearly_right_bytes_read_the_same_wherever_they_are_cut(parts: list[bytes], cuts: list[int]) -> None:
    test_any_bytes_read_the_same_wherever_they_are_cut.hypothesis.inner_test(b"".join(parts), cuts)  # type: ignore[attr-defined] # hypothesis keeps the function there


def naive(data: bytes) -> tuple[bytes, bytes] | None:
    """Body and rest of a whole chunked message without quoted extensions, None where it is none."""
    body = b""
    token = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    while True:
        line, found, data = data.partition(b"\r\n")
        if not found:
            return None
        size, *extensions = line.split(b";")
        if not size or size.strip(b"0123456789abcdefABCDEF") or len(size) > 15:
            return None
        for extension in extensions:
            name, equals, value = extension.partition(b"=")
            if not name or name.strip(token) or (equals and (not value or value.strip(token))):
                return None
        length = int(size, 16)
        if not length:
            break
        if data[length : length + 2] != b"\r\n":
            return None
        body += data[:length]
        data = data[length + 2 :]
    while True:
        line, found, data = data.partition(b"\r\n")
        if not found:
            return None
        if not line:
            return body, data
        name, colon, value = line.partition(b":")
        if (
            not name
            or not colon
            or name.strip(token)
            or any((byte < 32 and byte != 9) or byte == 127 for byte in value)
        ):
            return None


@ways
@pytest.mark.parametrize("behind", [b"", BEHIND])
def test_a_body_of_known_length(behind: bytes, way: str) -> None:
    decoder = LengthDecoder(11)
    assert read(decoder, cut(b"hello world" + behind, way)) == (b"hello world", behind)
    assert decoder.done
    decoder.eof()


def test_a_body_of_known_length_that_is_short() -> None:
    decoder = LengthDecoder(5)
    assert decoder.feed(b"hell") == b"hell"
    assert not decoder.done
    with pytest.raises(BadMessageError) as caught:
        decoder.eof()
    assert caught.value.reason == "truncated"


def test_a_chunked_body_that_is_short() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(b"5\r\nhello\r\n0\r\n")
    with pytest.raises(BadMessageError) as caught:
        decoder.eof()
    assert caught.value.reason == "truncated"


def test_a_body_that_ends_with_the_connection() -> None:
    decoder = CloseDecoder()
    assert decoder.feed(b"abc") == b"abc"
    assert not decoder.done
    decoder.eof()
    assert decoder.done


def test_data_passes_before_its_chunk_is_whole() -> None:
    decoder = ChunkedDecoder()
    assert decoder.feed(b"ff\r\nabc") == b"abc"
    assert decoder.feed(b"def") == b"def"
