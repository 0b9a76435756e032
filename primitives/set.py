"""Set: elements, each there or not, spread over partitions by their hashes, or pinned to one.

A partition is that of a map whose entries have no content; see ``entries``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from itertools import islice
from typing import Any, Final

from primitives import entries
from primitives.arguments import BAD_ARGS, BAD_KEY, CONDITION, TOO_LARGE, bad_op, is_key, within
from primitives.codec import Key, decode_key, decode_value, encode_key
from primitives.entries import ENTRIES, meta_of, write
from primitives.errors import Code
from primitives.handle import (
    LINEARIZABLE,
    ClientPort,
    ReadLevel,
    check_partitions,
    to_ttl_ms,
    together,
)
from primitives.limits import PAGE_BYTES_MAX, TTL_MS_MAX
from primitives.machine import OK, Context, Machine, Result, View
from primitives.many import Walk, everywhere, head
from primitives.pages import asks_page, encode_page
from primitives.records import U32, U64
from primitives.watch import EventShape
from primitives.watching import KeyedHandle

MANY_MAX: Final = 200
"""Elements of one command: each touches up to five rows, with its timers."""


class Op:
    """Commands. Never renumber: they are in logs."""

    ADD: Final = 1
    """``[element]`` or ``[element, ttl_ms]``; CONDITION if it was there already (it has the new ttl)."""
    REMOVE: Final = 2
    """``[element]``; CONDITION if it was not there."""
    ADD_ALL: Final = 3
    """``[ttl_ms, element, ...]``; answers 4 bytes: how many were not there."""
    DISCARD_ALL: Final = 4
    """``[element, ...]``; answers 4 bytes: how many were there."""
    RETAIN: Final = 5
    """``[after, upto, element, ...]``: removes what lies behind ``after`` (empty: from the first) up to
    ``upto``, inclusive (empty: to the last), and is not among the elements, which are in order. Answers 4
    bytes, how many were removed, and then, if it stopped before the end, the last element looked at."""
    CLEAR: Final = 6
    """``[]``."""


class Ask:
    """Queries."""

    CONTAINS: Final = 1
    """``[element]``; CONDITION if it is not there."""
    SIZE: Final = 2
    """``[]``; 8 bytes."""
    PAGE: Final = 3
    """``[after, rows, values]``: elements behind ``after`` (empty: all), in order, with their three numbers
    (``entries.HEADER``) or with nothing; see ``pages``."""


_BAD_OP: Final = bad_op("set")


def _add(ctx: Context, args: list[Any]) -> Result:
    element, ttl_ms = args if len(args) == 2 else (*args, 0) if len(args) == 1 else (None, None)
    if not within(ttl_ms, 0, TTL_MS_MAX):
        return BAD_ARGS
    if not is_key(element):
        return BAD_KEY
    return OK if _put(ctx, element, ttl_ms) else CONDITION


def _put(ctx: Context, element: bytes, ttl_ms: int) -> bool:
    meta = meta_of(ctx)
    at = meta[:8] + element
    row = ctx.table(ENTRIES).get(at)
    write(ctx, at, meta, row, b"", ttl_ms)
    return row is None


def _discard(ctx: Context, element: bytes) -> bool:
    meta = meta_of(ctx)
    at = meta[:8] + element
    row = ctx.table(ENTRIES).get(at)
    if row is None:
        return False
    entries.delete(ctx, at, meta, row)
    return True


def _remove(ctx: Context, args: list[Any]) -> Result:
    if len(args) != 1 or not is_key(args[0]):
        return BAD_KEY
    return OK if _discard(ctx, args[0]) else CONDITION


def _add_all(ctx: Context, args: list[Any]) -> Result:
    if not args or not within(args[0], 0, TTL_MS_MAX):
        return BAD_ARGS
    ttl_ms, *elements = args
    if len(elements) > MANY_MAX:
        return TOO_LARGE
    if not all(map(is_key, elements)):
        return BAD_KEY
    return Code.OK, U32.pack(sum([_put(ctx, element, ttl_ms) for element in elements]))


def _discard_all(ctx: Context, args: list[Any]) -> Result:
    if len(args) > MANY_MAX:
        return TOO_LARGE
    if not all(map(is_key, args)):
        return BAD_KEY
    return Code.OK, U32.pack(sum([_discard(ctx, element) for element in args]))


def _retain(ctx: Context, args: list[Any]) -> Result:
    if len(args) < 2:
        return BAD_ARGS
    after, upto, *elements = args
    if len(elements) > MANY_MAX:
        return TOO_LARGE
    if not all(is_key(bound) or bound == b"" for bound in (after, upto)) or not all(map(is_key, elements)):
        return BAD_KEY
    kept = set(elements)
    incarnation = meta_of(ctx)[:8]
    looked = after
    removed = 0
    rows = entries.behind(ctx, incarnation, after, values=False)
    found = [element for element, _ in islice(rows, MANY_MAX)]
    for element in found:
        if upto and element > upto:
            return Code.OK, U32.pack(removed)
        looked = element
        if element not in kept:
            removed += _discard(ctx, element)
    rest = looked if len(found) == MANY_MAX and looked != upto else b""
    return Code.OK, U32.pack(removed) + rest


def _clear(ctx: Context, args: list[Any]) -> Result:
    if args:
        return BAD_ARGS
    entries.clear(ctx)
    return OK


_COMMANDS: Final[dict[int, Callable[[Context, list[Any]], Result]]] = {
    Op.ADD: _add,
    Op.REMOVE: _remove,
    Op.ADD_ALL: _add_all,
    Op.DISCARD_ALL: _discard_all,
    Op.RETAIN: _retain,
    Op.CLEAR: _clear,
}


class SetMachine(Machine):
    """The replicated half of :class:`Set`: one partition of it."""

    TYPE = 20
    NAME = "set"

    def apply(self, ctx: Context, op: int, args: list[Any], body: bytes) -> Result:
        """Executes one of :class:`Op`."""
        command = _COMMANDS.get(op)
        if command is None:
            return _BAD_OP
        return BAD_ARGS if body else command(ctx, args)

    def query(self, view: View, op: int, args: list[Any], body: bytes) -> Result:
        """Answers one of :class:`Ask`."""
        if body:
            return BAD_ARGS
        meta = meta_of(view)
        if op == Ask.CONTAINS:
            if len(args) != 1 or not is_key(args[0]):
                return BAD_KEY
            return CONDITION if view.view(ENTRIES).get(meta[:8] + args[0]) is None else OK
        if op == Ask.SIZE:
            return BAD_ARGS if args else (Code.OK, meta[8:16])
        if op != Ask.PAGE:
            return _BAD_OP
        if not asks_page(args):
            return BAD_ARGS
        after, rows_max, values = args
        if after != b"" and not is_key(after):
            return BAD_KEY
        found = entries.behind(view, meta[:8], after, values=values)
        return Code.OK, encode_page(found, rows_max, PAGE_BYTES_MAX)

    def timer(self, ctx: Context, payload: bytes) -> None:
        """Expires an element, or drops a slice of those that were cleared."""
        entries.timer(ctx, payload)


def _listed(element: bytes, row: bytes) -> tuple[None, int]:
    return None, int(entries.HEADER.unpack_from(row)[0])


class Set(KeyedHandle):
    """Elements, each there or not, shared by all clients.

    Elements are what keys of a map are: str, bytes or int (64-bit), at most 1 KiB; 1 and "1" differ. Anything
    else raises TypeError, and what is too large TooLarge, at the call.

    An element lives in one of the set's partitions, 16 unless ``partitions`` (1 to 1,024) says otherwise when
    the set is created, or ``pinned`` makes it one. What an element goes through is linearizable. Of several
    elements nothing is promised together, but in one partition.

    A time to live, ``ttl``, is in seconds (above 0) and counts by the cluster's own replicated time: the
    element never goes sooner, and is there until its expiry was applied.

    Watching tells ``put`` for each element that is added, or added again, then ``removed``, ``expired`` and
    ``cleared``; events have keys, the elements, and no values.

    Every call waits for the cluster and raises ``QuorateError`` if that fails; a write takes effect exactly
    once, whatever is retried, while its session lives. ``read`` says how fresh an answer must be, if other
    than the handle's level.

    <!-- runnable -->
    ```python
    import quorate, trio

    async def main():
        async with quorate.connect("quorate://127.0.0.1:7400") as client:
            tags = client.set("documented tags")
            await tags.clear()
            assert await tags.add("red")
            assert not await tags.add("red")
            assert await tags.add_all(["green", "blue", "red"]) == 2
            assert await tags.retain_all(["green", "red"]) == 1
            assert {tag async for tag in tags} == {"green", "red"}
            assert await tags.remove("red")
            assert not await tags.contains("red")

    trio.run(main)
    ```
    """

    TYPE = SetMachine.TYPE
    NAME = SetMachine.NAME
    EVENTS = EventShape(value=decode_value, key=decode_key, page=Ask.PAGE, row=_listed)

    __slots__ = ()

    def __init__(
        self, port: ClientPort, namespace: str, name: str, *, partitions: int | None = None,
        pinned: bool = False, read: ReadLevel = LINEARIZABLE,
    ) -> None:  # fmt: skip
        wanted = check_partitions(partitions, pinned)
        config = None if wanted is None else b""
        super().__init__(port, namespace, name, partitions=wanted, config=config, read=read)

    async def add(self, element: Key, *, ttl: float | None = None) -> bool:
        """Adds the element; False if it was there. It lives for ``ttl`` from now on in any case, or for good
        without one, so adding an element again renews it."""
        data = encode_key(element)
        args = [data] if ttl is None else [data, to_ttl_ms(ttl)]
        return (await self._port.command(self._ref, Op.ADD, args, key=data)).code == Code.OK

    async def remove(self, element: Key) -> bool:
        """Removes the element; False if it was not there."""
        data = encode_key(element)
        return (await self._port.command(self._ref, Op.REMOVE, [data], key=data)).code == Code.OK

    async def contains(self, element: Key, *, read: ReadLevel | None = None) -> bool:
        """Whether the element is there."""
        data = encode_key(element)
        answer = await self._port.query(self._ref, Ask.CONTAINS, [data], key=data, read=read or self._read)
        return answer is not None and answer.code == Code.OK

    async def add_all(self, elements: Iterable[Key], *, ttl: float | None = None) -> int:
        """Adds all of these, like :meth:`add`; returns how many were not there. Many go in one command, which
        takes effect as a whole: up to 200 elements of one partition. If the call fails, some may be added."""
        return await self._many(Op.ADD_ALL, elements, [to_ttl_ms(ttl)], create=True)

    async def discard_all(self, elements: Iterable[Key]) -> int:
        """Removes those of the elements that are there; returns how many were. In commands like those of
        :meth:`add_all`."""
        return await self._many(Op.DISCARD_ALL, elements, [], create=False)

    async def retain_all(self, elements: Iterable[Key]) -> int:
        """Removes all but these elements; returns how many it removed. Of each partition it looks at up to
        200 elements in one command, which takes effect as a whole, in their order: what is added meanwhile
        may stay, and if the call fails, some may be removed."""
        encoded = _encoded(elements)
        partitions = await self._port.partitions(self._ref)
        if partitions is None:
            return 0
        kept: dict[int, list[bytes]] = {at: [] for at in range(max(1, partitions))}
        for at, positions in await self._port.spread(self._ref, encoded) or () if encoded else ():
            kept[at] = sorted(encoded[position] for position in positions)
        return sum(await together([partial(self._retain, at, names) for at, names in kept.items()]))

    async def _retain(self, partition: int, kept: list[bytes]) -> int:
        removed = 0
        after = b""
        while True:
            part = kept[:MANY_MAX]
            longest = max(part, key=len, default=b"")
            part = part[: max(1, head([after, longest, *part]) - 2)]
            upto = part[-1] if len(part) < len(kept) else b""
            answer = await self._port.command(self._ref, Op.RETAIN, [after, upto, *part], partition=partition)
            removed += int(U32.unpack_from(answer.result)[0])
            after = answer.result[U32.size :] or upto
            if not after:
                return removed
            kept = [name for name in kept if name > after]

    async def _many(self, op: int, elements: Iterable[Key], first: list[Any], *, create: bool) -> int:
        """Executes the command ``op``, which answers a number, on the elements; the sum."""
        encoded = _encoded(elements)

        async def send(partition: int, positions: list[int]) -> int:
            total = 0
            names = [encoded[at] for at in positions]
            while names:
                part = names[:MANY_MAX]
                part = part[: head(part)]
                answer = await self._port.command(self._ref, op, [*first, *part], partition=partition)
                total += U32.unpack(answer.result)[0]
                names = names[len(part) :]
            return total

        spread = await self._port.spread(self._ref, encoded, create=create) if encoded else None
        return sum(await together([partial(send, *part) for part in spread or ()]))

    async def size(self, *, read: ReadLevel | None = None) -> int:
        """How many elements there are: exact in each partition, each counted at its own moment."""
        level = read or self._read
        answers = await everywhere(
            self._port,
            self._ref,
            lambda p: self._port.query(self._ref, Ask.SIZE, [], partition=p, read=level),
        )
        return sum(int(U64.unpack(answer.result)[0]) for answer in answers if answer is not None)

    async def clear(self) -> None:
        """Removes all elements: at once in each partition, in each at its own moment."""
        await everywhere(
            self._port, self._ref, lambda p: self._port.command(self._ref, Op.CLEAR, [], partition=p)
        )

    def elements(self, *, read: ReadLevel | None = None) -> AsyncIterator[Key]:
        """The elements, by ``async for``, in no order to rely on. They come in pages of at most 1,000
        elements and 256 KiB of one partition, each read at one moment: an element that is there throughout
        comes exactly once, one that is added or removed meanwhile may come or not."""
        return Walk(
            self._port, self._ref, Ask.PAGE, lambda element, _: decode_key(element), values=False,
            read=read or self._read,
        )  # fmt: skip

    def __aiter__(self) -> AsyncIterator[Key]:
        """Like :meth:`elements`."""
        return self.elements()


def _encoded(elements: Iterable[Key]) -> list[bytes]:
    """The bytes of the elements, each once."""
    return list(dict.fromkeys(encode_key(element) for element in elements))
