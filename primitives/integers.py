"""Stored integers, which a machine may add to without decoding any other value.

The bytes are those of ``codec.encode_value``: CBOR's deterministic form (RFC 8949, section 4.2.1), major type
0 for what is not negative and 1 for ``-1 - n``, with the shortest argument.
"""

from __future__ import annotations

from typing import Final

from primitives.limits import INT_MAX

_SIZES: Final = {24: 1, 25: 2, 26: 4, 27: 8}
_LEAST: Final = {24: 24, 25: 1 << 8, 26: 1 << 16, 27: 1 << 32}
"""The least argument for which a form is the shortest."""


def encode_integer(number: int) -> bytes:
    """The value bytes of a 64-bit ``number`` with sign."""
    major, argument = (0x00, number) if number >= 0 else (0x20, -1 - number)
    if argument < 24:
        return bytes((major | argument,))
    for form, size in _SIZES.items():
        if argument < 1 << (8 * size):
            return bytes((major | form,)) + argument.to_bytes(size, "big")
    raise ValueError("an integer beyond 64 bits")


def decode_integer(value: bytes) -> int | None:
    """The number that ``value`` is the bytes of; None if it is another kind of value."""
    if not value or value[0] >= 0x40:
        return None
    form = value[0] & 0x1F
    if form < 24:
        argument = form
    elif form not in _SIZES or len(value) != 1 + _SIZES[form]:
        return None
    else:
        argument = int.from_bytes(value[1:], "big")
        if argument < _LEAST[form]:
            return None
    if argument > INT_MAX or (form < 24 and len(value) != 1):
        return None
    return argument if value[0] < 0x20 else -1 - argument
