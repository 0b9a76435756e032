"""What commands take: the types of their arguments and options, with how each is read and checked.

A command of a primitive declares ``key: KeyArgument`` and ``value: ValueArgument``; it then gets the key and
the value themselves, and has the options that say how they are meant (``--key-as``, ``--text``).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, Final, Literal, TypeVar

from cyclopts import Group, Parameter, Token

from ops.exits import UsageError
from ops.values import parse_read, parse_seconds, parse_whole
from primitives.codec import Key
from primitives.handle import ReadLevel

T = TypeVar("T")

GLOBAL: Final = Group("Global options", sort_key=90)


class Meaning(Enum):
    """How a text that was typed is to be read, once all options are known."""

    KEY = "key"
    VALUE = "value"


class Absent(Enum):
    """The type of :data:`ABSENT`."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT
"""Stands for a value that was not given, since None is one."""


def read_by(parse: Callable[[str], T], shown: str) -> Parameter:
    """An option or argument that is one token, read by ``parse``, which raises ValueError; helps show it as
    ``shown``."""

    def convert(type_: Any, tokens: Any) -> T:
        token: Token = tokens[0]
        return parse(token.value)

    return Parameter(converter=convert, n_tokens=1, metavar=shown, accepts_keys=False)


def _positive(text: str) -> int:
    number = parse_whole(text)
    if number < 1:
        raise ValueError(f"{text}: expected a number above 0")
    return number


def _words(text: str) -> tuple[str, ...]:
    words = tuple(part.strip() for part in text.split(","))
    if not all(words):
        raise ValueError(f"{text!r}: expected names, with commas between them")
    return words


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(parse_whole(part) for part in text.split(","))


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_positive(part) for part in text.split(","))


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise ValueError(f"{text}: expected calls a second, above 0")
    return rate


def _revision(text: str) -> int:
    number = parse_whole(text)
    if number < 0:
        raise ValueError(f"{text}: a revision is not negative")
    return number


def _exclusive(arguments: Any) -> None:
    names = [argument.name for argument in arguments.filter_by(value_set=True)]
    if len(names) > 1:
        raise UsageError(f"{' and '.join(names)} exclude one another")


CONDITIONS: Final = Group("Conditions", validator=_exclusive, help="One of them at the most.", sort_key=50)

Condition = Parameter(group=CONDITIONS)
"""Marks an option as one of them."""

Whole = Annotated[int, read_by(parse_whole, "N")]
"""A whole number of 64 bits; cyclopts's own conversion rounds."""
Positive = Annotated[int, read_by(_positive, "N")]
Words = Annotated[tuple[str, ...], read_by(_words, "NAME,…"), Parameter(negative="")]
Numbers = Annotated[tuple[int, ...], read_by(_numbers, "N,…"), Parameter(negative="")]
Counts = Annotated[tuple[int, ...], read_by(_counts, "N,…"), Parameter(negative="")]
"""Numbers above 0."""
Rate = Annotated[float, read_by(_rate, "N")]
Revision = Annotated[int, read_by(_revision, "N")]
Seconds = Annotated[float, read_by(parse_seconds, "DURATION")]
Flag = Annotated[bool, Parameter(negative="", show_default=False)]
KeyArgument = Annotated[Key, Meaning.KEY]
ValueArgument = Annotated[Any, Meaning.VALUE]
KeyKind = Literal["text", "int", "hex"]
ReadOption = Annotated[ReadLevel, read_by(parse_read, "LEVEL"), Parameter(group=GLOBAL, show_default=False)]
