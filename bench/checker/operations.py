"""Which operations a history may hold: their names are those of the handles, their arguments in order."""

from __future__ import annotations

from typing import Final, NamedTuple


class Shape(NamedTuple):
    """How an operation is called."""

    least: int
    """How many arguments it has at the least."""
    most: int
    is_query: bool = False
    """It changes nothing, and may be asked for at a read level."""


READS: Final = ("linearizable", "sequential", "causal", "stale")
"""Levels of queries; the first is the default."""

_REGISTER: Final = {
    "get": Shape(0, 0, True),
    "entry": Shape(0, 0, True),
    "set": Shape(1, 1),
    "get_and_set": Shape(1, 1),
    "compare_and_set": Shape(2, 2),
    "replace": Shape(2, 2),
    "unset": Shape(0, 1),
}
_MAP: Final = {
    "get": Shape(1, 1, True),
    "entry": Shape(1, 1, True),
    "contains": Shape(1, 1, True),
    "put": Shape(2, 2),
    "get_and_put": Shape(2, 2),
    "put_if_absent": Shape(2, 2),
    "replace": Shape(3, 3),
    "compare_and_set": Shape(3, 3),
    "remove": Shape(1, 2),
    "increment": Shape(1, 2),
    "size": Shape(0, 0, True),
    "items": Shape(0, 0, True),
    "clear": Shape(0, 0),
}
_COUNTER: Final = {
    "get": Shape(0, 0, True),
    "set": Shape(1, 1),
    "add": Shape(1, 1),
    "increment": Shape(0, 0),
    "decrement": Shape(0, 0),
    "get_and_add": Shape(1, 1),
    "compare_and_set": Shape(2, 2),
}
_SET: Final = {
    "add": Shape(1, 1),
    "remove": Shape(1, 1),
    "contains": Shape(1, 1, True),
    "size": Shape(0, 0, True),
    "elements": Shape(0, 0, True),
    "clear": Shape(0, 0),
}
_QUEUE: Final = {
    "offer": Shape(1, 1),
    "offer_many": Shape(1, 1),
    "poll": Shape(0, 0),
    "take": Shape(0, 0),
    "peek": Shape(0, 0, True),
    "size": Shape(0, 0, True),
    "elements": Shape(0, 0, True),
    "clear": Shape(0, 0),
}
_LIST: Final = {
    "append": Shape(1, 1),
    "insert": Shape(2, 2),
    "extend": Shape(1, 1),
    "get": Shape(1, 1, True),
    "set": Shape(2, 2),
    "pop": Shape(0, 1),
    "remove": Shape(1, 1),
    "index": Shape(1, 2, True),
    "size": Shape(0, 0, True),
    "slice": Shape(0, 2, True),
    "clear": Shape(0, 0),
}
_LOCK: Final = {
    "acquire": Shape(0, 0),
    "try_acquire": Shape(0, 0),
    "release": Shape(1, 1),
    "holder": Shape(0, 0, True),
    "expire": Shape(1, 1),
}
_ELECTION: Final = {
    "campaign": Shape(0, 1),
    "resign": Shape(1, 1),
    "leader": Shape(0, 0, True),
    "expire": Shape(1, 1),
}
_WATCH: Final = {"open": Shape(1, 2), "next": Shape(0, 0)}

KINDS: Final[dict[str, dict[str, Shape]]] = {
    "register": _REGISTER,
    "map": _MAP,
    "counter": _COUNTER,
    "set": _SET,
    "queue": _QUEUE,
    "list": _LIST,
    "lock": _LOCK,
    "election": _ELECTION,
    "watch": _WATCH,
}
"""Operations by kind of object, then by name."""


def fault(kind: str, op: str, args: list[object], read: str | None) -> str | None:
    """What is wrong with a call, or None."""
    shapes = KINDS.get(kind)
    if shapes is None:
        return f"unknown kind {kind!r}: one of {', '.join(KINDS)}"
    shape = shapes.get(op)
    if shape is None:
        return f"unknown operation {op!r} of a {kind}: one of {', '.join(shapes)}"
    if not shape.least <= len(args) <= shape.most:
        wanted = str(shape.least) if shape.least == shape.most else f"{shape.least} to {shape.most}"
        return f"{kind} {op} takes {wanted} argument{'' if wanted == '1' else 's'}, not {len(args)}"
    if read is not None and read not in READS:
        return f"unknown read level {read!r}: one of {', '.join(READS)}"
    if read is not None and not shape.is_query:
        return f"{kind} {op} is no query and has no read level"
    return None
