"""The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B).

The code is canonical, so the lengths say all of it. Decoding walks a machine that takes four bits a step; a state is a node
of the code's tree.
"""

from __future__ import annotations

from typing import Final

from .errors import COMPRESSION_ERROR, Http2Error

_EOS: Final = 256

# fmt: off
_LENGTHS: Final = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
]
# fmt: on


def _codes() -> list[int]:
    codes = [0] * len(_LENGTHS)
    code = length = 0
    for symbol in sorted(range(len(_LENGTHS)), key=_LENGTHS.__getitem__):
        code <<= _LENGTHS[symbol] - length
        length = _LENGTHS[symbol]
        codes[symbol] = code
        code += 1
    return codes


_CODES: Final = _codes()

# A step of the machine: the next state times 16, shifted by 10; with a flag and a symbol where one ends in the four bits.
# The shortest code has five bits, so at most one does.
_EMITS: Final = 256
_SHIFT: Final = 10
_WRONG: Final = -1


def _machine() -> tuple[list[int], list[bool]]:
    """All steps by state and four bits, and whether a string may end in a state (divided by 16)."""
    children: list[list[int]] = [[0, 0]]  # of inner nodes; a leaf is ~symbol
    for symbol, code in enumerate(_CODES):
        node = 0
        for place in range(_LENGTHS[symbol] - 1, 0, -1):
            bit = code >> place & 1
            if not children[node][bit]:
                children.append([0, 0])
                children[node][bit] = len(children) - 1
            node = children[node][bit]
        children[node][code & 1] = ~symbol
    steps: list[int] = []
    for state in range(len(children)):
        for bits in range(16):
            node = state
            emitted = 0
            for place in (3, 2, 1, 0):
                node = children[node][bits >> place & 1]
                if node < 0:
                    if ~node == _EOS:
                        emitted = _WRONG
                        break
                    emitted = _EMITS | ~node
                    node = 0
            steps.append(_WRONG if emitted == _WRONG else node << 4 + _SHIFT | emitted)
    # What is left over is the beginning of EOS, all ones, of less than a byte.
    final = [False] * len(children)
    node = 0
    for _ in range(8):
        final[node] = True
        node = children[node][1]
    return steps, final


_MACHINE: Final = _machine()
_STEPS: Final = _MACHINE[0]
_FINAL: Final = _MACHINE[1]


def decode(data: bytes) -> bytes:
    """The text of a coded string.

    Raises:
        Http2Error: COMPRESSION_ERROR where it holds EOS or its padding is not the beginning of EOS, or a byte or more.
    """
    steps = _STEPS
    text: list[int] = []
    state = 0
    for byte in data:
        step = steps[state + (byte >> 4)]
        if step < 0:
            raise Http2Error(COMPRESSION_ERROR, "EOS in a Huffman string", "compression")
        if step & 256:
            text.append(step & 255)
        step = steps[(step >> 10) + (byte & 15)]
        if step < 0:
            raise Http2Error(COMPRESSION_ERROR, "EOS in a Huffman string", "compression")
        if step & 256:
            text.append(step & 255)
        state = step >> 10
    if not _FINAL[state >> 4]:
        raise Http2Error(COMPRESSION_ERROR, "wrong padding of a Huffman string", "compression")
    return bytes(text)


def coded_size(text: bytes) -> int:
    """The bytes that `encode` would give."""
    lengths = _LENGTHS
    bits = 7
    for byte in text:
        bits += lengths[byte]
    return bits >> 3


def encode(text: bytes) -> bytes:
    """The coded string, padded."""
    coded: list[int] = []
    held = count = 0
    for byte in text:
        held = held << _LENGTHS[byte] | _CODES[byte]
        count += _LENGTHS[byte]
        while count >= 8:
            count -= 8
            coded.append(held >> count & 255)
        held &= (1 << count) - 1
    if count:
        coded.append((held << 8 - count | (1 << 8 - count) - 1) & 255)
    return bytes(coded)
