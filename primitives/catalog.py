"""The catalog of names: each slot's own, and what a name stands for.

A name's slot logs the creation of its primitive first; slot and revision of that command are the primitive's
id. A pinned primitive's only partition opens with its name; those of a spread one are opened where they live,
when they are first used.

So it is with deletion. A pinned primitive goes with its name, in one command. The name of a spread one is
``deleting`` until each partition's group has logged that it is gone (see ``shards/deleting.py``): only then
is whoever asked for it answered, and the name free. Who creates the name anew meanwhile waits for that, too.
"""

from __future__ import annotations

import struct
from itertools import islice
from typing import Any, Final, NamedTuple, cast

from primitives.arguments import indefinite
from primitives.codec import check_name, check_namespace, pack, unpack
from primitives.errors import Code, TooLarge
from primitives.ids import CATALOG_ID, Revision, SlotId
from primitives.layout import after
from primitives.limits import (
    ARGUMENT_BYTES_MAX,
    PAGE_BYTES_MAX,
    PAGE_ROWS_MAX,
    PARTITIONS_DEFAULT,
    PARTITIONS_MAX,
)
from primitives.machine import OK, CatalogContext, Context, Machine, Result, TableView, View
from primitives.records import U32, U64, Query, Read, Type

NAMES: Final = 0
"""By namespace, a zero byte and the name: what it stands for."""
IDS: Final = 1
"""By revision of creation: the key in ``NAMES``."""
WAITERS: Final = 2
"""By revision of creation of what is being deleted, and revision of the command that waits: the waiter."""
DELETING_WAITERS_MAX: Final = 256
"""Commands that wait for one deletion."""

_ROW: Final = struct.Struct(">QBH")
"""Revision of creation, type, partitions; the configuration follows."""
_DELETING: Final = 0x8000
"""Added to the partitions of what is being deleted."""
_LISTED: Final = struct.Struct(">HQBH")
"""Slot, then like ``_ROW``."""
_NEXT: Final = struct.Struct(">H")
_WAITER_BYTES: Final = 18
_BEGAN: Final = 0
_WAITS: Final = 1
_CREATES: Final = 2


class CatalogOp:
    """Operations on a catalog. Never renumber."""

    CREATE: Final = 1
    """A command, ``[namespace, name, type, partitions or None, has_config]`` with the configuration as its
    body: finds or makes the primitive. The answer is a :class:`Found`; it is late while the name is being
    deleted."""
    LOOKUP: Final = 2
    """A query, ``[namespace, name]``: a :class:`Found`, or ``CONDITION`` if there is none."""
    LOOKUP_ID: Final = 3
    """A query, ``[revision]``: likewise, and ``CONDITION`` for what is being deleted."""
    LIST: Final = 4
    """A query in ``GROUP_SLOT``, ``[namespace, prefix, after or "", limit, type or 0]``: names of the whole
    group, in order; see :func:`decode_listed`."""
    DELETE: Final = 5
    """A command that may be answered late, ``[namespace, name, type]``: deletes the primitive. ``CONDITION``
    if there is none, or if another call deleted it, which is over then too."""


class Found(NamedTuple):
    """What a name stands for."""

    revision: Revision
    """Of its creation: with the name's slot, its id."""
    type: int
    partitions: int
    """0: pinned, its partition 0 lives in the name's slot."""
    config: bytes
    deleting: bool = False
    """Whether it is being deleted: some of its partitions may be gone."""


class Listed(NamedTuple):
    """A name in a listing."""

    name: str
    slot: SlotId
    revision: Revision
    """Of its creation: with the slot, its id."""
    type: int
    partitions: int


def encode_found(found: Found) -> bytes:
    """The bytes of ``found``, as in a row and in an answer."""
    partitions = found.partitions | (_DELETING if found.deleting else 0)
    return _ROW.pack(found.revision, found.type, partitions) + found.config


def decode_found(data: bytes) -> Found:
    """The inverse of :func:`encode_found`; raises ``struct.error`` for too few bytes."""
    revision, type, partitions = _ROW.unpack_from(data)
    deleting = partitions >= _DELETING
    return Found(Revision(revision), type, partitions & ~_DELETING, data[_ROW.size :], deleting)


def decode_listed(data: bytes) -> tuple[list[Listed], str]:
    """The answer of ``CatalogOp.LIST``: names, and where to go on (``after``); empty if there are no more.
    Raises ValueError or ``struct.error`` if it is none."""
    (size,) = _NEXT.unpack_from(data)
    at = _NEXT.size + size
    following = data[_NEXT.size : at].decode()
    listed: list[Listed] = []
    while at < len(data):
        (size,) = U32.unpack_from(data, at)
        listed.append(Listed(*unpack(data[at + 4 : at + 4 + size])))
        at += 4 + size
    return listed, following


def create_arguments(
    namespace: str, name: str, type: int, partitions: int | None, config: bytes | None
) -> tuple[list[Any], bytes]:
    """Arguments and body of ``CatalogOp.CREATE``. ``config`` None takes what is there."""
    return [namespace, name, type, partitions, config is not None], config or b""


def lookup_query(slot: SlotId, epoch: int, namespace: str, name: str) -> Query:
    """The question what a name in ``slot`` stands for."""
    args = [namespace, name]
    return Query(slot, epoch, CATALOG_ID, 0, Type.CATALOG, CatalogOp.LOOKUP, Read.LINEARIZABLE, 0, args, b"")


def lookup_id_query(slot: SlotId, epoch: int, revision: int) -> Query:
    """The question what was created in ``slot`` by the command of ``revision``."""
    args = [revision]
    return Query(
        slot, epoch, CATALOG_ID, 0, Type.CATALOG, CatalogOp.LOOKUP_ID, Read.LINEARIZABLE, 0, args, b""
    )


class CatalogMachine(Machine):
    """A slot's names."""

    TYPE = Type.CATALOG
    NAME = "catalog"

    def apply(self, ctx: Context, op: int, args: list[Any], body: bytes) -> Result:
        """Finds, makes or deletes a primitive."""
        catalog = cast(CatalogContext, ctx)
        if op == CatalogOp.CREATE:
            return self._create(catalog, args, body)
        if op == CatalogOp.DELETE:
            return self._delete(catalog, args)
        return Code.BAD_REQUEST, b"unknown operation"

    def query(self, view: View, op: int, args: list[Any], body: bytes) -> Result:
        """Says what a name or an id stands for, or lists names."""
        names = view.view(NAMES)
        row: bytes | None = None
        if op == CatalogOp.LOOKUP:
            key = _name_key(args)
            if isinstance(key, str):
                return Code.BAD_REQUEST, key.encode(errors="replace")
            row = names.get(key)
        elif op == CatalogOp.LOOKUP_ID:
            if len(args) != 1 or type(args[0]) is not int or not 0 <= args[0] < 1 << 64:
                return Code.BAD_REQUEST, _FORM
            id_row = view.view(IDS).get(U64.pack(args[0]))
            row = None if id_row is None else names.get(id_row)
            if row is not None and decode_found(row).deleting:
                row = None
        elif op == CatalogOp.LIST:
            return _list(cast(CatalogContext, view).group_names(), args)
        else:
            return Code.BAD_REQUEST, b"unknown operation"
        return (Code.CONDITION, b"") if row is None else (Code.OK, row)

    def withdraw(self, ctx: Context, waiter: bytes, granted: bytes | None) -> Result:
        """Nobody waits for the end of a deletion any more; it goes on."""
        if granted is None:
            waiters = ctx.table(WAITERS)
            for key, row in waiters.scan():
                if row.startswith(waiter):
                    waiters.delete(key)
                    break
        return OK

    def freed(self, ctx: CatalogContext, revision: Revision) -> Result:
        """Each partition of the primitive created at ``revision`` is deleted: frees its name, and answers
        those who waited for that. Who waits to create the name anew is for :meth:`resume`."""
        key = ctx.table(IDS).get(U64.pack(revision))
        row = None if key is None else ctx.table(NAMES).get(key)
        if key is None or row is None or not decode_found(row).deleting:
            return OK
        _forget(ctx, key, revision)
        waiters = ctx.table(WAITERS)
        start = U64.pack(revision)
        for at, waiting in list(waiters.scan(start, after(start))):
            waiter, kind = waiting[:_WAITER_BYTES], waiting[_WAITER_BYTES]
            if kind == _CREATES:
                continue
            waiters.delete(at)
            if ctx.alive(int.from_bytes(waiter[:8], "big")):
                ctx.answer(waiter, (Code.OK if kind == _BEGAN else Code.CONDITION, b""))
        return OK

    def resume(self, ctx: CatalogContext, revision: Revision, refusal: Result | None = None) -> bool:
        """Creates anew, for the first of those who wait for it, the name freed by the end of that deletion;
        with a ``refusal``, which is for when that failed, answers so instead. False if nobody waits."""
        waiters = ctx.table(WAITERS)
        start = U64.pack(revision)
        found = next(waiters.scan(start, after(start)), None)
        if found is None:
            return False
        at, waiting = found
        waiters.delete(at)
        waiter = waiting[:_WAITER_BYTES]
        if ctx.alive(int.from_bytes(waiter[:8], "big")):
            size = _NEXT.unpack_from(waiting, _WAITER_BYTES + 1)[0]
            at_body = _WAITER_BYTES + 1 + _NEXT.size + size
            args = unpack(waiting[at_body - size : at_body])
            ctx.answer(waiter, refusal or self._create(ctx, args, waiting[at_body:]))
        return True

    def _create(self, ctx: CatalogContext, args: list[Any], body: bytes) -> Result:
        if len(args) != 5:
            return Code.BAD_REQUEST, _FORM
        key = _name_key(args[:2])
        if isinstance(key, str):
            return Code.BAD_REQUEST, key.encode(errors="replace")
        name, type_, partitions, has_config = args[1:]
        if partitions is None:
            partitions = PARTITIONS_DEFAULT
        if type(partitions) is not int or not 0 <= partitions <= PARTITIONS_MAX:
            return Code.BAD_REQUEST, b"partitions out of range"
        if type(type_) is not int or type(has_config) is not bool:
            return Code.BAD_REQUEST, _FORM
        if len(body) > ARGUMENT_BYTES_MAX:
            return Code.TOO_LARGE, b"a configuration too large"
        row = ctx.table(NAMES).get(key)
        if row is None:
            return _make(ctx, key, Found(ctx.revision, type_, partitions, body))
        found = decode_found(row)
        if found.deleting:
            packed = pack(args)
            return _wait(ctx, found, _CREATES, _NEXT.pack(len(packed)) + packed + body)
        if found.type != type_:
            return _mismatch(ctx, name, found.type, type_)
        if has_config and (found.partitions, found.config) != (partitions, body):
            return Code.CONFIG_MISMATCH, f"{name!r} exists with another configuration".encode()
        return Code.OK, row

    def _delete(self, ctx: CatalogContext, args: list[Any]) -> Result:
        if len(args) != 3 or type(args[2]) is not int:
            return Code.BAD_REQUEST, _FORM
        key = _name_key(args[:2])
        if isinstance(key, str):
            return Code.BAD_REQUEST, key.encode(errors="replace")
        row = ctx.table(NAMES).get(key)
        if row is None:
            return Code.CONDITION, b""
        found = decode_found(row)
        if found.type != args[2]:
            return _mismatch(ctx, args[1], found.type, args[2])
        if found.deleting:
            return _wait(ctx, found, _WAITS)
        if not found.partitions:
            _forget(ctx, key, found.revision)
            ctx.close(found.revision)
            return OK
        ctx.table(NAMES).put(key, encode_found(found._replace(deleting=True)))
        ctx.delete(found.revision, found.partitions)
        return _wait(ctx, found, _BEGAN)


_FORM: Final = b"not of the operation's form"


def _name_key(args: list[Any]) -> bytes | str:
    """The key of ``[namespace, name]``, or a text that says what is wrong with it."""
    if len(args) != 2:
        return _FORM.decode()
    namespace, name = args
    try:
        if check_namespace(namespace) != namespace or check_name(name) != name:
            return "a name that is not in NFC"
    except (TypeError, ValueError, TooLarge) as error:
        return str(error)
    return b"\0".join((namespace.encode(), name.encode()))


def _make(ctx: CatalogContext, key: bytes, found: Found) -> Result:
    if found.type <= Type.SYSTEM or ctx.type_name(found.type) is None:
        return Code.BAD_REQUEST, b"unknown type of primitive"
    row = encode_found(found)
    ctx.table(NAMES).put(key, row)
    ctx.table(IDS).put(U64.pack(found.revision), key)
    listed = _LISTED.pack(ctx.slot, found.revision, found.type, found.partitions)
    ctx.group_names().put(key, listed)
    if not found.partitions:
        ctx.open(found.type, found.config)
    return Code.OK, row


def _forget(ctx: CatalogContext, key: bytes, revision: Revision) -> None:
    ctx.table(NAMES).delete(key)
    ctx.table(IDS).delete(U64.pack(revision))
    ctx.group_names().delete(key)


def _wait(ctx: CatalogContext, found: Found, kind: int, rest: bytes = b"") -> Result:
    """Answers the command when the deletion is over."""
    waiters = ctx.table(WAITERS)
    start = U64.pack(found.revision)
    if len(list(islice(waiters.scan(start, after(start)), DELETING_WAITERS_MAX))) >= DELETING_WAITERS_MAX:
        return Code.OVERLOADED, b"too many calls wait for a deletion"
    waiters.put(start + U64.pack(ctx.revision), ctx.later() + bytes((kind,)) + rest)
    return Code.PENDING, b""


def _mismatch(ctx: CatalogContext, name: str, found: int, asked: int) -> Result:
    kinds = [ctx.type_name(type) or f"primitive of type {type}" for type in (found, asked)]
    return Code.TYPE_MISMATCH, mismatch_text(name, *kinds).encode()


def mismatch_text(name: str, found: str, asked: str) -> str:
    """What is said of a name that exists as another type of primitive."""
    return f"{name!r} exists as {indefinite(found)}, not as {indefinite(asked)}"


def _list(names: TableView, args: list[Any]) -> Result:
    if [type(item) for item in args] != [str, str, str, int, int] or args[3] < 1:
        return Code.BAD_REQUEST, _FORM
    namespace, prefix, behind, limit, wanted_type = args
    space = namespace.encode(errors="replace") + b"\0"
    wanted = space + prefix.encode(errors="replace")
    start = max(wanted, space + behind.encode(errors="replace") + b"\0") if behind else wanted
    rows: list[bytes] = []
    size = 0
    following = last = b""
    for passed, (key, row) in enumerate(names.scan(start, after(wanted))):
        if passed >= PAGE_ROWS_MAX or len(rows) >= limit or size > PAGE_BYTES_MAX:
            following = last
            break
        last = key[len(space) :]
        slot, revision, type_, partitions = _LISTED.unpack(row)
        if not wanted_type or type_ == wanted_type:
            listed = pack([last.decode(), slot, revision, type_, partitions])
            rows.append(U32.pack(len(listed)) + listed)
            size += len(listed)
    return Code.OK, b"".join((_NEXT.pack(len(following)), following, *rows))
