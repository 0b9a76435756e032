"""The replicated half of maps: entries by key, some bound to sessions, and a lock for each key.

See ``entries`` and ``locking``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from primitives import entries
from primitives.arguments import (
    BAD_ARGS,
    BAD_KEY,
    BAD_VALUE,
    CONDITION,
    TOO_LARGE,
    bad_op,
    cut,
    is_key,
    within,
)
from primitives.entries import claim, find, meta_of, place, shown, value_of, write
from primitives.errors import Code
from primitives.integers import decode_integer, encode_integer
from primitives.limits import INT_MAX, INT_MIN, PAGE_BYTES_MAX, PAGE_ROWS_MAX, TTL_MS_MAX, VALUE_BYTES_MAX
from primitives.locking import Locks
from primitives.machine import OK, Context, Machine, Result, View
from primitives.many import PUT_MANY_MAX
from primitives.pages import asks_page, encode_page, encode_series
from primitives.records import U64


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
    LOCK: Final = 7
    """``[key, wait]``; answers the token as 8 bytes, late if the key is locked and it is to ``wait``,
    else CONDITION. The key needs no entry."""
    UNLOCK: Final = 8
    """``[key, token]``; CONDITION if that grant, of this session, does not hold the lock."""


class Flag:
    """What a PUT or REMOVE asks for further, added up."""

    IF_ABSENT: Final = 1
    IF_REVISION: Final = 2
    """Only if the entry is there and its value has the revision given."""
    IF_VALUE: Final = 4
    PREVIOUS: Final = 8
    """Answers the entry as it was before; nothing if there was none."""
    SESSION: Final = 16
    """Of a PUT without a time to live: the entry goes with the session that puts it."""


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
    HOLDER: Final = 6
    """``[key]``; number of session and token of whoever locked the key, 8 bytes each, or CONDITION."""


_LOCK_TIMER: Final = b"\x02"
"""What payloads of the locks' timers begin with; those of entries begin otherwise."""
_LOCKS: Final = Locks(entries.TABLES, _LOCK_TIMER)
_BAD_OP: Final = bad_op("map")
_OVERFLOW: Final[Result] = (Code.OVERFLOW, b"the entry would leave the range of 64 bits")


def _put(ctx: Context, args: list[Any], body: bytes) -> Result:
    if len(args) == 1:
        key = args[0]
        ttl_ms = flags = expected = 0
    elif len(args) == 4:
        key, ttl_ms, flags, expected = args
        if not (within(ttl_ms, 0, TTL_MS_MAX) and within(flags, 0, 31) and within(expected, 0, INT_MAX)):
            return BAD_ARGS
        if ttl_ms and flags & Flag.SESSION:
            return BAD_ARGS
    else:
        return BAD_ARGS
    if not is_key(key):
        return BAD_KEY
    if not body:
        return BAD_VALUE
    if len(body) > VALUE_BYTES_MAX:
        return TOO_LARGE
    meta = meta_of(ctx)
    at = place(meta, key)
    old, meta = claim(ctx, meta, at)
    if not flags:
        write(ctx, at, meta, old, body, ttl_ms)
        return OK
    before = b"" if old is None or not flags & Flag.PREVIOUS else shown(ctx, old)
    if (flags & Flag.IF_ABSENT and old is not None) or (
        flags & Flag.IF_REVISION and (old is None or not entries.has_revision(old, expected))
    ):
        return Code.CONDITION, before
    write(ctx, at, meta, old, body, ttl_ms, bound=flags & Flag.SESSION != 0)
    return Code.OK, before


def _remove(ctx: Context, args: list[Any], body: bytes) -> Result:
    if len(args) == 1:
        args = [args[0], 0, 0]
    if len(args) != 3 or not within(args[1], 0, 15) or not within(args[2], 0, INT_MAX):
        return BAD_ARGS
    key, flags, expected = args
    if not is_key(key):
        return BAD_KEY
    meta = meta_of(ctx)
    at = place(meta, key)
    row, meta = claim(ctx, meta, at)
    if row is None:
        return CONDITION
    before = shown(ctx, row) if flags & Flag.PREVIOUS else b""
    if (flags & Flag.IF_REVISION and not entries.has_revision(row, expected)) or (
        flags & Flag.IF_VALUE and value_of(ctx, row) != body
    ):
        return Code.CONDITION, before
    entries.delete(ctx, at, meta, row)
    return Code.OK, before


def _compare_and_set(ctx: Context, args: list[Any], body: bytes) -> Result:
    if len(args) != 3 or not within(args[1], 0, TTL_MS_MAX) or not within(args[2], 1, len(body) - 1):
        return BAD_ARGS
    key, ttl_ms, length = args
    if not is_key(key):
        return BAD_KEY
    if len(body) > VALUE_BYTES_MAX:
        return TOO_LARGE
    meta = meta_of(ctx)
    at = place(meta, key)
    row, meta = claim(ctx, meta, at)
    if row is None or value_of(ctx, row) != body[:length]:
        return CONDITION
    write(ctx, at, meta, row, body[length:], ttl_ms)
    return OK


def _increment(ctx: Context, args: list[Any], body: bytes) -> Result:
    if body or len(args) != 2 or not within(args[1], INT_MIN, INT_MAX):
        return BAD_ARGS
    key, n = args
    if not is_key(key):
        return BAD_KEY
    meta = meta_of(ctx)
    at = place(meta, key)
    row, meta = claim(ctx, meta, at)
    number = 0 if row is None else decode_integer(value_of(ctx, row))
    if number is None:
        return CONDITION
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
        return BAD_ARGS
    entries.clear(ctx)
    return OK


def _put_many(ctx: Context, args: list[Any], body: bytes) -> Result:
    if len(args) % 2 == 0 or not within(args[0], 0, TTL_MS_MAX):
        return BAD_ARGS
    keys = args[1::2]
    values = cut(body, args[2::2], PUT_MANY_MAX)
    if not isinstance(values, list):
        return values
    if not all(map(is_key, keys)):
        return BAD_KEY
    for key, value in zip(keys, values, strict=True):
        meta = meta_of(ctx)
        at = place(meta, key)
        row, meta = claim(ctx, meta, at)
        write(ctx, at, meta, row, value, args[0])
    return OK


def _lock(ctx: Context, args: list[Any], body: bytes) -> Result:
    if body or len(args) != 2 or type(args[1]) is not bool:
        return BAD_ARGS
    return _LOCKS.acquire(ctx, args[0], wait=args[1]) if is_key(args[0]) else BAD_KEY


def _unlock(ctx: Context, args: list[Any], body: bytes) -> Result:
    if body or len(args) != 2 or not within(args[1], 0, INT_MAX):
        return BAD_ARGS
    return _LOCKS.release(ctx, args[0], ctx.session, args[1]) if is_key(args[0]) else BAD_KEY


_COMMANDS: Final[dict[int, Callable[[Context, list[Any], bytes], Result]]] = {
    Op.REMOVE: _remove,
    Op.COMPARE_AND_SET: _compare_and_set,
    Op.INCREMENT: _increment,
    Op.CLEAR: _clear,
    Op.PUT_MANY: _put_many,
    Op.LOCK: _lock,
    Op.UNLOCK: _unlock,
}


class MapMachine(Machine):
    """The replicated half of maps: one partition of it."""

    TYPE = 16
    NAME = "map"

    def apply(self, ctx: Context, op: int, args: list[Any], body: bytes) -> Result:
        """Executes one of :class:`Op`."""
        if op == Op.PUT:  # the most frequent, called directly
            return _put(ctx, args, body)
        command = _COMMANDS.get(op)
        return _BAD_OP if command is None else command(ctx, args, body)

    def query(self, view: View, op: int, args: list[Any], body: bytes) -> Result:
        """Answers one of :class:`Ask`."""
        if body:
            return BAD_ARGS
        meta = meta_of(view)
        if op == Ask.GET or op == Ask.CONTAINS:
            if len(args) != 1 or not is_key(args[0]):
                return BAD_KEY
            row = find(view, place(meta, args[0]))
            if row is None:
                return CONDITION
            return OK if op == Ask.CONTAINS else (Code.OK, shown(view, row))
        if op == Ask.SIZE:
            return BAD_ARGS if args else (Code.OK, U64.pack(entries.size(view, meta)))
        if op == Ask.PAGE:
            return self._page(view, meta[:8], args)
        if op == Ask.HOLDER:
            if len(args) != 1 or not is_key(args[0]):
                return BAD_KEY
            holder = _LOCKS.holder(view, args[0])
            return CONDITION if holder is None else (Code.OK, U64.pack(holder[0]) + U64.pack(holder[1]))
        if op != Ask.GET_MANY:
            return _BAD_OP
        if not 0 < len(args) <= PAGE_ROWS_MAX or not all(map(is_key, args)):
            return BAD_KEY
        found = (find(view, place(meta, key)) for key in args)
        contents = (None if row is None else shown(view, row) for row in found)
        return Code.OK, encode_series(contents, PAGE_BYTES_MAX)

    def _page(self, view: View, incarnation: bytes, args: list[Any]) -> Result:
        if not asks_page(args):
            return BAD_ARGS
        after, rows_max, values = args
        if after != b"" and not is_key(after):
            return BAD_KEY
        found = entries.behind(view, incarnation, after, values=values)
        return Code.OK, encode_page(found, rows_max, PAGE_BYTES_MAX)

    def timer(self, ctx: Context, payload: bytes) -> None:
        """Expires an entry, drops a slice of those that were cleared, or goes on passing a lock on."""
        if payload[:1] == _LOCK_TIMER:
            _LOCKS.timer(ctx, payload)
        else:
            entries.timer(ctx, payload)

    def session_ended(self, ctx: Context, session: int) -> bool:
        """Drops a slice of the session's entries, and passes on a slice of the locks that it held."""
        done = entries.session_ended(ctx, session)
        return _LOCKS.session_ended(ctx, session) and done

    def withdraw(self, ctx: Context, waiter: bytes, granted: bytes | None) -> Result:
        """Removes somebody who waits for a lock, or gives the lock back. Nothing else is taken back."""
        return _LOCKS.withdraw(ctx, waiter, granted)
