"""Where a history goes wrong: the first answer after which no order is left.

A history that has an order still has one when it is cut short, calls that had not ended then being of unknown
outcome. So the answer that spoils it is found by halving.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.checker.objects import Part, is_placed
from bench.checker.record import Call
from bench.checker.search import Found


def cut(part: Part, line: int) -> Part:
    """The part as it was known at a line of the history."""
    calls = []
    for call in part.calls:
        if call.line >= line:
            continue
        if call.is_unknown or (call.end_line or 0) <= line:
            calls.append(call)
        elif is_placed(short := opened(call)):
            calls.append(short)
    return part._replace(calls=calls)


def opened(call: Call) -> Call:
    """The call as it was known before it ended."""
    return Call(
        call.process, call.start_us, call.kind, call.name, call.op, call.args, call.read, call.extra,
        call.line,
    )  # fmt: skip


def first_wrong(part: Part, judge: Callable[[Part], Found]) -> tuple[Call, Found] | None:
    """The call whose answer leaves no order of what was known until then, and an order of the rest.

    ``part`` has no order. None if a search was not finished: nothing is known then.
    """
    ended = sorted((call for call in part.calls if not call.is_unknown), key=lambda call: call.end_line or 0)
    low, high = 0, len(ended) - 1
    order: Found | None = None
    while low < high:
        middle = (low + high) // 2
        found = judge(cut(part, ended[middle].end_line or 0))
        if found.undecided is not None:
            return None
        if found.blocked is None:
            low, order = middle + 1, found
        else:
            high = middle
    if order is None:
        order = judge(cut(part, (ended[low].end_line or 0) - 1))
    return (ended[low], order) if order.undecided is None else None
