"""Bytes of arguments, values, keys and names. The only import of cbor2.

Three kinds of bytes, by who reads them:

- An *envelope* is one flat CBOR array: arguments of a command, a frame's control part. Servers decode it,
  from anybody, so :func:`unpack` refuses whatever :func:`pack` does not make.
- A *value* is CBOR in its deterministic form (RFC 8949, section 4.2.1). Clients make and read it; for servers
  it is opaque, and equality is of its bytes.
- A *key* is one byte for its type and then bytes that sort as the keys do.

cbor2 lets much through on both ways: tuples, sets, Decimals, integers beyond 64 bits, tags, trailing bytes,
``undefined``; and deeply nested lists crash its encoder. So types, depth and range are checked here before it
encodes, and after it decoded.
"""

from __future__ import annotations

import struct
import unicodedata
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any, Final, NoReturn

from cbor2 import CBORDecodeError, CBORDecoder, CBOREncodeError, dumps, loads

from primitives.errors import TooLarge
from primitives.limits import (
    ENVELOPE_BYTES_MAX,
    INT_MAX,
    INT_MIN,
    KEY_BYTES_MAX,
    NAME_BYTES_MAX,
    VALUE_BYTES_MAX,
    VALUE_DEPTH_MAX,
)

Value = Any
"""What users may store: None, bool, int (64-bit), float, str, bytes, list, dict with str keys, datetime."""
Key = str | bytes | int

ENVELOPE_DEPTH_MAX: Final = 4
"""Containers within containers of an envelope, the whole included. Its bytes bound its elements."""

ERROR_CHARS_MAX: Final = 200
"""Of what cbor2 says: it may repeat what it read."""

_KNOWN_TAGS: Final = (
    0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799,
)  # fmt: skip
"""Tags that cbor2 decodes by itself, without asking ``tag_hook``; a test looks for further ones."""


def _refuse(value: object, immutable: bool) -> NoReturn:
    raise ValueError("a tag")


def _decode_datetime(value: object, immutable: bool) -> datetime:
    if type(value) is not str:
        raise ValueError("a date that is no text")
    moment = datetime.fromisoformat(value)
    if moment.utcoffset() is None:
        raise ValueError("a date without a time zone")
    return moment


_ENVELOPE_TAGS: Final = dict.fromkeys(_KNOWN_TAGS, _refuse)
_VALUE_TAGS: Final = {**_ENVELOPE_TAGS, 0: _decode_datetime}

_MARK: Final = b"quorate!"
_MARK_ITEM: Final = b"\x48" + _MARK

_ONE_SHORT: Final = tuple(bytes((0x81, 0x40 + size)) for size in range(24))
"""By its length, what an envelope of one short byte string begins with. Most commands carry just that, a key,
so it is made and read without cbor2."""
_NOTHING: Final = b"\x80"
_TINY: Final[dict[bytes, list[int]]] = {_NOTHING: [], **{bytes((0x81, n)): [n] for n in range(24)}}
"""Envelopes of nothing, and of one small number, as counters and locks have."""

_BYTES_HEADS: Final[tuple[bytes, ...]] = tuple(dumps(bytes(size))[: -size or None] for size in range(256))
_STR_HEADS: Final[tuple[bytes, ...]] = tuple(dumps("x" * size)[: -size or None] for size in range(256))
"""By its length, what a short string of bytes or of text begins with. Most values are just that, so they are
made and read without cbor2."""
_TINY_STRING_MAX: Final = 23
"""Up to this length, a string begins with one byte, and with two beyond."""

_ENVELOPE_SCALARS: Final = frozenset((int, bytes, str, type(None), bool, float))
_PLAIN: Final = frozenset((bytes, str, type(None), bool, float))
"""Types that a value may have and that need no further look."""
_VALUE_LEVELS_MAX: Final = VALUE_DEPTH_MAX + 3
"""cbor2's levels of a value: it counts each tag and each scalar as one more."""


def pack(items: list[Any]) -> bytes:
    """An envelope of ``items``: None, bool, int (-2⁶³ to 2⁶⁴-1), float, str, bytes and small lists or dicts
    of these. The same items give the same bytes. Raises :class:`TooLarge` over ``ENVELOPE_BYTES_MAX``."""
    if len(items) == 1 and type(items[0]) is bytes and len(items[0]) < len(_ONE_SHORT):
        return _ONE_SHORT[len(items[0])] + items[0]
    if not items:
        return _NOTHING
    data: bytes = dumps(items, canonical=True)
    if len(data) > ENVELOPE_BYTES_MAX:
        raise TooLarge(f"arguments of {len(data)} bytes; at most {ENVELOPE_BYTES_MAX} are carried")
    return data


def unpack(data: bytes) -> list[Any]:
    """The items of an envelope from an untrusted source. Raises ValueError unless it is one array of at most
    ``ENVELOPE_BYTES_MAX``, at most ``ENVELOPE_DEPTH_MAX`` deep, without tags, indefinite lengths, duplicate
    keys, undefined or simple values, and with nothing behind it."""
    size = len(data)
    if 1 < size < len(_ONE_SHORT) + 2 and data[:2] == _ONE_SHORT[size - 2]:
        return [data[2:]]
    if size <= 2 and (tiny := _TINY.get(data)) is not None:
        return [*tiny]
    if size > ENVELOPE_BYTES_MAX:
        raise ValueError(f"an envelope of {size} bytes")
    items = _decode(data, _ENVELOPE_TAGS, ENVELOPE_DEPTH_MAX)
    if type(items) is not list:
        raise ValueError("not an array")
    scalars = _ENVELOPE_SCALARS
    for item in items:
        if type(item) not in scalars:
            _check_envelope(item)
    return items


def _decode(data: bytes, tags: dict[int, Any], depth: int) -> Any:
    """The only item in ``data``; ValueError for anything that cbor2 or we refuse.

    cbor2's ``loads`` does not say how far it came. So a mark is put behind the data and both are decoded as a
    pair: what comes second is the mark only if the first ended where the data did. That holds as long as the
    data do not contain the mark; if they do, the slower decoder of streams tells the place.
    """
    try:
        if _MARK not in data:
            item, mark = loads(
                b"\x82" + data + _MARK_ITEM, tag_hook=_refuse, semantic_decoders=tags, max_depth=depth,
                allow_indefinite=False, allow_duplicate_keys=False,
            )  # fmt: skip
            if mark == _MARK:
                return item
        else:
            stream = BytesIO(data)
            item = CBORDecoder(
                stream, tag_hook=_refuse, semantic_decoders=tags, max_depth=depth - 1,
                allow_indefinite=False, allow_duplicate_keys=False,
            ).decode()  # fmt: skip
            if stream.tell() == len(data):
                return item
    except (CBORDecodeError, ValueError, TypeError, OverflowError) as error:
        text = str(error)[:ERROR_CHARS_MAX]
        raise ValueError(f"not the CBOR expected: {text}") from error
    raise ValueError("bytes behind the CBOR")


def _check_envelope(item: Any) -> None:
    kind = type(item)
    if kind is list:
        for part in item:
            _check_envelope(part)
    elif kind is dict:
        for key, part in item.items():
            if type(key) is not str and type(key) is not int:
                raise ValueError(f"a key of type {type(key).__name__}")
            _check_envelope(part)
    elif kind not in _ENVELOPE_SCALARS:
        raise ValueError(f"an item of type {kind.__name__}")


def encode_value(value: Value) -> bytes:
    """The deterministic bytes of a user's value.

    Raises TypeError, naming the part, for anything that cannot be carried (an integer beyond 64 bits, a naive
    datetime, a tuple, a subclass), and :class:`TooLarge` beyond depth ``VALUE_DEPTH_MAX`` or
    ``VALUE_BYTES_MAX`` bytes.
    """
    kind = type(value)
    try:
        if kind is bytes:
            if len(value) < len(_BYTES_HEADS):
                return _BYTES_HEADS[len(value)] + value  # type: ignore[no-any-return]  # compared above
        elif kind is str:
            text: bytes = value.encode()
            if len(text) < len(_STR_HEADS):
                return _STR_HEADS[len(text)] + text
        else:
            _check_value(value, ())
        data: bytes = dumps(value, canonical=True)
    except (UnicodeEncodeError, CBOREncodeError) as error:
        raise TypeError(f"the value cannot be carried: {error}") from error
    if len(data) > VALUE_BYTES_MAX:
        raise TooLarge(f"a value of {len(data)} bytes; at most {VALUE_BYTES_MAX} are stored")
    return data


def decode_value(data: bytes) -> Value:
    """The value in ``data``; raises ValueError if :func:`encode_value` cannot have made it."""
    size = len(data)
    if 0 < size < len(_BYTES_HEADS) + 2:
        at = 1 if size <= _TINY_STRING_MAX + 1 else 2
        head = data[:at]
        if head == _BYTES_HEADS[size - at]:
            return data[at:]
        if head == _STR_HEADS[size - at]:
            try:
                return data[at:].decode()
            except UnicodeDecodeError:
                pass  # cbor2 says what is wrong with it.
    value = _decode(data, _VALUE_TAGS, _VALUE_LEVELS_MAX)
    kind = type(value)
    if kind is not bytes and kind is not str:
        try:
            _check_value(value, ())
        except (TypeError, TooLarge) as error:
            raise ValueError(str(error)) from error
    return value


def _check_value(value: Value, path: tuple[object, ...]) -> None:
    """Raises TypeError or TooLarge unless ``value`` may be stored; ``path`` leads to it from the whole."""
    kind = type(value)
    if kind in _PLAIN:
        return
    if kind is int:
        if not INT_MIN <= value <= INT_MAX:
            raise TypeError(f"{_where(path)} is an integer beyond 64 bits")
    elif kind is datetime:
        offset = value.utcoffset()
        if offset is None:
            raise TypeError(f"{_where(path)} is a datetime without a time zone")
        if offset % timedelta(minutes=1):
            raise TypeError(f"{_where(path)} is a datetime whose time zone is not of whole minutes")
    elif kind is not list and kind is not dict:
        raise TypeError(f"{_where(path)} is of type {kind.__name__}, which cannot be carried")
    elif len(path) == VALUE_DEPTH_MAX:
        raise TooLarge(f"the value is nested deeper than {VALUE_DEPTH_MAX} levels")
    elif kind is list:
        for at, part in enumerate(value):
            if type(part) not in _PLAIN:
                _check_value(part, (*path, at))
    else:
        for key, part in value.items():
            if type(key) is not str:
                raise TypeError(f"{_where(path)} has a key of type {type(key).__name__}; dicts' keys are str")
            if type(part) not in _PLAIN:
                _check_value(part, (*path, key))


def _where(path: tuple[object, ...]) -> str:
    return "the value" if not path else "the value's part " + "".join(f"[{step!r}]" for step in path)


_INT_KEY: Final = 1
_BYTES_KEY: Final = 2
_STR_KEY: Final = 3
_INT: Final = struct.Struct(">BQ")
_STR_PREFIX: Final = bytes((_STR_KEY,))
_BYTES_PREFIX: Final = bytes((_BYTES_KEY,))


def encode_key(key: Key) -> bytes:
    """Bytes of an entry's key: ints before bytes before strs, each in its own order (strs by code point).

    Keys are taken as given: not normalized, control characters allowed. Raises TypeError for other types,
    an integer beyond 64 bits or text that is not Unicode; :class:`TooLarge` over ``KEY_BYTES_MAX``.
    """
    kind = type(key)
    if kind is str:
        try:
            data = _STR_PREFIX + key.encode()  # type: ignore[union-attr]  # its type was compared above
        except UnicodeEncodeError as error:
            raise TypeError(f"the key is not Unicode text: {error}") from error
    elif kind is bytes:
        data = _BYTES_PREFIX + key  # type: ignore[operator]  # as above
    elif kind is int:
        if not INT_MIN <= key <= INT_MAX:  # type: ignore[operator]  # as above
            raise TypeError("the key is an integer beyond 64 bits")
        return _INT.pack(_INT_KEY, key - INT_MIN)  # type: ignore[operator]  # as above
    else:
        raise TypeError(f"the key is of type {kind.__name__}; keys are str, bytes or int")
    if len(data) > KEY_BYTES_MAX + 1:
        raise TooLarge(f"a key of {len(data) - 1} bytes; at most {KEY_BYTES_MAX} are carried")
    return data


def decode_key(data: bytes) -> Key:
    """The inverse of :func:`encode_key`; raises ValueError for bytes that it does not make."""
    kind = data[0] if data else 0
    if kind == _INT_KEY and len(data) == _INT.size:
        number: int = _INT.unpack(data)[1]
        return number + INT_MIN
    if len(data) <= KEY_BYTES_MAX + 1:
        if kind == _STR_KEY:
            return data[1:].decode()
        if kind == _BYTES_KEY:
            return data[1:]
    raise ValueError("not the bytes of a key")


def check_name(name: str, what: str = "name") -> str:
    """``name`` in NFC, if it may be the name of ``what``: 1 to ``NAME_BYTES_MAX`` bytes of UTF-8 without
    control characters. Raises TypeError, ValueError or :class:`TooLarge`, with a text for people."""
    if type(name) is not str:
        raise TypeError(f"a {what} is a str, not {type(name).__name__}")
    if name.isascii():
        size = len(name)
    else:
        try:
            name = unicodedata.normalize("NFC", name)
            size = len(name.encode())
        except UnicodeEncodeError:
            raise ValueError(f"the {what} is not Unicode text") from None
    if size > NAME_BYTES_MAX:
        raise TooLarge(f"a {what} of {size} bytes; at most {NAME_BYTES_MAX} are carried")
    if not name:
        raise ValueError(f"the {what} is empty")
    if not name.isprintable():
        for character in name:
            if unicodedata.category(character) == "Cc":
                raise ValueError(f"the {what} has a control character, U+{ord(character):04X}")
    return name


def check_namespace(namespace: str) -> str:
    """Like :func:`check_name`; the empty one is the default namespace."""
    return namespace if namespace == "" else check_name(namespace, "namespace")
