"""Rows of keyed entries: counted, with revisions and times to live, cleared at once however many they are.

A partition keeps its entries in table ``ENTRIES``, each under the partition's *incarnation* (8 bytes) and its
encoded key: value revision, created revision and expiry in log time (0: never), 8 bytes each; the rest of the
mark of the event that set the value, 2 bytes; where it expires, the handle of its timer, 16 bytes. The value
is the event's, which is kept for it. The one row of table ``META`` counts the entries.
Clearing raises the incarnation, so the old rows are out of sight at once, and drops them later in slices that
are commands of their own. What has expired is visible until its timer's command is applied.

An entry may be bound to a session: the number stands in the place of the expiry, with ``BOUND_BIT``. It is
void from the log entry on that ended the session, since whoever reads it asks whether the session lives; the
rows are dropped in slices. Table ``BOUND`` finds a session's entries, table ``COUNTS`` has their number, so
that void ones are not counted.

The functions take the row of ``META`` as ``meta``, and a place as ``at``: incarnation and key.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from typing import Final

from primitives.errors import InvariantViolation
from primitives.machine import Context, View
from primitives.records import U64
from primitives.watch import EventKind

META: Final = 0
ENTRIES: Final = 1
BOUND: Final = 2
"""Session, 8 bytes, and place → nothing."""
COUNTS: Final = 3
"""Incarnation and session, 8 bytes each → how many entries are bound to it, 8 bytes."""
TABLES: Final = 4
"""How many tables entries take."""

SLICE_ROWS: Final = 250
"""Cleared entries that one slice drops, with their timers."""
SLICE_BOUND: Final = 50
"""Entries of an ended session that one slice drops."""
BOUND_BIT: Final = 1 << 63
"""Tells the number of a session from an expiry."""

HEADER: Final = struct.Struct(">QQQ")
"""Value revision, created revision, and expiry or session: what an entry is answered with, before its
value."""
_META: Final = struct.Struct(">QQB")
"""Incarnation; entries in it; whether a slice that drops older ones is armed."""
_NEW_META: Final = _META.pack(0, 0, 0)
_NEVER: Final = bytes(8)
_PLAIN: Final = HEADER.size
_MARKED: Final = _PLAIN + 2
_TIMED: Final = _MARKED + 16
_IS_BOUND: Final = 0x80
"""In the first byte of the expiry."""
_DROP: Final = b"\x00"
_EXPIRE: Final = b"\x01"


def meta_of(view: View) -> bytes:
    """The row of ``META``; its first 8 bytes are the incarnation, the next 8 the count."""
    return view.view(META).get(b"") or _NEW_META


def place(meta: bytes, key: bytes) -> bytes:
    """The place of a key."""
    return meta[:8] + key


def find(view: View, at: bytes) -> bytes | None:
    """The entry's row; None if there is none, or the session that it is bound to has ended."""
    row = view.view(ENTRIES).get(at)
    return None if row is not None and row[16] & _IS_BOUND and _is_void(view, row) else row


def claim(ctx: Context, meta: bytes, at: bytes) -> tuple[bytes | None, bytes]:
    """The entry's row and the row of ``META``, for a command that changes it: what is void is dropped."""
    row = ctx.table(ENTRIES).get(at)
    if row is not None and row[16] & _IS_BOUND and _is_void(ctx, row):
        delete(ctx, at, meta, row, EventKind.EXPIRED)
        return None, meta_of(ctx)
    return row, meta


def size(view: View, meta: bytes) -> int:
    """How many entries there are."""
    incarnation, count, _ = _META.unpack(meta)
    for key, row in view.view(COUNTS).scan(U64.pack(incarnation), U64.pack(incarnation + 1)):
        if not view.alive(U64.unpack_from(key, 8)[0]):
            count -= U64.unpack(row)[0]
    return int(count)


def _session(row: bytes) -> int:
    return int(U64.unpack_from(row, 16)[0]) & ~BOUND_BIT


def _is_void(view: View, row: bytes) -> bool:
    return not view.alive(_session(row))


def _is_plain(row: bytes) -> bool:
    """Whether the entry has neither a timer, whose handle makes rows longer, nor a session."""
    return len(row) == _MARKED and not row[16] & _IS_BOUND


def _bind(ctx: Context, at: bytes) -> None:
    """Binds an entry to the asking session."""
    ctx.hold()
    _count(ctx, at, ctx.session, 1)
    ctx.table(BOUND).put(U64.pack(ctx.session) + at, b"")


def _unbind(ctx: Context, at: bytes, row: bytes) -> None:
    """The entry is not bound to its session any more."""
    session = _session(row)
    _count(ctx, at, session, -1)
    ctx.table(BOUND).delete(U64.pack(session) + at)
    if ctx.alive(session):
        ctx.unhold(session)


def _count(ctx: Context, at: bytes, session: int, change: int) -> None:
    counts = ctx.table(COUNTS)
    key = at[:8] + U64.pack(session)
    count = change + int.from_bytes(counts.get(key) or b"", "big")
    if count:
        counts.put(key, U64.pack(count))
    else:
        counts.delete(key)


def _unhook(ctx: Context, at: bytes, row: bytes) -> None:
    """Ends what else knows of an entry that goes or is set anew: its timer, or its session."""
    if row[16] & _IS_BOUND:
        _unbind(ctx, at, row)
    elif row[16:_PLAIN] != _NEVER:
        ctx.disarm(row[_MARKED:_TIMED])


def shown(view: View, row: bytes) -> bytes:
    """What an entry is answered as: its three numbers and its value."""
    return row[:_PLAIN] + value_of(view, row)


def value_of(view: View, row: bytes) -> bytes:
    """The entry's value."""
    value = view.event(mark_of(row))
    if value is None:
        raise InvariantViolation("an entry without the event that set it")
    return value


def mark_of(row: bytes) -> bytes:
    """The mark of the event that set the entry's value."""
    return row[:8] + row[_PLAIN:_MARKED]


def has_revision(row: bytes, revision: int) -> bool:
    """Whether the entry's value is of ``revision`` (0 to 2⁶⁴-1)."""
    return row[:8] == U64.pack(revision)


def write(
    ctx: Context, at: bytes, meta: bytes, old: bytes | None, value: bytes, ttl_ms: int, *,
    bound: bool = False,
) -> None:  # fmt: skip
    """Sets the entry, whose row was ``old``, to live for ``ttl_ms`` of log time from now; 0: for good, or, if
    ``bound``, as long as the asking session."""
    if old is None:
        mark = ctx.emit(EventKind.PUT, at[8:], value, kept=True)
        lasting = mark[:8] + _NEVER
        incarnation, count, dropping = _META.unpack(meta)
        ctx.table(META).put(b"", _META.pack(incarnation, count + 1, dropping))
    else:
        mark = ctx.emit(EventKind.PUT, at[8:], value, previous=mark_of(old), kept=True)
        lasting = old[8:_PLAIN]
        if not _is_plain(old):
            lasting = old[8:16] + _NEVER
            _unhook(ctx, at, old)
    if ttl_ms:
        # Log time is cut to whole milliseconds: one more makes up for the part of the first that was gone.
        deadline_ms = ctx.log_time_ms + ttl_ms + 1
        timer = ctx.arm(deadline_ms, _EXPIRE + at)
        row = b"".join((mark[:8], lasting[:8], U64.pack(deadline_ms), mark[8:], timer))
    elif bound:
        _bind(ctx, at)
        row = b"".join((mark[:8], lasting[:8], U64.pack(ctx.session | BOUND_BIT), mark[8:]))
    else:
        row = mark[:8] + lasting + mark[8:]
    ctx.table(ENTRIES).put(at, row)


def rewrite(ctx: Context, at: bytes, row: bytes, value: bytes) -> None:
    """Sets the value of an entry that is there, which keeps its expiry."""
    mark = ctx.emit(EventKind.PUT, at[8:], value, previous=mark_of(row), kept=True)
    ctx.table(ENTRIES).put(at, b"".join((mark[:8], row[8:_PLAIN], mark[8:], row[_MARKED:])))


def delete(ctx: Context, at: bytes, meta: bytes, row: bytes, kind: int = EventKind.REMOVED) -> None:
    """Removes an entry that is there; ``kind`` is that of the event."""
    incarnation, count, dropping = _META.unpack(meta)
    ctx.table(META).put(b"", _META.pack(incarnation, count - 1, dropping))
    ctx.table(ENTRIES).delete(at)
    ctx.emit(kind, at[8:], previous=mark_of(row))
    if not _is_plain(row):
        _unhook(ctx, at, row)


def clear(ctx: Context) -> None:
    """Removes all entries, by touching three rows."""
    incarnation, count, dropping = _META.unpack(meta_of(ctx))
    if count:
        if not dropping:
            ctx.arm(0, _DROP)
        ctx.table(META).put(b"", _META.pack(incarnation + 1, 0, 1))
        ctx.emit(EventKind.CLEARED, b"")


def timer(ctx: Context, payload: bytes) -> None:
    """What a timer armed here does: expires an entry, or drops a slice of those that were cleared."""
    meta = meta_of(ctx)
    entries = ctx.table(ENTRIES)
    if payload[:1] == _EXPIRE:
        at = payload[1:]
        row = entries.get(at)
        if row is not None and at[:8] == meta[:8]:
            delete(ctx, at, meta, row, EventKind.EXPIRED)
        return
    cleared = list(islice(entries.scan(b"", meta[:8]), SLICE_ROWS))
    for at, row in cleared:
        entries.delete(at)
        ctx.release(mark_of(row))
        _unhook(ctx, at, row)
    if len(cleared) == SLICE_ROWS:
        ctx.arm(0, _DROP)
    else:
        incarnation, count, _ = _META.unpack(meta)
        ctx.table(META).put(b"", _META.pack(incarnation, count, 0))


def session_ended(ctx: Context, session: int) -> bool:
    """Drops a slice of the entries that were bound to the session; True when none is left."""
    bound, entries = ctx.table(BOUND), ctx.table(ENTRIES)
    rows = list(islice(bound.scan(U64.pack(session), U64.pack(session + 1)), SLICE_BOUND))
    for key, _ in rows:
        at = key[8:]
        meta, row = meta_of(ctx), entries.get(at)
        if row is None:
            raise InvariantViolation("a session is bound to an entry that is not there")
        if at[:8] == meta[:8]:
            delete(ctx, at, meta, row, EventKind.EXPIRED)
        else:  # cleared before
            entries.delete(at)
            ctx.release(mark_of(row))
            _unbind(ctx, at, row)
    return len(rows) < SLICE_BOUND


def behind(view: View, incarnation: bytes, after: bytes, *, values: bool) -> Iterator[tuple[bytes, bytes]]:
    """Keys of the entries behind the key ``after`` (empty: all), in order; with what they are answered as, or
    with nothing."""
    start = incarnation + after + b"\x00" if after else incarnation
    end = U64.pack(U64.unpack(incarnation)[0] + 1)
    for at, row in view.view(ENTRIES).scan(start, end):
        if row[16] & _IS_BOUND and _is_void(view, row):
            continue
        yield at[8:], shown(view, row) if values else b""
