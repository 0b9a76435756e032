"""Map: entries by key, spread over partitions by the keys' hashes, or pinned to one. See ``mapops``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from primitives import entries
from primitives.codec import Key, Value, decode_key, decode_value, encode_key, encode_value
from primitives.errors import Code, TooLarge
from primitives.handle import (
    LINEARIZABLE,
    ClientPort,
    Lease,
    ReadLevel,
    Reference,
    check_int64,
    check_partitions,
    check_revision,
    to_ttl_ms,
)
from primitives.holding import Acquirer, Held, Holder
from primitives.limits import VALUE_BYTES_MAX
from primitives.many import Walk, everywhere, fetch_many, partition_of, send_many
from primitives.mapops import Ask, Flag, MapMachine, Op
from primitives.records import U64, Answer
from primitives.watch import EventShape
from primitives.watching import KeyedHandle

T = TypeVar("T")


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
    session: int | None = None
    """Number of the session in the group with which the entry goes; None: with none."""


_ANY: Final[Any] = object()


_HEADER_BYTES: Final = entries.HEADER.size


def _value(shown_row: bytes) -> Value:
    return decode_value(shown_row[_HEADER_BYTES:])


def _entry(shown_row: bytes) -> Entry:
    revision, created, expires = entries.HEADER.unpack_from(shown_row)
    if expires & entries.BOUND_BIT:
        return Entry(_value(shown_row), revision, created, None, expires & ~entries.BOUND_BIT)
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

    An entry put with ``session=True`` goes with this client's session: when the client is closed, or its
    lease with the entry's group lost, the entry is void at once, for everybody, and watches tell ``expired``.
    The client keeps the lease alive for it until this handle removes the entry or puts it anew. Such a put
    raises SessionLost if the lease is lost meanwhile.

    Each key has a lock, whether or not it has an entry: ``async with m.lock(key) as grant:``, see
    :class:`KeyLock`. It keeps nobody from changing the entry who does not ask for it.

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

    __slots__ = ("_bound",)

    def __init__(
        self, port: ClientPort, namespace: str, name: str, *, partitions: int | None = None,
        pinned: bool = False, read: ReadLevel = LINEARIZABLE,
    ) -> None:  # fmt: skip
        wanted = check_partitions(partitions, pinned)
        config = None if wanted is None else b""
        super().__init__(port, namespace, name, partitions=wanted, config=config, read=read)
        self._bound: Final[dict[bytes, Lease]] = {}
        """For each entry that this handle bound to the session, the lease that is kept alive for it."""

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

    async def put(self, key: Key, value: Value, *, ttl: float | None = None, session: bool = False) -> int:
        """Sets the entry; returns its new revision. ``session``: it goes with this client's session, see
        :class:`Map`."""
        if session:
            return (await self._put(key, value, ttl, 0, session=True)).revision
        data, body = encode_key(key), encode_value(value)
        args = [data] if ttl is None else [data, to_ttl_ms(ttl), 0, 0]
        answer = await self._port.command(self._ref, Op.PUT, args, body, key=data)
        if self._bound and answer.code == Code.OK:
            self._unbound(data)
        return answer.revision

    async def get_and_put(
        self, key: Key, value: Value, *, ttl: float | None = None, session: bool = False
    ) -> Entry | None:
        """Sets the entry; returns the one it replaced, or None."""
        answer = await self._put(key, value, ttl, Flag.PREVIOUS, session=session)
        return _entry(answer.result) if answer.result else None

    async def put_if_absent(
        self, key: Key, value: Value, *, ttl: float | None = None, session: bool = False
    ) -> bool:
        """Sets the entry if there is none; whether it did."""
        return (await self._put(key, value, ttl, Flag.IF_ABSENT, session=session)).code == Code.OK

    async def replace(
        self, key: Key, value: Value, *, revision: int, ttl: float | None = None, session: bool = False
    ) -> bool:
        """Sets the entry if its value still is of ``revision``; whether it was."""
        expected = check_revision(revision)
        answer = await self._put(key, value, ttl, Flag.IF_REVISION, expected, session=session)
        return answer.code == Code.OK

    async def _put(
        self, key: Key, value: Value, ttl: float | None, flags: int, revision: int = 0, *, session: bool
    ) -> Answer:
        data, body, ttl_ms = encode_key(key), encode_value(value), to_ttl_ms(ttl)
        if session:
            if ttl is not None:
                raise ValueError("an entry lives for a time or with a session, not both")
            return await self._bind(data, body, flags | Flag.SESSION, revision)
        args = [data, ttl_ms, flags, revision] if ttl_ms or flags else [data]
        answer = await self._port.command(self._ref, Op.PUT, args, body, key=data)
        if answer.code == Code.OK:
            self._unbound(data)
        return answer

    async def _bind(self, data: bytes, body: bytes, flags: int, revision: int) -> Answer:
        """Sets an entry that goes with the session, whose lease is kept alive for it."""
        partition = await partition_of(self._port, self._ref, data)
        answer = await self._port.command(
            self._ref, Op.PUT, [data, 0, flags, revision], body, partition=partition, late=True
        )
        if answer.code == Code.OK:
            lease = self._port.lease(self._ref, partition=partition)
            lease.hold()
            self._unbound(data)
            self._bound[data] = lease
        return answer

    def _unbound(self, data: bytes) -> None:
        """The entry does not need the session that this handle bound it to."""
        lease = self._bound.pop(data, None)
        if lease is not None:
            lease.let_go()

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
        answer = await self._port.command(self._ref, Op.REMOVE, args, body, key=data)
        if answer.code == Code.OK:
            self._unbound(data)
        return answer.code == Code.OK

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
        level = read or self._read
        answers = await everywhere(
            self._port,
            self._ref,
            lambda p: self._port.query(self._ref, Ask.SIZE, [], partition=p, read=level),
        )
        return sum(int.from_bytes(answer.result, "big") for answer in answers if answer is not None)

    async def clear(self) -> None:
        """Removes all entries: at once in each partition, in each at its own moment."""
        await everywhere(
            self._port, self._ref, lambda p: self._port.command(self._ref, Op.CLEAR, [], partition=p)
        )

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
        """Sets all these entries, many in one command. Each command, of one partition and at most 160
        entries and 1 MiB, takes effect as a whole; if the call fails, some of them may have."""
        encoded = [encode_key(key) for key in items]
        values = [encode_value(value) for value in items.values()]
        await send_many(self._port, self._ref, Op.PUT_MANY, to_ttl_ms(ttl), encoded, values)

    def lock(self, key: Key) -> KeyLock:
        """The lock of a key. Does no I/O."""
        return KeyLock(self._port, self._ref, encode_key(key), self._read)

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


class KeyGrant(Held):
    """A key's lock held, until it is released or its lease is lost; see :class:`primitives.lock.Grant`."""

    WHAT = "a lock of the map"

    __slots__ = ("_key", "_partition")

    def __init__(
        self, port: ClientPort, ref: Reference, token: int, lease: Lease, key: bytes, partition: int
    ) -> None:
        super().__init__(port, ref, token, lease)
        self._key: Final = key
        self._partition: Final = partition

    async def _give_back(self) -> Answer:
        return await self._port.command(
            self._ref, Op.UNLOCK, [self._key, self.token], partition=self._partition, carry_on=True
        )


class KeyLock(Acquirer[KeyGrant]):
    """Mutual exclusion for one key of a map, first come first served; like :class:`primitives.lock.Lock`.

    ``async with m.lock(key) as grant:`` acquires it for a block, which is cancelled, with SessionLost, when
    the lease with the key's group is lost. It is not reentrant, and may be used by many tasks at once.
    """

    __slots__ = ("_grants", "_key", "_port", "_read", "_ref")

    def __init__(self, port: ClientPort, ref: Reference, key: bytes, read: ReadLevel) -> None:
        self._port: Final = port
        self._ref: Final = ref
        self._key: Final = key
        self._read: Final = read
        self._grants = {}

    async def _ask(self, *, wait: bool) -> KeyGrant | None:
        partition = await partition_of(self._port, self._ref, self._key)
        answer = await self._port.command(
            self._ref, Op.LOCK, [self._key, wait], partition=partition, late=True
        )
        if answer.code != Code.OK:
            return None
        lease = self._port.lease(self._ref, partition=partition)
        token = int(U64.unpack(answer.result)[0])
        return KeyGrant(self._port, self._ref, token, lease, self._key, partition)

    async def holder(self, *, read: ReadLevel | None = None) -> Holder | None:
        """Who holds the lock, or None. ``read``: how fresh, else the map's level."""
        answer = await self._port.query(
            self._ref, Ask.HOLDER, [self._key], key=self._key, read=read or self._read
        )
        if answer is None or answer.code != Code.OK:
            return None
        return Holder(*(int(U64.unpack_from(answer.result, at)[0]) for at in (0, U64.size)))
