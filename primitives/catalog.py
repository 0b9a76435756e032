"""The catalog of names: each slot's own, and what a name stands for.

A name's slot logs the creation of its primitive first; slot and revision of that command are the primitive's
id. A pinned primitive's only partition opens with its name; those of a spread one are opened where they live,
when they are first used.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple, Protocol, cast

from primitives.codec import check_name, check_namespace, pack, unpack
from primitives.errors import Code, TooLarge
from primitives.ids import CATALOG_ID, Revision, SlotId
from primitives.limits import (
    ARGUMENT_BYTES_MAX,
    PAGE_BYTES_MAX,
    PAGE_ROWS_MAX,
    PARTITIONS_DEFAULT,
    PARTITIONS_MAX,
)
from primitives.machine import Context, Machine, Result, TableView, View
from primitives.records import U32, U64, Query, Read, Type

NAMES: Final = 0
"""By namespace, a zero byte and the name: what it stands for."""
IDS: Final = 1
"""By revision of creation: the key in ``NAMES``."""

_ROW: Final = struct.Struct(">QBH")
"""Revision of creation, type, partitions; the configuration follows."""


class CatalogOp:
    """Operations on a catalog. Never renumber."""

    CREATE: Final = 1
    """A command, ``[namespace, name, type, partitions or None, has_config]`` with the configuration as its
    body: finds or makes the primitive. The answer is a :class:`Found`."""
    LOOKUP: Final = 2
    """A query, ``[namespace, name]``: a :class:`Found`, or ``CONDITION`` if there is none."""
    LOOKUP_ID: Final = 3
    """A query, ``[revision]``: likewise."""
    LIST: Final = 4
    """A query, ``[namespace, prefix, after or None, limit]``: the slot's names, in order; see
    :func:`decode_listed`."""


class Found(NamedTuple):
    """What a name stands for."""

    revision: Revision
    """Of its creation: with the name's slot, its id."""
    type: int
    partitions: int
    """0: pinned, its partition 0 lives in the name's slot."""
    config: bytes


class Listed(NamedTuple):
    """A name in a listing."""

    name: str
    revision: Revision
    type: int
    partitions: int


class CatalogContext(Context, Protocol):
    """What the host offers to the catalog beyond what machines get."""

    def knows_type(self, type: int) -> bool:
        """Whether there are machines of that type."""

    def open(self, type: int, config: bytes) -> None:
        """Opens partition 0, in this slot, of the primitive that this command creates."""


def encode_found(found: Found) -> bytes:
    """The bytes of ``found``, as in a row and in an answer."""
    return _ROW.pack(found.revision, found.type, found.partitions) + found.config


def decode_found(data: bytes) -> Found:
    """The inverse of :func:`encode_found`; raises ``struct.error`` for too few bytes."""
    revision, type, partitions = _ROW.unpack_from(data)
    return Found(Revision(revision), type, partitions, data[_ROW.size :])


def decode_listed(data: bytes) -> list[Listed]:
    """The answer of ``CatalogOp.LIST``; raises ValueError or ``struct.error`` if it is none."""
    listed: list[Listed] = []
    at = 0
    while at < len(data):
        (size,) = U32.unpack_from(data, at)
        listed.append(Listed(*unpack(data[at + 4 : at + 4 + size])))
        at += 4 + size
    return listed


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
        """Finds or makes a primitive."""
        if op != CatalogOp.CREATE:
            return Code.BAD_REQUEST, b"unknown operation"
        try:
            namespace, name, type_, partitions, has_config = args
            key = _name_key(namespace, name)
        except (TypeError, ValueError, TooLarge) as error:
            return Code.BAD_REQUEST, str(error).encode(errors="replace")
        if partitions is None:
            partitions = PARTITIONS_DEFAULT
        if type(partitions) is not int or not 0 <= partitions <= PARTITIONS_MAX:
            return Code.BAD_REQUEST, b"partitions out of range"
        if type(type_) is not int or type(has_config) is not bool:
            return Code.BAD_REQUEST, b"not of the operation's form"
        if len(body) > ARGUMENT_BYTES_MAX:
            return Code.TOO_LARGE, b"a configuration too large"
        row = ctx.table(NAMES).get(key)
        if row is None:
            return _create(cast(CatalogContext, ctx), key, Found(ctx.revision, type_, partitions, body))
        found = decode_found(row)
        if found.type != type_:
            return Code.TYPE_MISMATCH, f"{name!r} exists as another type".encode()
        if has_config and (found.partitions, found.config) != (partitions, body):
            return Code.CONFIG_MISMATCH, f"{name!r} exists with another configuration".encode()
        return Code.OK, row

    def query(self, view: View, op: int, args: list[Any], body: bytes) -> Result:
        """Says what a name or an id stands for, or lists names."""
        names = view.view(NAMES)
        key: bytes | None
        try:
            if op == CatalogOp.LOOKUP:
                namespace, name = args
                key = _name_key(namespace, name)
            elif op == CatalogOp.LOOKUP_ID:
                (revision,) = args
                key = view.view(IDS).get(U64.pack(revision))
            elif op == CatalogOp.LIST:
                return _list(names, *args)
            else:
                return Code.BAD_REQUEST, b"unknown operation"
        except (TypeError, ValueError, TooLarge, struct.error) as error:
            return Code.BAD_REQUEST, str(error).encode(errors="replace")
        row = None if key is None else names.get(key)
        return (Code.CONDITION, b"") if row is None else (Code.OK, row)


def _name_key(namespace: str, name: str) -> bytes:
    if check_namespace(namespace) != namespace or check_name(name) != name:
        raise ValueError("a name that is not in NFC")
    return b"\0".join((namespace.encode(), name.encode()))


def _create(ctx: CatalogContext, key: bytes, found: Found) -> Result:
    if found.type <= Type.SYSTEM or not ctx.knows_type(found.type):
        return Code.BAD_REQUEST, b"unknown type of primitive"
    row = encode_found(found)
    ctx.table(NAMES).put(key, row)
    ctx.table(IDS).put(U64.pack(found.revision), key)
    if not found.partitions:
        ctx.open(found.type, found.config)
    return Code.OK, row


def _list(names: TableView, namespace: str, prefix: str, after: str | None, limit: int) -> Result:
    if type(limit) is not int or limit < 1:
        raise ValueError("a limit is 1 or more")
    space = check_namespace(namespace).encode() + b"\0"
    start = wanted = space + prefix.encode()
    if after is not None:
        start = max(start, space + after.encode() + b"\0")
    rows: list[bytes] = []
    size = 0
    for key, row in names.scan(start):
        if not key.startswith(wanted) or len(rows) >= min(limit, PAGE_ROWS_MAX) or size > PAGE_BYTES_MAX:
            break
        found = decode_found(row)
        listed = pack([key[len(space) :].decode(), found.revision, found.type, found.partitions])
        rows.append(U32.pack(len(listed)) + listed)
        size += len(listed)
    return Code.OK, b"".join(rows)
