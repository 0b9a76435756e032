"""Queue: elements in the order offered, each delivered to one taker; pinned to one group.

An element has an index, which only grows, and a row that says which event offered it; the value is that
event's, which is kept for it. What is polled or taken is removed and is the command's answer, which the group
keeps until the client acknowledged it; a taker that gives up has the element put back under its own index, so
it stands where it was. Takers that find the queue empty stand in a line (see ``line``) and are served in the
order they came, by the command that offers if few dead ones stand before them, else by slices that are
commands of their own.

Clearing moves a bound that all elements must be above, and drops the rows below it in slices.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable, Iterable
from itertools import islice
from typing import Any, Final, NamedTuple

from primitives.arguments import BAD_ARGS, BAD_VALUE, CONDITION, PENDING, TOO_LARGE, bad_op, cut
from primitives.codec import Value, decode_value, encode_value
from primitives.errors import Code, InvariantViolation, Overloaded
from primitives.handle import LINEARIZABLE, ClientPort, ReadLevel, check_int64
from primitives.limits import PAGE_BYTES_MAX, VALUE_BYTES_MAX
from primitives.line import SLICE_WAITERS, WAITERS_MAX, Line
from primitives.machine import OK, Context, Machine, Result, View
from primitives.many import Walk, fitting
from primitives.pages import asks_page, encode_page
from primitives.position import Position
from primitives.records import U64
from primitives.watch import BUFFER_BYTES, EventKind, EventShape
from primitives.watching import Watch, WatchedHandle

OFFER_MANY_MAX: Final = 200
"""Elements of one command."""
SLICE_ROWS: Final = 250
"""Cleared elements that one slice drops."""


class Op:
    """Commands. Never renumber: they are in logs. An element is answered as its index, 8 bytes, and value."""

    OFFER: Final = 1
    """``[]``, body: the value. CONDITION if the queue is full."""
    OFFER_MANY: Final = 2
    """``[length, ...]``, body: the values. CONDITION if not all of them find room."""
    POLL: Final = 3
    """``[]``; answers the first element, or CONDITION if there is none."""
    TAKE: Final = 4
    """``[]``; answers the first element, late if there is none."""
    CLEAR: Final = 5
    """``[]``."""


class Ask:
    """Queries."""

    PEEK: Final = 1
    """``[]``; the first element, or CONDITION."""
    SIZE: Final = 2
    """``[]``; 8 bytes."""
    PAGE: Final = 3
    """``[after, rows, values]``: elements behind the index ``after`` (empty: all), with the revision that
    offered each, and its value; see ``pages``."""


_STATE_TABLE: Final = 0
_ELEMENTS: Final = 1
"""Index, 8 bytes → mark of the event that has the value."""
_LINE: Final = Line(2)

_STATE: Final = struct.Struct(">QQQQQI?")
_BAD_OP: Final = bad_op("queue")
_OVERLOADED: Final[Result] = (Code.OVERLOADED, b"too many wait for elements of this queue")
_DROP: Final = b"\x00"
_SERVE: Final = b"\x01"


class _State(NamedTuple):
    """The one row of ``_STATE_TABLE``."""

    head: int = 0
    """No element has a lower index."""
    tail: int = 0
    """The next element's index."""
    cleared: int = 0
    """Elements below are cleared."""
    size: int = 0
    served: int = 0
    """The last ticket, a revision, taken from the head of the line."""
    waiting: int = 0
    """How many stand in line, those of dead sessions included."""
    dropping: bool = False
    """Whether a slice is armed that drops cleared elements."""


def _state(view: View) -> _State:
    row = view.view(_STATE_TABLE).get(b"")
    return _State() if row is None else _State(*_STATE.unpack(row))


def _save(ctx: Context, state: _State) -> None:
    ctx.table(_STATE_TABLE).put(b"", _STATE.pack(*state))


def _first(view: View, state: _State) -> tuple[bytes, bytes]:
    """Index and mark of the first element of a queue that has some."""
    elements, head = view.view(_ELEMENTS), U64.pack(state.head)
    mark = elements.get(head)
    if mark is not None:  # As it is unless something between was taken back: no scan, which asks the store.
        return head, mark
    found = next(elements.scan(head), None)
    if found is None:
        raise InvariantViolation(f"a queue lacks {state.size} elements that it counts")
    return found


def _value(view: View, mark: bytes) -> bytes:
    value = view.event(mark)
    if value is None:
        raise InvariantViolation("an element without the event that offered it")
    return value


def _append(ctx: Context, index: bytes, value: bytes) -> None:
    mark = ctx.emit(EventKind.PUT, index, value, kept=True)
    ctx.table(_ELEMENTS).put(index, mark)


def _shift(ctx: Context, state: _State) -> tuple[_State, Result]:
    """Takes the first element out of a queue that has some: the state then, and the answer."""
    index, mark = _first(ctx, state)
    ctx.table(_ELEMENTS).delete(index)
    ctx.emit(EventKind.REMOVED, index, previous=mark)
    state = state._replace(head=U64.unpack(index)[0] + 1, size=state.size - 1)
    return state, (Code.OK, index + _value(ctx, mark))


def _serve(ctx: Context, state: _State) -> None:
    """Gives elements to whoever waits, and saves the state. Looks at ``SLICE_WAITERS`` at the most; then a
    slice goes on."""
    for _ in range(SLICE_WAITERS):
        if not state.size or not state.waiting:
            break
        stander = _LINE.first(ctx, U64.pack(state.served))
        if stander is None:
            raise InvariantViolation(f"a queue's line lacks {state.waiting} takers that it counts")
        _LINE.remove(ctx, stander)
        state = state._replace(served=U64.unpack(stander.place)[0], waiting=state.waiting - 1)
        session = stander.session
        if ctx.alive(session):
            ctx.unhold(session)
            state, answer = _shift(ctx, state)
            ctx.answer(stander.waiter, answer)
    if state.size and state.waiting:
        ctx.arm(0, _SERVE)
    _save(ctx, state)


def _offer(ctx: Context, values: list[bytes]) -> Result:
    state = _state(ctx)
    config = ctx.config
    if len(config) == U64.size and state.size + len(values) > U64.unpack(config)[0]:
        return CONDITION
    tail = state.tail
    for value in values:
        _append(ctx, U64.pack(tail), value)
        tail += 1
    state = state._replace(tail=tail, size=state.size + len(values))
    if state.waiting:
        _serve(ctx, state)
    else:
        _save(ctx, state)
    return OK


def _offer_one(ctx: Context, args: list[Any], body: bytes) -> Result:
    if args:
        return BAD_ARGS
    if not body:
        return BAD_VALUE
    return TOO_LARGE if len(body) > VALUE_BYTES_MAX else _offer(ctx, [body])


def _offer_many(ctx: Context, args: list[Any], body: bytes) -> Result:
    values = cut(body, args, OFFER_MANY_MAX)
    return _offer(ctx, values) if isinstance(values, list) else values


def _poll(ctx: Context, args: list[Any], body: bytes) -> Result:
    if args or body:
        return BAD_ARGS
    state = _state(ctx)
    if not state.size:
        return CONDITION
    state, answer = _shift(ctx, state)
    _save(ctx, state)
    return answer


def _take(ctx: Context, args: list[Any], body: bytes) -> Result:
    if args or body:
        return BAD_ARGS
    state = _state(ctx)
    if state.size and not state.waiting:
        state, answer = _shift(ctx, state)
        _save(ctx, state)
        return answer
    if state.waiting >= WAITERS_MAX:
        return _OVERLOADED
    _LINE.join(ctx, U64.pack(ctx.revision))
    _save(ctx, state._replace(waiting=state.waiting + 1))
    return PENDING


def _clear(ctx: Context, args: list[Any], body: bytes) -> Result:
    if args or body:
        return BAD_ARGS
    state = _state(ctx)
    if state.tail > state.cleared:
        if state.size and not state.dropping:
            ctx.arm(0, _DROP)
        if state.size:
            ctx.emit(EventKind.CLEARED, b"")
        dropping = state.dropping or state.size > 0
        _save(ctx, state._replace(head=state.tail, cleared=state.tail, size=0, dropping=dropping))
    return OK


_COMMANDS: Final[dict[int, Callable[[Context, list[Any], bytes], Result]]] = {
    Op.OFFER: _offer_one,
    Op.OFFER_MANY: _offer_many,
    Op.POLL: _poll,
    Op.TAKE: _take,
    Op.CLEAR: _clear,
}


class QueueMachine(Machine):
    """The replicated half of :class:`Queue`."""

    TYPE = 21
    NAME = "queue"

    def apply(self, ctx: Context, op: int, args: list[Any], body: bytes) -> Result:
        """Executes one of :class:`Op`."""
        command = _COMMANDS.get(op)
        return _BAD_OP if command is None else command(ctx, args, body)

    def query(self, view: View, op: int, args: list[Any], body: bytes) -> Result:
        """Answers one of :class:`Ask`."""
        state = _state(view)
        if op == Ask.PAGE and not body:
            if not asks_page(args):
                return BAD_ARGS
            after, rows_max, values = args
            if type(after) is not bytes or len(after) not in (0, U64.size):
                return BAD_ARGS
            start = max(U64.pack(state.head), after + b"\x00" if after else b"")
            rows = view.view(_ELEMENTS).scan(start)
            found = ((index, mark[:8] + _value(view, mark) if values else b"") for index, mark in rows)
            return Code.OK, encode_page(found, rows_max, PAGE_BYTES_MAX)
        if args or body:
            return BAD_ARGS
        if op == Ask.SIZE:
            return Code.OK, U64.pack(state.size)
        if op != Ask.PEEK:
            return _BAD_OP
        if not state.size:
            return CONDITION
        index, mark = _first(view, state)
        return Code.OK, index + _value(view, mark)

    def timer(self, ctx: Context, payload: bytes) -> None:
        """Goes on serving, or drops a slice of cleared elements."""
        state = _state(ctx)
        if payload == _SERVE:
            _serve(ctx, state)
            return
        elements = ctx.table(_ELEMENTS)
        cleared = list(islice(elements.scan(b"", U64.pack(state.cleared)), SLICE_ROWS))
        for index, mark in cleared:
            elements.delete(index)
            ctx.release(mark)
        if len(cleared) == SLICE_ROWS:
            ctx.arm(0, _DROP)
        else:
            _save(ctx, state._replace(dropping=False))

    def session_ended(self, ctx: Context, session: int) -> bool:
        """Takes a slice of the session's takers out of the line."""
        standers = _LINE.drop(ctx, session)
        if standers:
            state = _state(ctx)
            _save(ctx, state._replace(waiting=state.waiting - len(standers)))
        return len(standers) < SLICE_WAITERS

    def withdraw(self, ctx: Context, waiter: bytes, granted: bytes | None) -> Result:
        """Takes a taker out of the line, or puts its element back to where it was."""
        if granted is None:
            if _LINE.withdraw(ctx, waiter) is not None:
                state = _state(ctx)
                _save(ctx, state._replace(waiting=state.waiting - 1))
        elif len(granted) > U64.size:
            self._put_back(ctx, granted[: U64.size], granted[U64.size :])
        return OK

    def _put_back(self, ctx: Context, index: bytes, value: bytes) -> None:
        """Puts back what was taken, unless the queue was cleared since: as if it had never been taken."""
        state = _state(ctx)
        (number,) = U64.unpack(index)
        if state.cleared <= number < state.tail:
            _append(ctx, index, value)
            _serve(ctx, state._replace(head=min(state.head, number), size=state.size + 1))


class QueueFull(Overloaded):
    """The queue holds as many elements as its capacity allows. Offer again when some were taken."""

    def __init__(self, text: str, offered: int = 0) -> None:
        super().__init__(text)
        self.offered: Final = offered
        """How many of the first elements of the call were offered all the same."""


def _number(index: bytes) -> int:
    return int(U64.unpack(index)[0])


def _listed(index: bytes, row: bytes) -> tuple[Any, int]:
    return decode_value(row[U64.size :]), int(U64.unpack_from(row)[0])


class Queue(WatchedHandle):
    """Elements in the order offered, each delivered once, to one taker; pinned to one group.

    Elements are values like a map's. ``capacity`` (from 1) bounds their number, if given when the queue is
    created: offering to a full queue raises :class:`QueueFull` and changes nothing. An opener without it
    takes the queue as it is.

    An element that is polled or taken is removed, and is this caller's alone, whatever is retried. A call
    that is cancelled puts it back to where it was, before all that were offered later. If the client dies, or
    loses its lease, while the element is on its way to it, the element is gone: it is delivered at most once.

    Every call waits for the cluster and raises ``QuorateError`` if that fails. ``read`` says how fresh an
    answer must be, if other than the handle's level.

    <!-- runnable -->
    ```python
    import quorate, trio

    async def main():
        async with quorate.connect("quorate://127.0.0.1:7400") as client:
            jobs = client.queue("documented jobs")
            await jobs.offer("sweep")
            await jobs.offer_many(["dust", "mop"])
            assert await jobs.peek() == "sweep"
            assert await jobs.take() == "sweep"
            assert [job async for job in jobs] == ["dust", "mop"]
            await jobs.clear()
            assert await jobs.poll("nothing") == "nothing"

    trio.run(main)
    ```
    """

    TYPE = QueueMachine.TYPE
    NAME = QueueMachine.NAME
    EVENTS = EventShape(value=decode_value, key=_number, page=Ask.PAGE, row=_listed)

    __slots__ = ()

    def __init__(
        self, port: ClientPort, namespace: str, name: str, *, capacity: int | None = None,
        read: ReadLevel = LINEARIZABLE,
    ) -> None:  # fmt: skip
        if capacity is not None and check_int64(capacity, "capacity") < 1:
            raise ValueError(f"a queue's capacity is from 1, not {capacity}")
        config = None if capacity is None else U64.pack(capacity)
        super().__init__(port, namespace, name, partitions=0, config=config, read=read)

    async def offer(self, value: Value) -> int:
        """Appends an element; returns the revision of the change. Raises :class:`QueueFull` at capacity."""
        answer = await self._port.command(self._ref, Op.OFFER, [], encode_value(value))
        if answer.code != Code.OK:
            raise self._full(0)
        return answer.revision

    async def offer_many(self, values: Iterable[Value]) -> None:
        """Appends the elements, in their order, up to 200 and 1 MiB of them in one command, which appends all
        of its elements, one behind the other, or none. Raises :class:`QueueFull`, whose ``offered`` says how
        many were appended, when one finds no room for its elements."""
        encoded = [encode_value(value) for value in values]
        start = 0
        while start < len(encoded):
            end = min(start + OFFER_MANY_MAX, len(encoded))
            end = start + fitting([len(value) for value in encoded[start:end]], VALUE_BYTES_MAX)
            part = encoded[start:end]
            lengths = [len(value) for value in part]
            answer = await self._port.command(self._ref, Op.OFFER_MANY, lengths, b"".join(part))
            if answer.code != Code.OK:
                raise self._full(start)
            start = end

    def _full(self, offered: int) -> QueueFull:
        text = f"the queue {self.name!r} has no room for more; offer again when elements were taken"
        return QueueFull(text, offered)

    async def poll(self, default: Any = None) -> Value:
        """Removes the first element and returns it, or ``default`` if there is none."""
        answer = await self._port.command(self._ref, Op.POLL, [], late=True)
        return decode_value(answer.result[U64.size :]) if answer.code == Code.OK else default

    async def take(self) -> Value:
        """Removes the first element and returns it; waits for one while there is none. Who waits is served in
        the order of the calls, before anybody who comes later.

        Raises SessionLost if the lease is lost while waiting, Overloaded if too many wait. Cancelled, it
        leaves the queue as if it had never been called; it may take a second to withdraw.
        """
        answer = await self._port.command(self._ref, Op.TAKE, [], late=True)
        return decode_value(answer.result[U64.size :])

    async def peek(self, default: Any = None, *, read: ReadLevel | None = None) -> Value:
        """The first element, which stays, or ``default`` if there is none."""
        answer = await self._port.query(self._ref, Ask.PEEK, [], read=read or self._read)
        if answer is None or answer.code != Code.OK:
            return default
        return decode_value(answer.result[U64.size :])

    async def size(self, *, read: ReadLevel | None = None) -> int:
        """How many elements there are, without those that were taken and may be put back."""
        answer = await self._port.query(self._ref, Ask.SIZE, [], read=read or self._read)
        return 0 if answer is None else int(U64.unpack(answer.result)[0])

    async def clear(self) -> None:
        """Removes all elements, at once. Those being taken when a call of theirs is cancelled later do not
        come back."""
        await self._port.command(self._ref, Op.CLEAR, [])

    def elements(self, *, read: ReadLevel | None = None) -> AsyncIterator[Value]:
        """The elements, which stay, by ``async for``, in their order. They come in pages of at most 1,000
        elements and 256 KiB, each read at one moment."""
        return Walk(
            self._port, self._ref, Ask.PAGE, lambda _, row: decode_value(row[U64.size :]), values=True,
            read=read or self._read,
        )  # fmt: skip

    def __aiter__(self) -> AsyncIterator[Value]:
        """Like :meth:`elements`."""
        return self.elements()

    def watch(
        self, *, position: Position | None = None, initial: bool = False, previous: bool = False,
        progress: bool = False, buffer_bytes: int = BUFFER_BYTES,
    ) -> Watch:  # fmt: skip
        """The changes from now on, by ``async with``: ``put`` for what is offered or put back, ``removed``
        for what is polled or taken, ``cleared``. An event's key is the element's index, which grows along the
        queue. The options are those of
        :meth:`KeyedHandle.watch <primitives.watching.KeyedHandle.watch>`."""
        return self._watch(
            position=position, initial=initial, previous=previous, progress=progress,
            buffer_bytes=buffer_bytes,
        )  # fmt: skip
