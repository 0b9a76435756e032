"""Value: one value with its revision and perhaps a time to live; pinned to one group.

Its partition is that of a map with one entry, under the empty key; see ``entries``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from primitives import codec, entries
from primitives.arguments import BAD_ARGS, BAD_VALUE, CONDITION, TOO_LARGE, bad_op, within
from primitives.codec import decode_value, encode_value
from primitives.entries import ENTRIES, meta_of, shown, value_of, write
from primitives.errors import Code, TooLarge
from primitives.handle import LINEARIZABLE, ClientPort, ReadLevel, check_revision, to_ttl_ms
from primitives.limits import INT_MAX, PAGE_BYTES_MAX, TTL_MS_MAX, VALUE_BYTES_MAX
from primitives.machine import OK, Context, Machine, Result, View
from primitives.map import Entry
from primitives.pages import encode_page
from primitives.position import Position
from primitives.records import Answer
from primitives.watch import BUFFER_BYTES, EventShape
from primitives.watching import Watch, WatchedHandle


class Op:
    """Commands. Never renumber: they are in logs."""

    SET: Final = 1
    """``[]`` or ``[ttl_ms, flags, revision]``, body: the value. See :class:`Flag`."""
    COMPARE_AND_SET: Final = 2
    """``[ttl_ms, length, or_unset]``, body: the old value, of that length, and the new one. CONDITION if the
    value is another; one that is not set will do if so said."""
    UNSET: Final = 3
    """``[flags, revision]``; CONDITION if there was no value, or not that of the revision."""


class Flag:
    """What a SET or UNSET asks for further, added up."""

    IF_REVISION: Final = 1
    """Only if the value has the revision given; 0: if none is set."""
    PREVIOUS: Final = 2
    """Answers the entry as it was before; nothing if there was none."""


GET: Final = 1
"""Query ``[]``; the entry as its three numbers (``entries.HEADER``) and its value, or CONDITION."""
PAGE: Final = 2
"""Query ``[after, rows, values]``: a page with that entry under the empty key, or with nothing."""

_BAD_OP: Final = bad_op("value")


def _refused(row: bytes | None, flags: int, expected: int) -> bool:
    """Whether the condition that ``flags`` may set does not hold of the row."""
    if not flags & Flag.IF_REVISION:
        return False
    return expected != 0 if row is None else not entries.has_revision(row, expected)


def _set(ctx: Context, args: list[Any], body: bytes) -> Result:
    ttl_ms, flags, expected = args or (0, 0, 0)
    if not (within(ttl_ms, 0, TTL_MS_MAX) and within(flags, 0, 3) and within(expected, 0, INT_MAX)):
        return BAD_ARGS
    if not body:
        return BAD_VALUE
    if len(body) > VALUE_BYTES_MAX:
        return TOO_LARGE
    meta = meta_of(ctx)
    at = meta[:8]
    row = ctx.table(ENTRIES).get(at)
    before = b"" if row is None or not flags & Flag.PREVIOUS else shown(ctx, row)
    if _refused(row, flags, expected):
        return Code.CONDITION, before
    write(ctx, at, meta, row, body, ttl_ms)
    return Code.OK, before


def _compare_and_set(ctx: Context, args: list[Any], body: bytes) -> Result:
    ttl_ms, length, or_unset = args
    if not within(ttl_ms, 0, TTL_MS_MAX) or type(or_unset) is not bool:
        return BAD_ARGS
    if not within(length, 1, len(body) - 1):
        return BAD_VALUE
    if len(body) > VALUE_BYTES_MAX:
        return TOO_LARGE
    meta = meta_of(ctx)
    at = meta[:8]
    row = ctx.table(ENTRIES).get(at)
    if not or_unset if row is None else value_of(ctx, row) != body[:length]:
        return CONDITION
    write(ctx, at, meta, row, body[length:], ttl_ms)
    return OK


def _unset(ctx: Context, args: list[Any], body: bytes) -> Result:
    flags, expected = args
    if body or not within(flags, 0, 3) or not within(expected, 0, INT_MAX):
        return BAD_ARGS
    meta = meta_of(ctx)
    at = meta[:8]
    row = ctx.table(ENTRIES).get(at)
    if row is None:
        return CONDITION
    before = shown(ctx, row) if flags & Flag.PREVIOUS else b""
    if _refused(row, flags, expected):
        return Code.CONDITION, before
    entries.delete(ctx, at, meta, row)
    return Code.OK, before


_COMMANDS: Final[dict[int, tuple[Callable[[Context, list[Any], bytes], Result], tuple[int, ...]]]] = {
    Op.SET: (_set, (0, 3)),
    Op.COMPARE_AND_SET: (_compare_and_set, (3,)),
    Op.UNSET: (_unset, (2,)),
}
"""What executes a command, and how many arguments it may have."""


class ValueMachine(Machine):
    """The replicated half of :class:`Value`."""

    TYPE = 19
    NAME = "value"

    def apply(self, ctx: Context, op: int, args: list[Any], body: bytes) -> Result:
        """Executes one of :class:`Op`."""
        command, arity = _COMMANDS.get(op, (None, ()))
        if command is None:
            return _BAD_OP
        return command(ctx, args, body) if len(args) in arity else BAD_ARGS

    def query(self, view: View, op: int, args: list[Any], body: bytes) -> Result:
        """Answers GET or PAGE."""
        if op != GET and op != PAGE:
            return _BAD_OP
        if body or len(args) != (3 if op == PAGE else 0):
            return BAD_ARGS
        row = view.view(ENTRIES).get(meta_of(view)[:8])
        if op == PAGE:
            found = [] if row is None else [(b"", shown(view, row))]
            return Code.OK, encode_page(found, 1, PAGE_BYTES_MAX)
        return CONDITION if row is None else (Code.OK, shown(view, row))

    def timer(self, ctx: Context, payload: bytes) -> None:
        """Expires the value."""
        entries.timer(ctx, payload)


def _entry(shown_row: bytes) -> Entry:
    revision, created, expires = entries.HEADER.unpack_from(shown_row)
    return Entry(decode_value(shown_row[entries.HEADER.size :]), revision, created, expires or None)


def _listed(key: bytes, row: bytes) -> tuple[codec.Value, int]:
    entry = _entry(row)
    return entry.value, entry.revision


class Value(WatchedHandle):
    """One value, shared by all clients; unset until first written. Pinned to one group.

    The value is None, bool, int (64-bit), float, str, bytes, list, dict with str keys, or datetime with a
    time zone, at most 1 MiB encoded and 16 deep; anything else raises TypeError, and what is too large
    TooLarge, at the call. Values are compared by their encoded bytes, so 1, 1.0 and True differ. A value that
    is unset reads as None.

    A time to live, ``ttl``, is in seconds (above 0) and counts by the cluster's own replicated time: the
    value never goes sooner, and is there until its expiry was applied. One set again without it has none.

    Every call waits for the cluster and raises ``QuorateError`` if that fails; a write takes effect exactly
    once, whatever is retried, while its session lives. ``read`` says how fresh an answer must be, if other
    than the handle's level.

    <!-- runnable -->
    ```python
    import quorate, trio

    async def main():
        async with quorate.connect("quorate://127.0.0.1:7400") as client:
            primary = client.value("documented primary")
            assert await primary.compare_and_set(None, "node-1")
            assert not await primary.compare_and_set(None, "node-2")
            entry = await primary.entry()
            assert await primary.replace("node-3", revision=entry.revision)
            assert await primary.get_and_set("node-4") == "node-3"
            assert await primary.unset()
            assert await primary.get() is None

    trio.run(main)
    ```
    """

    TYPE = ValueMachine.TYPE
    NAME = ValueMachine.NAME
    EVENTS = EventShape(value=decode_value, page=PAGE, row=_listed)

    __slots__ = ()

    def __init__(
        self, port: ClientPort, namespace: str, name: str, *, read: ReadLevel = LINEARIZABLE
    ) -> None:
        super().__init__(port, namespace, name, partitions=0, read=read)

    async def get(self, default: Any = None, *, read: ReadLevel | None = None) -> codec.Value:
        """The value, or ``default`` if it is unset."""
        entry = await self.entry(read=read)
        return default if entry is None else entry.value

    async def entry(self, *, read: ReadLevel | None = None) -> Entry | None:
        """The value with its revisions and expiry, or None if it is unset."""
        answer = await self._port.query(self._ref, GET, [], read=read or self._read)
        return None if answer is None or answer.code != Code.OK else _entry(answer.result)

    async def set(self, value: codec.Value, *, ttl: float | None = None) -> int:
        """Sets the value; returns its new revision, which only grows."""
        return (await self._set(value, ttl, 0)).revision

    async def get_and_set(
        self, value: codec.Value, default: Any = None, *, ttl: float | None = None
    ) -> codec.Value:
        """Sets the value; returns the one it replaced, or ``default`` if it was unset."""
        answer = await self._set(value, ttl, Flag.PREVIOUS)
        return _entry(answer.result).value if answer.result else default

    async def replace(self, value: codec.Value, *, revision: int, ttl: float | None = None) -> bool:
        """Sets the value if it still is of ``revision`` (0: unset); whether it was."""
        answer = await self._set(value, ttl, Flag.IF_REVISION, check_revision(revision))
        return answer.code == Code.OK

    async def _set(self, value: codec.Value, ttl: float | None, flags: int, revision: int = 0) -> Answer:
        args = [] if ttl is None and not flags else [to_ttl_ms(ttl), flags, revision]
        return await self._port.command(self._ref, Op.SET, args, encode_value(value))

    async def compare_and_set(self, old: codec.Value, new: codec.Value, *, ttl: float | None = None) -> bool:
        """Sets the value to ``new`` if it is ``old``, where None also means unset; whether it was. The two
        together have at most 1 MiB encoded. To compare by revision, see :meth:`replace`."""
        was, body = encode_value(old), encode_value(new)
        size = len(was) + len(body)
        if size > VALUE_BYTES_MAX:
            raise TooLarge(f"two values of {size} bytes; at most {VALUE_BYTES_MAX} are carried")
        args = [to_ttl_ms(ttl), len(was), old is None]
        answer = await self._port.command(self._ref, Op.COMPARE_AND_SET, args, was + body)
        return answer.code == Code.OK

    async def unset(self, *, revision: int | None = None) -> bool:
        """Removes the value, if one is set and, where given, it is of ``revision``; whether it did."""
        expected = 0 if revision is None else check_revision(revision)
        args = [0 if revision is None else Flag.IF_REVISION, expected]
        return (await self._port.command(self._ref, Op.UNSET, args)).code == Code.OK

    def watch(
        self, *, position: Position | None = None, initial: bool = False, previous: bool = False,
        progress: bool = False, buffer_bytes: int = BUFFER_BYTES,
    ) -> Watch:  # fmt: skip
        """The changes from now on, by ``async with``: ``put``, ``removed`` and ``expired``. The options are
        those of :meth:`KeyedHandle.watch <primitives.watching.KeyedHandle.watch>`."""
        return self._watch(
            position=position, initial=initial, previous=previous, progress=progress,
            buffer_bytes=buffer_bytes,
        )  # fmt: skip
