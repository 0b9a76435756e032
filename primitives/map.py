"""Map: entries by key, spread over partitions by the keys' hashes, or pinned to one. See ``entries``, too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from primitives import entries
from primitives.codec import Key, Value, decode_key, decode_value, encode_key, encode_value
from primitives.entries import ENTRIES, meta_of, shown, value_of, write
from primitives.errors import Code, TooLarge
from primitives.handle import (
    LINEARIZABLE,
    ClientPort,
    ReadLevel,
    check_int64,
    check_partitions,
    check_revision,
    to_ttl_ms,
    together,
)
from primitives.integers import decode_integer, encode_integer
from primitives.limits import (
    INT_MAX,
    INT_MIN,
    KEY_BYTES_MAX,
    PAGE_BYTES_MAX,
    PAGE_ROWS_MAX,
    TTL_MS_MAX,
    VALUE_BYTES_MAX,
)
from primitives.machine import OK, Context, Machine, Result, View
from primitives.many import PUT_MANY_MAX, Walk, fetch_many, send_many
from primitives.pages import encode_page, encode_series
from primitives.records import Answer
from primitives.watch import EventShape
from primitives.watching import KeyedHandle

T = TypeVar("T")


class Op:
    """Commands. Never renumber: they are in logs."""

    PUT: Final = 1
    """``[key]`` or ``[key, ttl_ms, flags, revision]``, body: the value. See :class:`Flag`."""
    REMOVE: Final = 2
    """``[key]`` or ``[key, flags, revision]``, body: the value to compare, if so flagged."""
    COMPARE_AND_SET: Final = 3
    """``[key, ttl_ms, length]``, body: the old value, of that length, and the new one."""
    INCREMENT: Final = 4
    """``[key, n]``; answers the new number's value. CONDITION: the entry's value is no integer."""
    CLEAR: Final = 5
    """``[]``."""
    PUT_MANY: Final = 6
    """``[ttl_ms, key, length, key, length, ...]``, body: the values."""


class Flag:
    """What a PUT or REMOVE asks for further, added up."""

    IF_ABSENT: Final = 1
    IF_REVISION: Final = 2
    """Only if the entry is there and its value has the revision given."""
    IF_VALUE: Final = 4
    PREVIOUS: Final = 8
    """Answers the entry as it was before; nothing if there was none."""


class Ask:
    """Queries. An entry is answered as its three numbers (``entries.HEADER``) and its value."""

    GET: Final = 1
    """``[key]``; CONDITION if there is none."""
    CONTAINS: Final = 2
    """``[key]``; CONDITION if there is none."""
    SIZE: Final = 3
    """``[]``; 8 bytes."""
    PAGE: Final = 4
    """``[after, rows, values]``: entries behind the key ``after`` (empty: from the first), in the order of
    keys, with or without their contents; see ``pages``."""
    GET_MANY: Final = 5
    """``[key, ...]``; a series of the first of them."""


_KEY_BYTES_MAX: Final = KEY_BYTES_MAX + 1

_CONDITION: Final[Result] = (Code.CONDITION, b"")
_BAD_OP: Final[Result] = (Code.BAD_REQUEST, b"not an operation of a map")
_BAD_ARGS: Final[Result] = (Code.BAD_REQUEST, b"not the arguments of this operation of a map")
_BAD_KEY: Final[Result] = (Code.BAD_REQUEST, b"not a key of a map")
_BAD_VALUE: Final[Result] = (Code.BAD_REQUEST, b"not a value of a map")
_TOO_LARGE: Final[Result] = (Code.TOO_LARGE, b"the command carries too much")
_OVERFLOW: Final[Result] = (Code.OVERFLOW, b"the entry would leave the range of 64 bits")


def _is_key(key: Any) -> bool:
    return type(key) is bytes and 0 < len(key) <= _KEY_BYTES_MAX


def _within(number: Any, least: int, most: int) -> bool:
    return type(number) is int and least <= number <= most


def _put(ctx: Context, args: list[Any], body: bytes) -> Result:
    if len(args) == 1:
        key = args[0]
        ttl_ms = flags = expected = 0
    elif len(args) == 4:
        key, ttl_ms, flags, expected = args
        if not (_within(ttl_ms, 0, TTL_MS_MAX) and _within(flags, 0, 15) and _within(expected, 0, INT_MAX)):
            return _BAD_ARGS
    else:
        return _BAD_ARGS
    if type(key) is not bytes or not 0 < len(key) <= _KEY_BYTES_MAX:
        return _BAD_KEY
    if not body:
        return _BAD_VALUE
    if len(body) > VALUE_BYTES_MAX:
        return _TOO_LARGE
    meta = meta_of(ctx)
    at = meta[:8] + key
    old = ctx.table(ENTRIES).get(at)
    if not flags:
        write(ctx, at, meta, old, body, ttl_ms)
        return OK
    before = b"" if old is None or not flags & Flag.PREVIOUS else shown(ctx, old)
    if (flags & Flag.IF_ABSENT and old is not None) or (
        flags & Flag.IF_REVISION and (old is None or not entries.has_revision(old, expected))
    ):
        return Code.CONDITION, before
    write(ctx, at, meta, old, body, ttl_ms)
    return Code.OK, before


def _remove(ctx: Context, args: list[Any], body: bytes) -> Result:
    if len(args) == 1:
        args = [args[0], 0, 0]
    if len(args) != 3 or not _within(args[1], 0, 15) or not _within(args[2], 0, INT_MAX):
        return _BAD_ARGS
    key, flags, expected = args
    if not _is_key(key):
        return _BAD_KEY
    meta = meta_of(ctx)
    at = meta[:8] + key
    row = ctx.table(ENTRIES).get(at)
    if row is None:
        return _CONDITION
    before = shown(ctx, row) if flags & Flag.PREVIOUS else b""
    if (flags & Flag.IF_REVISION and not entries.has_revision(row, expected)) or (
        flags & Flag.IF_VALUE and value_of(ctx, row) != body
    ):
        return Code.CONDITION, before
    entries.delete(ctx, at, meta, row)
    return Code.OK, before


def _compare_and_set(ctx: Context, args: list[Any], body: bytes) -> Result:
    if len(args) != 3 or not _within(args[1], 0, TTL_MS_MAX) or not _within(args[2], 1, len(body) - 1):
        return _BAD_ARGS
    key, ttl_ms, length = args
    if not _is_key(key):
        return _BAD_KEY
    if len(body) > VALUE_BYTES_MAX:
        return _TOO_LARGE
    meta = meta_of(ctx)
    at = meta[:8] + key
    row = ctx.table(ENTRIES).get(at)
    if row is None or value_of(ctx, row) != body[:length]:
        return _CONDITION
    write(ctx, at, meta, row, body[length:], ttl_ms)
    return OK


def _increment(ctx: Context, args: list[Any], body: bytes) -> Result:
    if body or len(args) != 2 or not _within(args[1], INT_MIN, INT_MAX):
        return _BAD_ARGS
    key, n = args
    if not _is_key(key):
        return _BAD_KEY
    meta = meta_of(ctx)
    at = meta[:8] + key
    row = ctx.table(ENTRIES).get(at)
    number = 0 if row is None else decode_integer(value_of(ctx, row))
    if number is None:
        return _CONDITION
    if not INT_MIN <= number + n <= INT_MAX:
        return _OVERFLOW
    value = encode_integer(number + n)
    if row is None:
        write(ctx, at, meta, None, value, 0)
    else:
        entries.rewrite(ctx, at, row, value)
    return Code.OK, value


def _clear(ctx: Context, args: list[Any], body: bytes) -> Result:
    if args or body:
        return _BAD_ARGS
    entries.clear(ctx)
    return OK


def _put_many(ctx: Context, args: list[Any], body: bytes) -> Result:
    if len(args) % 2 == 0 or not _within(args[0], 0, TTL_MS_MAX):
        return _BAD_ARGS
    keys, lengths = args[1::2], args[2::2]
    if len(keys) > PUT_MANY_MAX or len(body) > VALUE_BYTES_MAX:
        return _TOO_LARGE
    if not all(map(_is_key, keys)):
        return _BAD_KEY
    if not all(_within(length, 1, len(body)) for length in lengths) or sum(lengths) != len(body):
        return _BAD_VALUE
    start = 0
    for key, length in zip(keys, lengths, strict=True):
        meta = meta_of(ctx)
        at = meta[:8] + key
        write(ctx, at, meta, ctx.table(ENTRIES).get(at), body[start : start + length], args[0])
        start += length
    return OK


_COMMANDS: Final[dict[int, Callable[[Context, list[Any], bytes], Result]]] = {
    Op.PUT: _put,
    Op.REMOVE: _remove,
    Op.COMPARE_AND_SET: _compare_and_set,
    Op.INCREMENT: _increment,
    Op.CLEAR: _clear,
    Op.PUT_MANY: _put_many,
}


class MapMachine(Machine):
    """The replicated half of :class:`Map`: one partition of it."""

    TYPE = 16
    NAME = "map"

    def apply(self, ctx: Context, op: int, args: list[Any], body: bytes) -> Result:
        """Executes one of :class:`Op`."""
        command = _COMMANDS.get(op)
        return _BAD_OP if command is None else command(ctx, args, body)

    def query(self, view: View, op: int, args: list[Any], body: bytes) -> Result:
        """Answers one of :class:`Ask`."""
        if body:
            return _BAD_ARGS
        meta = meta_of(view)
        rows = view.view(ENTRIES)
        if op == Ask.GET or op == Ask.CONTAINS:
            if len(args) != 1 or not _is_key(args[0]):
                return _BAD_KEY
            row = rows.get(meta[:8] + args[0])
            if row is None:
                return _CONDITION
            return OK if op == Ask.CONTAINS else (Code.OK, shown(view, row))
        if op == Ask.SIZE:
            return _BAD_ARGS if args else (Code.OK, meta[8:16])
        if op == Ask.PAGE:
            return self._page(view, meta[:8], args)
        if op != Ask.GET_MANY:
            return _BAD_OP
        if not 0 < len(args) <= PAGE_ROWS_MAX or not all(map(_is_key, args)):
            return _BAD_KEY
        found = (rows.get(meta[:8] + key) for key in args)
        contents = (None if row is None else shown(view, row) for row in found)
        return Code.OK, encode_series(contents, PAGE_BYTES_MAX)

    def _page(self, view: View, incarnation: bytes, args: list[Any]) -> Result:
        if len(args) != 3 or not _within(args[1], 1, PAGE_ROWS_MAX) or type(args[2]) is not bool:
            return _BAD_ARGS
        after, rows_max, values = args
        if after != b"" and not _is_key(after):
            return _BAD_KEY
        found = entries.behind(view, incarnation, after, values=values)
        return Code.OK, encode_page(found, rows_max, PAGE_BYTES_MAX)

    def timer(self, ctx: Context, payload: bytes) -> None:
        """Expires an entry, or drops a slice of those that were cleared."""
        entries.timer(ctx, payload)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a map holds under a key."""

    value: Value
    revision: int
    """Of the change that set the value; only grows."""
    created: int
    """Revision of the change that made the entry."""
    expires: int | None
    """The group's log time, in ms, at which the entry goes; None: never."""


_ANY: Final[Any] = object()


def _value(shown_row: bytes) -> Value:
    return decode_value(shown_row[entries.HEADER.size :])


def _entry(shown_row: bytes) -> Entry:
    revision, created, expires = entries.HEADER.unpack_from(shown_row)
    return Entry(_value(shown_row), revision, created, expires or None)


class Map(KeyedHandle):
    """Entries by key, shared by all clients.

    Keys are str, bytes or int (64-bit), at most 1 KiB; 1 and "1" are different keys. Values are None, bool,
    int (64-bit), float, str, bytes, list, dict with str keys, or datetime with a time zone, at most 1 MiB
    encoded and 16 deep; anything else raises TypeError, and what is too large TooLarge, at the call. A value
    is compared by its encoded bytes, so 1, 1.0 and True differ.

    An entry lives in one of the map's partitions, 16 unless ``partitions`` (1 to 1,024) says otherwise when
    the map is created, or ``pinned`` makes it one. What an entry goes through is linearizable. Of several
    entries nothing is promised together, but in one partition.

    A time to live, ``ttl``, is in seconds (above 0) and counts by the cluster's own replicated time: the
    entry never goes sooner, and is there until its expiry was applied. One put again without it has none.

    Every call waits for the cluster and raises ``QuorateError`` if that fails; a write takes effect exactly
    once, whatever is retried, while its session lives. ``read`` says how fresh an answer must be, if other
    than the handle's level.
    """

    TYPE = MapMachine.TYPE
    NAME = MapMachine.NAME
    EVENTS = EventShape(
        value=decode_value, key=decode_key, page=Ask.PAGE,
        row=lambda key, row: (_value(row), entries.HEADER.unpack_from(row)[0]),
    )  # fmt: skip

    __slots__ = ()

    def __init__(
        self, port: ClientPort, namespace: str, name: str, *, partitions: int | None = None,
        pinned: bool = False, read: ReadLevel = LINEARIZABLE,
    ) -> None:  # fmt: skip
        wanted = check_partitions(partitions, pinned)
        config = None if wanted is None else b""
        super().__init__(port, namespace, name, partitions=wanted, config=config, read=read)

    async def get(self, key: Key, default: Any = None, *, read: ReadLevel | None = None) -> Value:
        """The value of ``key``, or ``default`` if there is no entry. A stored None is a value: give another
        default, or ask :meth:`entry`, to tell it from no entry."""
        data = encode_key(key)
        answer = await self._port.query(self._ref, Ask.GET, [data], key=data, read=read or self._read)
        if answer is None or answer.code != Code.OK:
            return default
        return _value(answer.result)

    async def entry(self, key: Key, *, read: ReadLevel | None = None) -> Entry | None:
        """The entry of ``key`` with its revisions and expiry, or None."""
        data = encode_key(key)
        answer = await self._port.query(self._ref, Ask.GET, [data], key=data, read=read or self._read)
        return None if answer is None or answer.code != Code.OK else _entry(answer.result)

    async def contains(self, key: Key, *, read: ReadLevel | None = None) -> bool:
        """Whether there is an entry."""
        data = encode_key(key)
        answer = await self._port.query(self._ref, Ask.CONTAINS, [data], key=data, read=read or self._read)
        return answer is not None and answer.code == Code.OK

    async def put(self, key: Key, value: Value, *, ttl: float | None = None) -> int:
        """Sets the entry; returns its new revision."""
        data, body = encode_key(key), encode_value(value)
        args = [data] if ttl is None else [data, to_ttl_ms(ttl), 0, 0]
        return (await self._port.command(self._ref, Op.PUT, args, body, key=data)).revision

    async def get_and_put(self, key: Key, value: Value, *, ttl: float | None = None) -> Entry | None:
        """Sets the entry; returns the one it replaced, or None."""
        answer = await self._put(key, value, ttl, Flag.PREVIOUS)
        return _entry(answer.result) if answer.result else None

    async def put_if_absent(self, key: Key, value: Value, *, ttl: float | None = None) -> bool:
        """Sets the entry if there is none; whether it did."""
        return (await self._put(key, value, ttl, Flag.IF_ABSENT)).code == Code.OK

    async def replace(self, key: Key, value: Value, *, revision: int, ttl: float | None = None) -> bool:
        """Sets the entry if its value still is of ``revision``; whether it was."""
        expected = check_revision(revision)
        return (await self._put(key, value, ttl, Flag.IF_REVISION, expected)).code == Code.OK

    async def _put(self, key: Key, value: Value, ttl: float | None, flags: int, revision: int = 0) -> Answer:
        data, body = encode_key(key), encode_value(value)
        return await self._port.command(
            self._ref, Op.PUT, [data, to_ttl_ms(ttl), flags, revision], body, key=data
        )

    async def compare_and_set(self, key: Key, old: Value, new: Value, *, ttl: float | None = None) -> bool:
        """Sets the entry to ``new`` if there is one and its value is ``old``; whether it was. The two
        together have at most 1 MiB encoded."""
        data, was, body = encode_key(key), encode_value(old), encode_value(new)
        if len(was) + len(body) > VALUE_BYTES_MAX:
            size = len(was) + len(body)
            raise TooLarge(f"two values of {size} bytes; at most {VALUE_BYTES_MAX} are carried")
        args = [data, to_ttl_ms(ttl), len(was)]
        answer = await self._port.command(self._ref, Op.COMPARE_AND_SET, args, was + body, key=data)
        return answer.code == Code.OK

    async def remove(self, key: Key, *, revision: int | None = None, value: Value = _ANY) -> bool:
        """Removes the entry if there is one and, where given, its value is ``value`` and of ``revision``;
        whether it did."""
        data = encode_key(key)
        flags = expected = 0
        body = b""
        if revision is not None:
            flags, expected = Flag.IF_REVISION, check_revision(revision)
        if value is not _ANY:
            flags, body = flags | Flag.IF_VALUE, encode_value(value)
        args = [data, flags, expected] if flags else [data]
        return (await self._port.command(self._ref, Op.REMOVE, args, body, key=data)).code == Code.OK

    async def increment(self, key: Key, n: int = 1) -> int:
        """Adds ``n``, which may be negative, to an entry's int and returns the sum; no entry counts 0. Its
        expiry stays. Raises TypeError if the value is no int, OverflowRefused beyond 64 bits; then nothing
        changes."""
        data = encode_key(key)
        args = [data, check_int64(n, "n")]
        answer = await self._port.command(self._ref, Op.INCREMENT, args, key=data)
        if answer.code != Code.OK:
            raise TypeError(f"the value of {key!r} is no int")
        return int(decode_value(answer.result))

    async def compute(
        self, key: Key, function: Callable[[Any], Value], default: Any = None, *, ttl: float | None = None
    ) -> Value:
        """Sets the entry to ``function`` of its value, or of ``default`` if there is none, and returns that.
        The function is called again whenever somebody else changed the entry meanwhile; the entry is set
        once. What it raises is raised here, and nothing changes."""
        while True:
            entry = await self.entry(key, read=LINEARIZABLE)
            new = function(default if entry is None else entry.value)
            if entry is None:
                done = await self.put_if_absent(key, new, ttl=ttl)
            else:
                done = await self.replace(key, new, revision=entry.revision, ttl=ttl)
            if done:
                return new

    async def size(self, *, read: ReadLevel | None = None) -> int:
        """How many entries there are: exact in each partition, each counted at its own moment."""
        answers = await self._everywhere(
            lambda p: self._port.query(self._ref, Ask.SIZE, [], partition=p, read=read or self._read)
        )
        return sum(int.from_bytes(answer.result, "big") for answer in answers if answer is not None)

    async def clear(self) -> None:
        """Removes all entries: at once in each partition, in each at its own moment."""
        await self._everywhere(lambda p: self._port.command(self._ref, Op.CLEAR, [], partition=p))

    async def _everywhere(self, call: Callable[[int], Any]) -> list[Any]:
        """What ``call`` gives for every partition; nothing if the map does not exist."""
        partitions = await self._port.partitions(self._ref)
        if partitions is None:
            return []
        return await together([partial(call, p) for p in range(max(1, partitions))])

    async def get_many(self, keys: Iterable[Key], *, read: ReadLevel | None = None) -> dict[Key, Value]:
        """The values of those of ``keys`` that have entries. They are read in pages of at most 1,000 keys and
        256 KiB of one partition, each at one moment."""
        names = list(dict.fromkeys(keys))
        encoded = [encode_key(name) for name in names]
        contents = await fetch_many(self._port, self._ref, Ask.GET_MANY, encoded, read or self._read)
        return {
            name: _value(content)
            for name, content in zip(names, contents, strict=True) if content is not None
        }  # fmt: skip

    async def put_many(self, items: Mapping[Key, Value], *, ttl: float | None = None) -> None:
        """Sets all these entries, many in one command. Each command, of one partition and at most 200
        entries and 1 MiB, takes effect as a whole; if the call fails, some of them may have."""
        encoded = [encode_key(key) for key in items]
        values = [encode_value(value) for value in items.values()]
        await send_many(self._port, self._ref, Op.PUT_MANY, to_ttl_ms(ttl), encoded, values)

    def items(self, *, read: ReadLevel | None = None) -> AsyncIterator[tuple[Key, Value]]:
        """Keys and values, by ``async for``, in no order to rely on. They come in pages of at most 1,000
        entries and 256 KiB of one partition, each read at one moment: an entry that is there throughout comes
        exactly once, one that is put or removed meanwhile may come or not."""
        return self._walk(lambda key, row: (decode_key(key), _value(row)), True, read)

    def keys(self, *, read: ReadLevel | None = None) -> AsyncIterator[Key]:
        """The keys; else like :meth:`items`."""
        return self._walk(lambda key, row: decode_key(key), False, read)

    def values(self, *, read: ReadLevel | None = None) -> AsyncIterator[Value]:
        """The values; else like :meth:`items`."""
        return self._walk(lambda key, row: _value(row), True, read)

    def _walk(self, made: Callable[[bytes, bytes], T], values: bool, read: ReadLevel | None) -> Walk[T]:
        return Walk(self._port, self._ref, Ask.PAGE, made, values=values, read=read or self._read)
