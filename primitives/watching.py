"""Watches as handles give them: the same for every type, which only says how its events are read."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Any, ClassVar, Final

from primitives.codec import Key, encode_key
from primitives.handle import ClientPort, Handle, Reference
from primitives.limits import PAGE_ROWS_MAX
from primitives.pages import decode_page
from primitives.position import Position
from primitives.watch import BUFFER_BYTES, KIND_NAMES, PROGRESS, Event, EventShape, Listing, StreamEvent

BUFFER_BYTES_MAX: Final = 1 << 30
_ROWS_FOR_A_KEY: Final = 4
"""A page that looks for one key: it is the first row, or hardly behind it."""


class Watch:
    """The events of a primitive: ``async with x.watch(...) as events: async for event in events``.

    Each change comes exactly once, those of one partition in the order in which they happened; lost
    connections, changes of leaders and restarts of nodes are passed over in silence. Before a call of the
    same client returns, whatever it did or saw is in the watch's buffer.

    Iterating waits for the next event and raises, after everything that came before: ``WatchOverflow`` if the
    buffer was full while an answer waited for what did not fit; ``Compacted`` if the position is no longer in
    the history; ``Deleted`` when the primitive is deleted; ``BadPosition`` for one of another cluster or
    primitive. It is for one task, which may call the same client inside the loop.
    """

    __slots__ = ("_filter", "_listing", "_made", "_port", "_prefix", "_progress", "_ready", "_ref", "_shape",
                 "_stream")  # fmt: skip

    def __init__(
        self, port: ClientPort, ref: Reference, shape: EventShape, *, key: bytes | None = None,
        prefix: bytes | None = None, position: Position | None = None, initial: bool = False,
        previous: bool = False, progress: bool = False, buffer_bytes: int = BUFFER_BYTES,
    ) -> None:  # fmt: skip
        """``key`` or ``prefix``, encoded, choose what is told; the rest is as in ``Handle.watch``."""
        if key is not None and prefix is not None:
            raise ValueError("a watch takes a key or a prefix, not both")
        if initial and position is not None:
            raise ValueError("a watch begins with a listing or at a position, not both")
        if position is not None and not isinstance(position, Position):
            raise TypeError(f"position is a Position, not {type(position).__name__}")
        if type(buffer_bytes) is not int or not 1 <= buffer_bytes <= BUFFER_BYTES_MAX:
            raise ValueError(f"buffer_bytes is a whole number from 1 to {BUFFER_BYTES_MAX}")
        if initial and (shape.page is None or shape.row is None):
            raise ValueError("this type has no initial listing")
        self._port: Final = port
        self._ref: Final = ref
        self._shape: Final = shape
        self._filter: Final = key if key is not None else prefix or b""
        self._prefix: Final = key is None
        self._listing: Listing | None = Listing(self._filter, is_prefix=self._prefix) if initial else None
        self._progress: Final = progress
        self._ready: deque[Event] = deque()
        self._stream: Final = port.watch(
            ref, after=position, key=key, prefix=prefix, previous=previous, progress=progress,
            buffer_bytes=buffer_bytes,
        )  # fmt: skip
        self._made: Final = {**KIND_NAMES, **shape.kinds}

    @property
    def position(self) -> Position | None:
        """Where to go on from later, in any process: behind the event that was given last, and behind all
        that surely concerns this watch no more. None while the initial listing is under way, and while the
        primitive does not exist."""
        return None if self._listing is not None or self._ready else self._stream.position

    async def __aenter__(self) -> Watch:
        """Begins to watch; waits until every change made from then on is sure to be told. If there is no such
        primitive, that is at once, and the events begin with its creation."""
        await self._stream.__aenter__()
        if self._listing is not None:
            try:
                await self._begin(self._listing)
            except BaseException as error:
                await self._stream.__aexit__(type(error), error, error.__traceback__)
                raise
        return self

    async def _begin(self, listing: Listing) -> None:
        partitions = await self._port.partitions(self._ref) if self._stream.existed else None
        if partitions is None:
            self._listing = None
        elif not self._prefix and partitions:
            spread = await self._port.spread(self._ref, [self._filter])
            listing.begin([] if spread is None else [spread[0][0]])
        else:
            listing.begin(list(range(max(1, partitions))))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the watch. Does not wait for the cluster."""
        await self._stream.__aexit__(kind, error, trace)

    def __aiter__(self) -> Watch:
        """Itself."""
        return self

    async def __anext__(self) -> Event:
        """The next event; waits for it."""
        while self._listing is not None or self._ready:
            if self._ready:
                return self._ready.popleft()
            if self._listing is not None:
                await self._list(self._listing)
        return self._event(await self._stream.next())

    async def _list(self, listing: Listing) -> None:
        """Goes one page further. What is told of keys that are not listed yet is in a later page."""
        self._drain(listing)
        partition = listing.partition
        if self._ready or partition is None:
            if partition is None:
                self._listing = None
                if self._progress:
                    self._ready.append(Event("progress"))
            return
        shape = self._shape
        if shape.page is None or shape.row is None:
            return
        args = [listing.after, PAGE_ROWS_MAX if self._prefix else _ROWS_FOR_A_KEY, True]
        answer = await self._port.query(self._ref, shape.page, args, partition=partition)
        if answer is None:  # Deleted meanwhile: the stream says so.
            self._listing = None
            return
        # Events up to the answer's revision came before it, and belong before what it lists.
        rows, more = decode_page(answer.result)
        self._drain(listing, until=answer.revision)
        for key, content in listing.listed(rows, more):
            value, revision = shape.row(key, content)
            self._ready.append(Event("listed", shape.key(key), value, None, revision, partition))
        self._drain(listing)

    def _drain(self, listing: Listing, until: int | None = None) -> None:
        """Takes what is in the buffer; of the partition being listed, only up to the revision ``until``."""
        held = listing.held
        while held and (until is None or held[0].revision <= until):
            self._take(listing, held.popleft())
        while (event := self._stream.pop()) is not None:
            if event.partition == listing.partition and until is not None and event.revision > until:
                held.append(event)
            else:
                self._take(listing, event)

    def _take(self, listing: Listing, event: StreamEvent) -> None:
        if event.kind != PROGRESS and listing.has_listed(event):
            self._ready.append(self._event(event))

    def _event(self, event: StreamEvent) -> Event:
        partition, revision, _number, kind, key, value, previous = event
        if kind == PROGRESS:
            return Event(KIND_NAMES[PROGRESS])
        shape = self._shape
        return Event(
            self._made.get(kind, f"kind {kind}"), shape.key(key) if key else None,
            shape.value(value) if value else None, shape.value(previous) if previous else None, revision,
            partition,
        )  # fmt: skip


class WatchedHandle(Handle):
    """A handle of a type that tells its changes. ``EVENTS`` says how they are read."""

    EVENTS: ClassVar[EventShape]

    __slots__ = ()

    def _watch(self, *, key: bytes | None = None, prefix: bytes | None = None, **options: Any) -> Watch:
        """A watch with encoded filters and the options of :class:`~primitives.watch.Watch`, for types whose
        own ``watch`` has other arguments."""
        return Watch(self._port, self._ref, self.EVENTS, key=key, prefix=prefix, **options)


class KeyedHandle(WatchedHandle):
    """A handle of a type whose changes are of keys."""

    __slots__ = ()

    def watch(
        self, key: Key | None = None, *, prefix: str | bytes | None = None, position: Position | None = None,
        initial: bool = False, previous: bool = False, progress: bool = False,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> Watch:  # fmt: skip
        """The changes from now on, by ``async with``; see :class:`~primitives.watch.Watch`.

        ``key``, or ``prefix`` of keys of its type, choose what is told; what concerns all keys always is.
        ``position``: goes on from there, where another watch or this client had come. ``initial``: first
        lists what there is, as ``listed``, and goes on from there without gap or repetition; of a key that is
        listed already, changes may come between. ``previous``: with the values that are replaced.
        ``progress``: with a ``progress`` event whenever ``position`` has come further though there was
        nothing to tell, at most once a second, and after the listing. ``buffer_bytes`` bounds what is kept of
        events that were not taken yet, about.

        A primitive that does not exist is not created: the watch waits for that and begins with its first
        event.
        """
        return self._watch(
            key=None if key is None else encode_key(key),
            prefix=None if prefix is None else encode_key(prefix), position=position, initial=initial,
            previous=previous, progress=progress, buffer_bytes=buffer_bytes,
        )  # fmt: skip
