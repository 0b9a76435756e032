"""What a fuzzing target is: a function of arbitrary bytes that raises if the product does what it must not.

The same functions are driven by hypothesis and by the kept corpora in the test suite, and by atheris on
demand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

T = TypeVar("T")

INPUT_BYTES_MAX: Final = 4096
"""What drivers make at the most."""


class Misread(AssertionError):
    """Bytes led to something else than a value or the documented error."""


@dataclass(frozen=True, slots=True)
class Target:
    """A function to be fuzzed."""

    name: str
    about: str
    """What it reads, in a few words."""
    run: Callable[[bytes], None]
    examples: tuple[bytes, ...]
    """Inputs that are what the product makes itself, to begin with."""


TARGETS: Final[dict[str, Target]] = {}
"""By name."""


def target(name: str, about: str, examples: Iterable[bytes]) -> Callable[[Callable[[bytes], None]], Any]:
    """Registers the function below it."""

    def register(run: Callable[[bytes], None]) -> Callable[[bytes], None]:
        TARGETS[name] = Target(name, about, run, tuple(examples))
        return run

    return register


def read(decode: Callable[[bytes], T], data: bytes, refusal: type[Exception]) -> T | None:
    """What ``decode`` makes of ``data``; None if it refuses by the error documented. Whatever else it raises
    goes on."""
    try:
        return decode(data)
    except refusal:
        return None


def same(one: object, other: object, what: str) -> None:
    """Raises Misread unless the two are equal, and of equal types all through; floats that are no number are
    equal."""
    if not _alike(one, other):
        raise Misread(f"{what}: {one!r} came back as {other!r}")


def _alike(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_alike(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float) and one != one:
        return bool(other != other)
    return bool(one == other)
