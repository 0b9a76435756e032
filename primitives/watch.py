"""Watches: events, their kinds, how a type's are read, the port they come through, and listings before them.

What handles give is in ``watching``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol

from primitives.position import Position

BUFFER_BYTES: Final = 4 << 20
"""What a watch keeps of events that were not taken yet, unless it is told otherwise."""


class EventKind:
    """Kinds of events, in histories and on the wire. Never renumber. From 16 on they are a machine's own."""

    PUT: Final = 1
    """A key has a new value."""
    REMOVED: Final = 2
    """A key was removed by a command."""
    EXPIRED: Final = 3
    """A key went because its time to live, or the session that it was bound to, ended."""
    CLEARED: Final = 4
    """Everything went at once; no key is named."""
    DELETED: Final = 5
    """The primitive itself was deleted: the last event there is."""


PROGRESS: Final = 0
"""A kind that clients alone know: nothing happened, up to here."""

KIND_NAMES: Final[Mapping[int, str]] = {
    PROGRESS: "progress",
    EventKind.PUT: "put",
    EventKind.REMOVED: "removed",
    EventKind.EXPIRED: "expired",
    EventKind.CLEARED: "cleared",
    EventKind.DELETED: "deleted",
}


@dataclass(frozen=True, slots=True)
class Event:
    """One change, as a watch tells it.

    ``kind`` is ``put``; ``removed``, by somebody; ``expired``, with its time to live or with the session it
    was bound to; ``cleared``, all keys of the partition at once; ``listed``: no change, but what was there
    when the watch began; ``progress``: nothing, and the watch's position has come further. Some types have
    kinds of their own.
    """

    kind: str
    key: Any = None
    """None where no key is concerned, or all are."""
    value: Any = None
    """The new value; None for what went."""
    previous: Any = None
    """The value that was replaced or removed, if the watch asked for it and it is still known."""
    revision: int = 0
    """Of the command that made the change; comparable within a partition, and only growing there."""
    partition: int = 0
    """The partition that it happened in: ``cleared`` means those keys whose events had the same."""


class StreamEvent(NamedTuple):
    """An event as a port gives it: nothing in it is decoded."""

    partition: int
    revision: int
    number: int
    """Its place among the events of that revision."""
    kind: int
    """One of :class:`EventKind`, the type's own, or ``PROGRESS``."""
    key: bytes = b""
    value: bytes = b""
    previous: bytes | None = None


class WatchPort(Protocol):
    """Events of one primitive, all partitions merged, each event once and each partition's in order. The port
    does what it takes to keep that up: connections, leaders and nodes may come and go.

    ``pop`` and ``next`` raise, once everything that came before was taken: ``Compacted``, ``WatchOverflow``,
    ``Deleted``, ``BadPosition``, ``TypeMismatch`` and what else ends a watch. To be used by one task.
    """

    @property
    def existed(self) -> bool:
        """Whether the primitive existed when the watch was entered. If not, it begins with the very first
        event, once the primitive is created."""

    @property
    def position(self) -> Position | None:
        """Everything taken so far, and all that is known to hold no event for this watch behind it. None
        while the primitive does not exist."""

    async def __aenter__(self) -> WatchPort:
        """Waits until the watch stands: whatever is called from then on is told. At once if the primitive
        does not exist."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends it. Does not wait."""

    def pop(self) -> StreamEvent | None:
        """The next event, or None if there is none yet. Does not wait."""

    async def next(self) -> StreamEvent:
        """The next event; waits for it."""


def _nothing(data: bytes) -> Any:
    return None


@dataclass(frozen=True, slots=True)
class EventShape:
    """How the events of a type, and the listing of what there is, are read. One constant for each type."""

    value: Callable[[bytes], Any]
    """An event's value, from its bytes; not asked for events without one."""
    key: Callable[[bytes], Any] = _nothing
    """An event's key, from its bytes; not asked for events without one."""
    kinds: Mapping[int, str] = field(default_factory=dict)
    """Names of the type's own kinds."""
    page: int | None = None
    """The query that answers a page (see ``pages``) to ``[after, rows, True]``; None: no initial listing."""
    row: Callable[[bytes, bytes], tuple[Any, int]] | None = None
    """A page row's value and revision, from its key and content; needed for a listing."""


class Listing:
    """How far the initial listing of a watch has come: partition by partition, each in the order of keys.

    Every page is the state at one revision. The watch stands before the first page is asked for, so an event
    of a key that is listed already is told, and one of a key that is not is left to a later page, which is
    newer than the event. So each partition's events and pages are told in the order of their revisions, and
    together they make the state, however the events and the pages interleave.
    """

    __slots__ = ("_after", "_done", "_end", "_filter", "_is_prefix", "_left", "after", "held")

    def __init__(self, filter: bytes, *, is_prefix: bool) -> None:
        self._filter: Final = filter
        self._is_prefix: Final = is_prefix
        self._left: deque[int] = deque()
        self._done: set[int] = set()
        self._after: Final = before(filter)
        self._end = self._after
        """Keys up to here, inclusive, are listed in the current partition."""
        self.after = self._after
        """What to ask for next: rows behind this key."""
        self.held: deque[StreamEvent] = deque()
        """Events of the current partition behind the page that is being listed."""

    def begin(self, partitions: list[int]) -> None:
        """Sets which partitions are to be listed."""
        self._left.extend(partitions)

    @property
    def partition(self) -> int | None:
        """The one being listed; None when all are."""
        return self._left[0] if self._left else None

    def listed(self, rows: list[tuple[bytes, bytes]], more: bool) -> list[tuple[bytes, bytes]]:
        """A page came: those of its rows that are wanted."""
        found = [row for row in rows if self._wants(row[0])]
        last = rows[-1][0] if rows else self.after
        if more and not self._is_past(last):
            self.after = self._end = last
        else:
            self._done.add(self._left.popleft())
            self.after = self._end = self._after
        return found

    def _wants(self, key: bytes) -> bool:
        return key.startswith(self._filter) if self._is_prefix else key == self._filter

    def _is_past(self, key: bytes) -> bool:
        """Whether no wanted key is behind this one."""
        if self._is_prefix:
            return key > self._filter and not key.startswith(self._filter)
        return key >= self._filter

    def has_listed(self, event: StreamEvent) -> bool:
        """Whether what the event is about was listed before it, so that it is to be told."""
        if event.partition in self._done:
            return True
        if event.partition != self.partition:
            return False
        return event.key <= self._end if event.key else self._end != self._after


def before(key: bytes) -> bytes:
    """A key before ``key`` with hardly any other between them; empty for an empty one."""
    if not key:
        return b""
    if key[-1] == 0:
        return key[:-1]
    return key[:-1] + bytes((key[-1] - 1,)) + b"\xff" * 8
