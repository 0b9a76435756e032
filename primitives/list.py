"""List: elements by index; pinned to one group.

An element is the mark of the event that set it, whose value is kept for it. The marks are in a sequence of
blocks (see ``sequence``), so that a command touches a few rows, however long the list is. Clearing raises the
incarnation under which the blocks are, and drops the old ones in slices.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

from primitives.arguments import BAD_ARGS, BAD_VALUE, CONDITION, TOO_LARGE, bad_op, cut, within
from primitives.codec import Value, decode_value, encode_value
from primitives.errors import Code, InvariantViolation
from primitives.handle import LINEARIZABLE, ClientPort, ReadLevel, check_int64
from primitives.limits import INT_MAX, INT_MIN, PAGE_BYTES_MAX, VALUE_BYTES_MAX
from primitives.machine import OK, Context, Machine, Result, View
from primitives.many import Walk, fitting
from primitives.pages import asks_page, encode_page
from primitives.position import Position
from primitives.records import U64
from primitives.sequence import ITEM_BYTES, Sequence, Shape, items_of
from primitives.watch import BUFFER_BYTES, EventKind, EventShape
from primitives.watching import Watch, WatchedHandle

INSERT_MANY_MAX: Final = 200
"""Elements of one command."""
FIND_MAX: Final = 2000
"""Elements that one query compares."""
SLICE_BLOCKS: Final = 10
"""Cleared blocks that one slice drops, each of up to 64 elements."""


class Op:
    """Commands. Never renumber: they are in logs. An index below 0 counts from the end."""

    INSERT: Final = 1
    """``[index, length, ...]``, body: the values, which are put before the element at ``index``; before the
    first or behind the last one, where it is beyond them."""
    APPEND: Final = 2
    """``[length, ...]``, body: the values."""
    SET: Final = 3
    """``[index]``, body: the value. CONDITION if there is no such element, here and in what follows."""
    REMOVE: Final = 4
    """``[index]`` or ``[index, mark]``: only if it is the element of that mark. Answers the value."""
    CLEAR: Final = 5
    """``[]``."""


class Ask:
    """Queries. An element is answered as its mark, 10 bytes, which begins with the revision, and value."""

    GET: Final = 1
    """``[index]``; CONDITION if there is no such element."""
    SIZE: Final = 2
    """``[]``; 8 bytes."""
    PAGE: Final = 3
    """``[after, rows, values]``: elements behind the index ``after``, as 8 bytes (empty: all), by their
    indexes; see ``pages``."""
    FIND: Final = 4
    """``[start]``, body: a value. Looks at the first elements from ``start`` on: 8 bytes, the index of the
    first that has this value, and its mark; or the index at which to go on, alone; CONDITION at the end."""


INSERTED: Final = 16
"""Kind of the event of an element that was put before others, whose indexes grew."""

_STATE_TABLE: Final = 0
_BLOCKS: Final = 1
"""Incarnation and number, 8 bytes each → block."""

_STATE: Final = struct.Struct(">Q?QQQ")
_BAD_OP: Final = bad_op("list")


class _State(NamedTuple):
    """The one row of ``_STATE_TABLE``."""

    incarnation: int = 0
    dropping: bool = False
    """Whether a slice is armed that drops cleared blocks."""
    shape: Shape = Shape()


def _state(view: View) -> _State:
    row = view.view(_STATE_TABLE).get(b"")
    if row is None:
        return _State()
    incarnation, dropping, *shape = _STATE.unpack(row)
    return _State(incarnation, dropping, Shape(*shape))


def _save(ctx: Context, state: _State) -> None:
    ctx.table(_STATE_TABLE).put(b"", _STATE.pack(state.incarnation, state.dropping, *state.shape))


def _sequence(view: View, state: _State) -> Sequence:
    return Sequence(view.view(_BLOCKS), U64.pack(state.incarnation), state.shape)


def _finish(ctx: Context, state: _State, sequence: Sequence) -> None:
    sequence.save(ctx.table(_BLOCKS))
    if sequence.shape != state.shape:
        _save(ctx, state._replace(shape=sequence.shape))


def _value(view: View, mark: bytes) -> bytes:
    value = view.event(mark)
    if value is None:
        raise InvariantViolation("an element without the event that set it")
    return value


def _at(index: int, size: int) -> int | None:
    """The index from the start, None if there is no such element."""
    index = index + size if index < 0 else index
    return index if 0 <= index < size else None


def _insert(ctx: Context, args: list[Any], body: bytes) -> Result:
    if not args or not within(args[0], INT_MIN, INT_MAX):
        return BAD_ARGS
    values = cut(body, args[1:], INSERT_MANY_MAX)
    if not isinstance(values, list):
        return values
    state = _state(ctx)
    size = state.shape.size
    index = args[0] + size if args[0] < 0 else args[0]
    return _put_in(ctx, state, min(max(index, 0), size), values)


def _append(ctx: Context, args: list[Any], body: bytes) -> Result:
    values = cut(body, args, INSERT_MANY_MAX)
    if not isinstance(values, list):
        return values
    state = _state(ctx)
    return _put_in(ctx, state, state.shape.size, values)


def _put_in(ctx: Context, state: _State, index: int, values: list[bytes]) -> Result:
    if values:
        sequence = _sequence(ctx, state)
        for at, value in enumerate(values, index):
            sequence.insert(at, ctx.emit(INSERTED, U64.pack(at), value, kept=True))
        _finish(ctx, state, sequence)
    return OK


def _set(ctx: Context, args: list[Any], body: bytes) -> Result:
    if len(args) != 1 or not within(args[0], INT_MIN, INT_MAX):
        return BAD_ARGS
    if not body:
        return BAD_VALUE
    if len(body) > VALUE_BYTES_MAX:
        return TOO_LARGE
    state = _state(ctx)
    index = _at(args[0], state.shape.size)
    if index is None:
        return CONDITION
    sequence = _sequence(ctx, state)
    before = sequence.get(index)
    mark = ctx.emit(EventKind.PUT, U64.pack(index), body, previous=before, kept=True)
    sequence.replace(index, mark)
    _finish(ctx, state, sequence)
    return OK


def _remove(ctx: Context, args: list[Any], body: bytes) -> Result:
    if body or len(args) not in (1, 2) or not within(args[0], INT_MIN, INT_MAX):
        return BAD_ARGS
    if len(args) == 2 and type(args[1]) is not bytes:
        return BAD_ARGS
    state = _state(ctx)
    index = _at(args[0], state.shape.size)
    if index is None:
        return CONDITION
    sequence = _sequence(ctx, state)
    if len(args) == 2 and sequence.get(index) != args[1]:
        return CONDITION
    mark = sequence.remove(index)
    value = _value(ctx, mark)
    ctx.emit(EventKind.REMOVED, U64.pack(index), previous=mark)
    _finish(ctx, state, sequence)
    return Code.OK, value


def _clear(ctx: Context, args: list[Any], body: bytes) -> Result:
    if args or body:
        return BAD_ARGS
    state = _state(ctx)
    if state.shape.size:
        if not state.dropping:
            ctx.arm(0, b"")
        ctx.emit(EventKind.CLEARED, b"")
        _save(ctx, _State(state.incarnation + 1, True))
    return OK


_COMMANDS: Final[dict[int, Callable[[Context, list[Any], bytes], Result]]] = {
    Op.INSERT: _insert,
    Op.APPEND: _append,
    Op.SET: _set,
    Op.REMOVE: _remove,
    Op.CLEAR: _clear,
}


class ListMachine(Machine):
    """The replicated half of :class:`List`."""

    TYPE = 23
    NAME = "list"

    def apply(self, ctx: Context, op: int, args: list[Any], body: bytes) -> Result:
        """Executes one of :class:`Op`."""
        command = _COMMANDS.get(op)
        return _BAD_OP if command is None else command(ctx, args, body)

    def query(self, view: View, op: int, args: list[Any], body: bytes) -> Result:
        """Answers one of :class:`Ask`."""
        state = _state(view)
        if op == Ask.FIND:
            if len(args) != 1 or not within(args[0], 0, INT_MAX) or not body:
                return BAD_ARGS
            return self._find(view, state, args[0], body)
        if body:
            return BAD_ARGS
        if op == Ask.SIZE:
            return BAD_ARGS if args else (Code.OK, U64.pack(state.shape.size))
        if op == Ask.PAGE:
            return self._page(view, state, args)
        if op != Ask.GET:
            return _BAD_OP
        if len(args) != 1 or not within(args[0], INT_MIN, INT_MAX):
            return BAD_ARGS
        index = _at(args[0], state.shape.size)
        if index is None:
            return CONDITION
        mark = _sequence(view, state).get(index)
        return Code.OK, mark + _value(view, mark)

    def _find(self, view: View, state: _State, start: int, value: bytes) -> Result:
        index = start
        for mark in islice(_sequence(view, state).walk(start), FIND_MAX):
            if _value(view, mark) == value:
                return Code.OK, U64.pack(index) + mark
            index += 1
        return CONDITION if index >= state.shape.size else (Code.OK, U64.pack(index))

    def _page(self, view: View, state: _State, args: list[Any]) -> Result:
        if not asks_page(args):
            return BAD_ARGS
        after, rows_max, values = args
        if type(after) is not bytes or len(after) not in (0, U64.size):
            return BAD_ARGS
        start = int(U64.unpack(after)[0]) + 1 if after else 0

        def rows() -> Iterator[tuple[bytes, bytes]]:
            for index, mark in enumerate(_sequence(view, state).walk(start), start):
                yield U64.pack(index), mark + _value(view, mark) if values else b""

        return Code.OK, encode_page(rows(), rows_max, PAGE_BYTES_MAX)

    def timer(self, ctx: Context, payload: bytes) -> None:
        """Drops a slice of cleared blocks."""
        state = _state(ctx)
        blocks = ctx.table(_BLOCKS)
        cleared = list(islice(blocks.scan(b"", U64.pack(state.incarnation)), SLICE_BLOCKS))
        for key, row in cleared:
            blocks.delete(key)
            for mark in items_of(row):
                ctx.release(mark)
        if len(cleared) == SLICE_BLOCKS:
            ctx.arm(0, b"")
        else:
            _save(ctx, state._replace(dropping=False))


def _index(data: bytes) -> int:
    return int(U64.unpack(data)[0])


class List(WatchedHandle):
    """Elements by index, shared by all clients; pinned to one group.

    Elements are values like a map's. Indexes are Python's: from 0, and below 0 from the end. Reading or
    changing an element by its index takes a few rows of storage, in a list of millions too; each call is
    atomic. Since others may insert and remove meanwhile, an index that was learned before may be another
    element's.

    Every call waits for the cluster and raises ``QuorateError`` if that fails; a write takes effect exactly
    once, whatever is retried, while its session lives. ``read`` says how fresh an answer must be, if other
    than the handle's level.

    <!-- runnable -->
    ```python
    import quorate, trio

    async def main():
        async with quorate.connect("quorate://127.0.0.1:7400") as client:
            steps = client.list("documented steps")
            await steps.clear()
            await steps.extend(["wash", "rinse", "repeat"])
            await steps.insert(1, "soap")
            assert [step async for step in steps] == ["wash", "soap", "rinse", "repeat"]
            assert await steps.get(-1) == "repeat"
            assert await steps.index("rinse") == 2
            assert await steps.remove("soap")
            assert await steps.pop() == "repeat"
            assert await steps.size() == 2

    trio.run(main)
    ```
    """

    TYPE = ListMachine.TYPE
    NAME = ListMachine.NAME
    EVENTS = EventShape(value=decode_value, key=_index, kinds={INSERTED: "inserted"})

    __slots__ = ()

    def __init__(
        self, port: ClientPort, namespace: str, name: str, *, read: ReadLevel = LINEARIZABLE
    ) -> None:
        super().__init__(port, namespace, name, partitions=0, read=read)

    async def append(self, value: Value) -> int:
        """Puts ``value`` behind the last element; returns the revision of the change."""
        body = encode_value(value)
        return (await self._port.command(self._ref, Op.APPEND, [len(body)], body)).revision

    async def insert(self, index: int, value: Value) -> int:
        """Puts ``value`` before the element at ``index``, or at the end that is nearest if there is none;
        returns the revision of the change."""
        body = encode_value(value)
        args = [check_int64(index, "index"), len(body)]
        return (await self._port.command(self._ref, Op.INSERT, args, body)).revision

    async def extend(self, values: Iterable[Value]) -> None:
        """Appends all these in their order, up to 200 and 1 MiB of them in one command, which takes effect as
        a whole; if the call fails, the first may be appended."""
        encoded = [encode_value(value) for value in values]
        while encoded:
            part = encoded[:INSERT_MANY_MAX]
            part = part[: fitting([len(value) for value in part], VALUE_BYTES_MAX)]
            lengths = [len(value) for value in part]
            await self._port.command(self._ref, Op.APPEND, lengths, b"".join(part))
            encoded = encoded[len(part) :]

    async def get(self, index: int, *, read: ReadLevel | None = None) -> Value:
        """The element at ``index``; raises IndexError if there is none."""
        args = [check_int64(index, "index")]
        answer = await self._port.query(self._ref, Ask.GET, args, read=read or self._read)
        if answer is None or answer.code != Code.OK:
            raise self._no(index)
        return decode_value(answer.result[ITEM_BYTES:])

    async def set(self, index: int, value: Value) -> int:
        """Puts ``value`` in the place of the element at ``index``; returns the revision of the change. Raises
        IndexError if there is none."""
        args = [check_int64(index, "index")]
        answer = await self._port.command(self._ref, Op.SET, args, encode_value(value))
        if answer.code != Code.OK:
            raise self._no(index)
        return answer.revision

    async def pop(self, index: int = -1) -> Value:
        """Removes the element at ``index`` and returns it; raises IndexError if there is none."""
        answer = await self._port.command(self._ref, Op.REMOVE, [check_int64(index, "index")])
        if answer.code != Code.OK:
            raise self._no(index)
        return decode_value(answer.result)

    def _no(self, index: int) -> IndexError:
        return IndexError(f"the list {self.name!r} has no element {index}")

    async def remove(self, value: Value) -> bool:
        """Removes the first element that is ``value``; False if there is none. It is looked for like
        :meth:`index` does, and removed only if nothing moved it meanwhile, else looked for again."""
        while True:
            found = await self._find(value, 0, LINEARIZABLE)
            if found is None:
                return False
            if (await self._port.command(self._ref, Op.REMOVE, list(found))).code == Code.OK:
                return True

    async def index(self, value: Value, start: int = 0, *, read: ReadLevel | None = None) -> int | None:
        """The index of the first element from ``start`` (from 0) on that is ``value``, compared by its
        encoded bytes; None if there is none. Each query looks at 2,000 elements at one moment: what moves
        meanwhile from behind that to before it is not found."""
        if check_int64(start, "start") < 0:
            raise ValueError(f"start is not negative, as {start} is")
        found = await self._find(value, start, read or self._read)
        return None if found is None else found[0]

    async def _find(self, value: Value, start: int, read: ReadLevel) -> tuple[int, bytes] | None:
        """Index and mark of the first element that is ``value``."""
        body = encode_value(value)
        while True:
            answer = await self._port.query(self._ref, Ask.FIND, [start], body, read=read)
            if answer is None or answer.code != Code.OK:
                return None
            start = _index(answer.result[: U64.size])
            if len(answer.result) > U64.size:
                return start, answer.result[U64.size :]

    async def size(self, *, read: ReadLevel | None = None) -> int:
        """How many elements there are."""
        answer = await self._port.query(self._ref, Ask.SIZE, [], read=read or self._read)
        return 0 if answer is None else _index(answer.result)

    async def clear(self) -> None:
        """Removes all elements, at once."""
        await self._port.command(self._ref, Op.CLEAR, [])

    def slice(
        self, start: int = 0, stop: int | None = None, *, read: ReadLevel | None = None
    ) -> AsyncIterator[Value]:
        """The elements from ``start`` up to ``stop``, exclusive (None: to the end), both from 0, in order, by
        ``async for``. They come in pages of at most 1,000 elements and 256 KiB, each read at one moment: if
        elements before a page are inserted or removed meanwhile, some come twice or not at all."""
        for bound in (start, 0 if stop is None else stop):
            if check_int64(bound, "an end of a slice") < 0:
                raise ValueError(f"an end of a slice is not negative, as {bound} is")
        return Walk(
            self._port, self._ref, Ask.PAGE, lambda _, row: decode_value(row[ITEM_BYTES:]), values=True,
            read=read or self._read, after=U64.pack(start - 1) if start else b"",
            most=None if stop is None else max(stop - start, 0),
        )  # fmt: skip

    def __aiter__(self) -> AsyncIterator[Value]:
        """Like :meth:`slice`, all of it."""
        return self.slice()

    def watch(
        self, *, position: Position | None = None, previous: bool = False, progress: bool = False,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> Watch:  # fmt: skip
        """The changes from now on, by ``async with``, whose keys are indexes as they were at the change:
        ``inserted`` before what had that index, ``put`` in its place, ``removed``, ``cleared``. The options
        are those of :meth:`KeyedHandle.watch <primitives.watching.KeyedHandle.watch>`; there is no initial
        listing."""
        return self._watch(position=position, previous=previous, progress=progress, buffer_bytes=buffer_bytes)
