"""Calls to catalogs that users want: deletion of a primitive, what a name means, names of a group."""

from __future__ import annotations

from typing import Any, Final

from primitives.catalog import CatalogOp
from primitives.codec import pack
from primitives.handle import Reference
from primitives.ids import GROUP_SLOT, GroupId
from primitives.records import Type
from router.session_calls import NO_ARGUMENTS, Call, CallKind
from router.session_ledger import Ledger

PAGE_NAMES: Final = 500
"""Names that are asked for at once."""


class Catalogs:
    """Makes such calls of a session. ``token`` is the driver's own."""

    __slots__ = ("_ledger",)

    def __init__(self, ledger: Ledger) -> None:
        self._ledger: Final = ledger

    def delete(self, now_ms: int, ref: Reference, *, token: Any = None) -> Call:
        """Begins to delete a primitive: ``OK``, or ``CONDITION`` if there is none, or if another call deletes
        it. It is answered when that is done, and goes on whether anybody waits or not."""
        call = self._made(CallKind.COMMAND, CatalogOp.DELETE, [ref.namespace, ref.name, ref.type], token)
        call.name = (ref.namespace, ref.name)
        call.late = call.carry_on = True
        return self._ledger.start(now_ms, call)

    def lookup(self, now_ms: int, namespace: str, name: str, *, token: Any = None) -> Call:
        """Begins to ask what a name means: see ``CatalogOp.LOOKUP``."""
        call = self._made(CallKind.QUERY, CatalogOp.LOOKUP, [namespace, name], token)
        call.name = (namespace, name)
        return self._ledger.start(now_ms, call)

    def names(
        self, now_ms: int, group: GroupId, namespace: str, prefix: str, after: str, type: int, *,
        token: Any = None,
    ) -> Call:  # fmt: skip
        """Begins to ask for a page of a group's names: see ``CatalogOp.LIST``. The map must be known."""
        args = [namespace, prefix, after, PAGE_NAMES, type]
        call = self._made(CallKind.QUERY, CatalogOp.LIST, args, token)
        call.slot, call.group = GROUP_SLOT, group
        return self._ledger.start(now_ms, call)

    def map(self, now_ms: int, *, token: Any = None) -> Call:
        """Begins to wait for the shard map."""
        call = Call(CallKind.RESOLVE, Type.CATALOG, 0, NO_ARGUMENTS, b"")
        call.token = token
        return self._ledger.start(now_ms, call)

    def forget(self, ref: Reference) -> None:
        """The primitive is deleted: what its name means is asked anew when it is used next."""
        self._ledger.directory.forget_name((ref.namespace, ref.name))
        ref.primitive = ref.spread = None

    def _made(self, kind: int, op: int, args: list[Any], token: Any) -> Call:
        call = Call(kind, Type.CATALOG, op, pack(args), b"")
        call.token = token
        return call
