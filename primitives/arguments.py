"""What machines check of the arguments that anybody may have sent, and the answers that they share."""

from __future__ import annotations

from typing import Any, Final

from primitives.errors import Code
from primitives.limits import KEY_BYTES_MAX, VALUE_BYTES_MAX
from primitives.machine import Result

ENCODED_KEY_BYTES_MAX: Final = KEY_BYTES_MAX + 1
"""A key with the byte for its type."""

CONDITION: Final[Result] = (Code.CONDITION, b"")
PENDING: Final[Result] = (Code.PENDING, b"")
BAD_ARGS: Final[Result] = (Code.BAD_REQUEST, b"not the arguments of this operation")
BAD_KEY: Final[Result] = (Code.BAD_REQUEST, b"not a key")
BAD_VALUE: Final[Result] = (Code.BAD_REQUEST, b"not a value, or not values of these lengths")
TOO_LARGE: Final[Result] = (Code.TOO_LARGE, b"the command carries too much")


def indefinite(noun: str) -> str:
    """A noun with its article, for texts: ``a map``, ``an election``."""
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"


def bad_op(name: str) -> Result:
    """The refusal of an operation that primitives of the type called ``name`` do not have."""
    return Code.BAD_REQUEST, f"not an operation of {indefinite(name)}".encode()


def within(number: Any, least: int, most: int) -> bool:
    """Whether this is an int from ``least`` to ``most``."""
    return type(number) is int and least <= number <= most


def is_key(key: Any) -> bool:
    """Whether these may be the bytes of a key; see ``codec.encode_key``."""
    return type(key) is bytes and 0 < len(key) <= ENCODED_KEY_BYTES_MAX


def cut(body: bytes, lengths: list[Any], values_max: int) -> list[bytes] | Result:
    """The values that ``body`` holds one after the other, by their lengths; or the refusal of a body that
    holds others, or more than ``values_max``."""
    if len(lengths) > values_max or len(body) > VALUE_BYTES_MAX:
        return TOO_LARGE
    if not all(within(length, 1, len(body)) for length in lengths) or sum(lengths) != len(body):
        return BAD_VALUE
    values: list[bytes] = []
    start = 0
    for length in lengths:
        values.append(body[start : start + length])
        start += length
    return values
