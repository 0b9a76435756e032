"""Values, keys and times as people type them, and as they are shown."""

from __future__ import annotations

import base64
import json
import math
import re
from datetime import datetime
from typing import Any, Final, NoReturn

from ops.exits import UsageError
from primitives.codec import Key, encode_key, encode_value
from primitives.errors import BadPosition
from primitives.handle import LINEARIZABLE, SEQUENTIAL, Causal, ReadLevel, Stale
from primitives.limits import INT_MAX, INT_MIN
from primitives.position import Position

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_WHOLE_LENGTH_MAX: Final = 4000
"""Longer ones are not looked at, and Python refuses to."""
_WHOLE: Final = re.compile(r"[+-]?[0-9]+")
_SIZES: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_LEVELS: Final = {"linearizable": LINEARIZABLE, "sequential": SEQUENTIAL}
READ_LEVELS: Final = "linearizable, sequential, stale:DURATION and causal:POSITION"
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")


def _refuse_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is not JSON", name, 0)


def parse_value(text: str, *, as_text: bool = False) -> Any:
    """The value that ``text`` stands for: JSON if it parses as such, else the text itself; with ``as_text``
    always the text. Raises :class:`UsageError` for what cannot be carried (an integer beyond 64 bits)."""
    value: Any = text
    if not as_text:
        try:
            value = json.loads(text, parse_constant=_refuse_constant)
        except json.JSONDecodeError:
            value = text
        except (ValueError, RecursionError):
            # The JSON is sound, but a number has too many digits or the nesting is too deep to read.
            raise UsageError("the value is too long a number or too deeply nested; use --text") from None
    try:
        encode_value(value)
    except TypeError as error:
        raise UsageError(str(error)) from None
    if type(value) is float and not math.isfinite(value):
        raise UsageError(f"{text} is beyond the range of a 64-bit float; use --text to store it as text")
    return value


def parse_key(text: str, kind: str = "text") -> Key:
    """The key that ``text`` stands for; ``kind`` is ``text``, ``int`` or ``hex`` (bytes). Raises
    :class:`UsageError`."""
    try:
        key: Key = text if kind == "text" else int(text) if kind == "int" else bytes.fromhex(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a key of kind {kind}") from None
    try:
        encode_key(key)
    except TypeError as error:
        raise UsageError(str(error)) from None
    return key


def parse_whole(text: str) -> int:
    """A whole number of 64 bits, in decimal digits. Raises ValueError: nothing is rounded."""
    if _WHOLE.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a whole number")
    if len(text) > _WHOLE_LENGTH_MAX or not INT_MIN <= int(text) <= INT_MAX:
        raise ValueError(f"{text} is beyond 64 bits")
    return int(text)


def parse_seconds(text: str) -> float:
    """A duration such as ``90``, ``1.5s``, ``250ms``, ``2h`` or ``7d``, in seconds, above 0. Raises
    ValueError."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not float(match[1]):
        raise ValueError(f"{text!r} is not a duration above 0 such as 90, 1.5s, 250ms, 2h or 7d")
    return float(match[1]) * _UNITS[match[2] or "s"]


def parse_read(text: str) -> ReadLevel:
    """A read level: one of ``READ_LEVELS``. Raises ValueError."""
    level, colon, rest = text.partition(":")
    if not colon and level in _LEVELS:
        return _LEVELS[level]
    if colon and level == "stale":
        return Stale(max_age=parse_seconds(rest))
    if colon and level == "causal":
        return Causal(position=parse_position(rest))
    raise ValueError(f"{text!r} is not a read level; there are {READ_LEVELS}")


def parse_position(text: str) -> Position:
    """A position, as it was printed. Raises ValueError for what is none."""
    try:
        return Position.parse(text)
    except BadPosition as error:
        raise ValueError(str(error)) from None


def show_seconds(seconds: float) -> str:
    """A duration for people, to two or three digits: ``250ms``, ``4.2s``, ``12m``, ``3.5h``, ``7d``."""
    for unit, size in reversed(_UNITS.items()):
        if abs(seconds) >= size:
            return f"{_digits(seconds / size)}{unit}"
    return f"{_digits(seconds * 1000)}ms" if seconds else "0s"


def show_bytes(count: float) -> str:
    """A size for people, to two or three digits, in powers of 1,024: ``512 B``, ``1.5 KiB``, ``64 MiB``."""
    size, unit = float(count), 0
    while abs(size) >= 999.5 and unit < len(_SIZES) - 1:
        size, unit = size / 1024, unit + 1
    return f"{_digits(size)} {_SIZES[unit]}"


def _digits(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0") if abs(number) < 9.95 else f"{number:.0f}"


def jsonable(value: Any) -> Any:
    """``value`` with JSON's types only: bytes become ``{"base64": …}``, a datetime ``{"datetime": …}``, and
    a float that is no number its name as text."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        return {"datetime": value.isoformat()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list | tuple):
        return [jsonable(part) for part in value]
    if isinstance(value, dict):
        return {key if isinstance(key, str) else show(key): jsonable(part) for key, part in value.items()}
    return value


def to_json(value: Any, *, indent: int | None = None) -> str:
    """``value`` as JSON text, after :func:`jsonable`."""
    return json.dumps(jsonable(value), ensure_ascii=False, allow_nan=False, indent=indent)


def show(value: Any) -> str:
    """``value`` for people and shells: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else to_json(value)
