"""Counter: one 64-bit integer with sign. One that was never written counts 0.

Its partition holds one row, the number as 8 bytes. Adding beyond the range is refused and changes nothing.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from primitives.errors import Code
from primitives.handle import LINEARIZABLE, ClientPort, Handle, ReadLevel, check_int64
from primitives.limits import INT_MAX, INT_MIN
from primitives.machine import OK, Context, Machine, Result, View

SET: Final = 1
"""Command ``[n]``."""
ADD: Final = 2
"""Command ``[n]``; answers the new number."""
COMPARE_AND_SET: Final = 3
"""Command ``[old, new]``; CONDITION if the number is not ``old``."""
GET: Final = 1
"""Query ``[]``; answers the number."""

_NUMBER: Final = struct.Struct(">q")
_ZERO: Final = _NUMBER.pack(0)
_ARITY: Final = {SET: 1, ADD: 1, COMPARE_AND_SET: 2}
_CONDITION: Final[Result] = (Code.CONDITION, b"")
_BAD: Final[Result] = (Code.BAD_REQUEST, b"not an operation of a counter")
_BAD_NUMBERS: Final[Result] = (Code.BAD_REQUEST, b"a counter's arguments are 64-bit integers")
_OVERFLOW: Final[Result] = (Code.OVERFLOW, b"the counter would leave the range of 64 bits")


class CounterMachine(Machine):
    """The replicated half of :class:`Counter`."""

    TYPE = 17
    NAME = "counter"

    def apply(self, ctx: Context, op: int, args: list[Any], body: bytes) -> Result:
        """Executes SET, ADD or COMPARE_AND_SET."""
        if body or len(args) != _ARITY.get(op):
            return _BAD
        for number in args:
            if type(number) is not int or not INT_MIN <= number <= INT_MAX:
                return _BAD_NUMBERS
        row = ctx.table(0)
        if op == ADD:
            new: int = _NUMBER.unpack(row.get(b"") or _ZERO)[0] + args[0]
            if not INT_MIN <= new <= INT_MAX:
                return _OVERFLOW
            data = _NUMBER.pack(new)
            row.put(b"", data)
            return Code.OK, data
        if op == COMPARE_AND_SET and _NUMBER.pack(args[0]) != (row.get(b"") or _ZERO):
            return _CONDITION
        row.put(b"", _NUMBER.pack(args[-1]))
        return OK

    def query(self, view: View, op: int, args: list[Any], body: bytes) -> Result:
        """Answers GET."""
        if op != GET or args or body:
            return _BAD
        return Code.OK, view.view(0).get(b"") or _ZERO


class Counter(Handle):
    """A 64-bit integer shared by all clients; 0 until first written.

    It is pinned: all of it is in one group. Every number given is an int of 64 bits with sign, else
    TypeError. Every call waits for the cluster and raises ``QuorateError`` if that fails; a write takes
    effect exactly once, whatever is retried, while its session lives.
    """

    TYPE = CounterMachine.TYPE
    NAME = CounterMachine.NAME

    __slots__ = ()

    def __init__(
        self, port: ClientPort, namespace: str, name: str, *, read: ReadLevel = LINEARIZABLE
    ) -> None:
        super().__init__(port, namespace, name, partitions=0, read=read)

    async def get(self, *, read: ReadLevel | None = None) -> int:
        """The number; 0 if the counter was never written. ``read``: how fresh, else the handle's level."""
        answer = await self._port.query(self._ref, GET, [], read=read or self._read)
        return 0 if answer is None else int(_NUMBER.unpack(answer.result)[0])

    async def set(self, n: int) -> int:
        """Sets the number; returns the revision of the change, which only grows."""
        return (await self._port.command(self._ref, SET, [check_int64(n, "n")])).revision

    async def add(self, n: int) -> int:
        """Adds ``n``, which may be negative, and returns the new number. Raises OverflowRefused, changing
        nothing, if that is beyond 64 bits."""
        answer = await self._port.command(self._ref, ADD, [check_int64(n, "n")])
        return int(_NUMBER.unpack(answer.result)[0])

    async def increment(self) -> int:
        """Adds 1; else like :meth:`add`."""
        return await self.add(1)

    async def decrement(self) -> int:
        """Subtracts 1; else like :meth:`add`."""
        return await self.add(-1)

    async def get_and_add(self, n: int) -> int:
        """Adds ``n`` and returns the number as it was before; else like :meth:`add`."""
        return await self.add(n) - n

    async def compare_and_set(self, old: int, new: int) -> bool:
        """Sets the number to ``new`` if it is ``old``; whether it was."""
        args = [check_int64(old, "old"), check_int64(new, "new")]
        answer = await self._port.command(self._ref, COMPARE_AND_SET, args)
        return answer.code == Code.OK
