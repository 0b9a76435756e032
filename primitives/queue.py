"""Elements in the order offered, each delivered to one taker; pinned to one group. See ``queueops``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from primitives.codec import Value, decode_value, encode_value
from primitives.errors import Code, Overloaded
from primitives.handle import LINEARIZABLE, ClientPort, ReadLevel, check_int64
from primitives.limits import VALUE_BYTES_MAX
from primitives.many import Walk, fitting
from primitives.position import Position
from primitives.queueops import OFFER_MANY_MAX, Ask, Op, QueueMachine
from primitives.records import U64
from primitives.watch import BUFFER_BYTES, EventShape
from primitives.watching import Watch, WatchedHandle


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
