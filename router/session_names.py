"""What names mean: each is looked up, or created, once, in its slot's catalog.

Calls on a name that is not resolved yet wait here in the order made, and go on in that order. That a name
means nothing is never remembered: it holds for the calls that had been made when the question was sent, and
for no other.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from typing import Final

from primitives.catalog import CatalogOp, Found, create_arguments, decode_found, mismatch_text
from primitives.codec import pack
from primitives.errors import (
    BadPosition,
    Code,
    ConfigMismatch,
    ProtocolError,
    SessionLost,
    TypeMismatch,
    Unavailable,
)
from primitives.handle import Reference
from primitives.ids import PrimitiveId, SlotId
from primitives.limits import PARTITIONS_DEFAULT
from primitives.records import Answer, Type
from primitives.registry import names
from router.session_calls import Call, CallKind
from router.session_queue import CallQueue
from router.session_shared import Shared
from router.shardmap import ShardMap
from router.slots import partition_of_key, slot_of_name, slot_of_partition

RESOLUTIONS_MAX: Final = 8
"""So often a call's name is looked up anew because its primitive was gone when the call arrived."""
_RESOLVED: Final = Answer(Code.OK, 0, b"")  # type: ignore[arg-type]  # no revision: nothing was asked


class Entry:
    """A name, and the calls that wait to know what it means."""

    __slots__ = ("absent", "asking", "found", "key", "slot", "waiting")

    def __init__(self, key: tuple[str, str], slot: SlotId) -> None:
        self.key: Final = key
        self.slot: Final = slot
        self.found: Found | None = None
        self.waiting = CallQueue()
        self.asking: Call | None = None
        """The question to the catalog that is under way."""
        self.absent = 0
        """For calls up to this order, the name means nothing as yet."""


class Directory:
    """Names and what they mean. Hands out calls that are ready to be sent to a group."""

    __slots__ = ("_entries", "_order", "_shared", "_unplaced", "found")

    def __init__(self, shared: Shared) -> None:
        self._shared: Final = shared
        self._entries: OrderedDict[tuple[str, str], Entry] = OrderedDict()
        self._unplaced = CallQueue()
        self._order = 0
        self.found: list[tuple[str, str]] = []
        """Names that turned out to mean something; whoever looks at them empties it."""

    def submit(self, call: Call) -> list[Call]:
        """Takes a user's call; calls that are ready now. Without a shard map, they wait for one."""
        shard_map, ref = self._shared.shard_map, call.ref
        if shard_map is None:
            self._unplaced.push(call)
            return []
        if ref is None:
            return self._to_catalog(call, shard_map)
        if ref.primitive is not None and ref.spread is not None:
            return self._aim(call, ref, ref.primitive, ref.spread)
        key = (ref.namespace, ref.name)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Entry(key, slot_of_name(shard_map.salt, *key))
            self._evict()
        self._order = call.order = self._order + 1
        entry.waiting.push(call)
        return self._advance(entry)

    def _to_catalog(self, call: Call, shard_map: ShardMap) -> list[Call]:
        """A call to a catalog, of a name or of a whole group; or one that waits for the map alone."""
        if call.kind == CallKind.RESOLVE:
            self._shared.finish(call, _RESOLVED)
            return []
        if call.name is not None:
            call.slot = slot_of_name(shard_map.salt, *call.name)
        return [call]

    def forget_name(self, key: tuple[str, str]) -> None:
        """What a name means is to be asked anew."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.found = None

    def mapped(self) -> list[Call]:
        """There is a map now: calls that are ready by it."""
        if self._shared.shard_map is None:
            return []
        return [ready for call in self._unplaced.drain() for ready in self.submit(call)]

    def give_up(self, error: Exception) -> None:
        """No map will come: calls that wait for one get the error."""
        for call in self._unplaced.drain():
            self._shared.finish(call, None, error)

    def _evict(self) -> None:
        entries = self._entries
        if len(entries) > self._shared.settings.names_max:
            oldest = next(iter(entries.values()))
            if len(oldest.waiting) or oldest.asking is not None:
                entries.move_to_end(oldest.key)
            else:
                del entries[oldest.key]

    # --- Questions and answers ----------------------------------------------------------------------

    def answered(self, call: Call) -> list[Call]:
        """A question of this directory has its outcome; calls that are ready now."""
        entry: Entry = call.entry
        entry.asking = None
        answer, error = call.answer, call.error
        if error is not None:
            # After a lost session the question is asked again: it is the same whether it took effect or not.
            if not isinstance(error, SessionLost):
                self._refuse(entry, call, error)
        elif answer is not None and answer.code == Code.OK:
            try:
                entry.found = decode_found(answer.result)
                self.found.append(entry.key)
            except struct.error as damage:
                self._refuse(entry, call, ProtocolError(f"a catalog's answer that cannot be read: {damage}"))
        elif call.kind == CallKind.QUERY:
            entry.absent = call.order
        return self._advance(entry)

    def _refuse(self, entry: Entry, question: Call, error: Exception) -> None:
        """Whoever the question was asked for gets the error."""
        call = entry.waiting.pop()
        if call is not None:
            self._shared.finish(call, question.answer, error)

    def again(self, call: Call) -> list[Call]:
        """The call's primitive was not there, and the call took no effect: looks its name up anew."""
        ref = call.ref
        call.resolutions += 1
        if ref is None or call.resolutions > RESOLUTIONS_MAX:
            text = "the primitive was deleted again and again while the call was made"
            call.reset()
            self._shared.finish(call, None, Unavailable(text))
            return []
        self.forget(ref, call.primitive)
        call.reset()
        return self.submit(call)

    def forget(self, ref: Reference, primitive: PrimitiveId) -> None:
        """The reference does not mean that primitive any more, for it is gone."""
        entry = self._entries.get((ref.namespace, ref.name))
        if entry is not None and entry.found is not None and entry.found.revision == primitive.revision:
            entry.found = None
        if ref.primitive == primitive:
            ref.primitive = ref.spread = None

    def _advance(self, entry: Entry) -> list[Call]:
        """Lets waiting calls go, in order, as far as the name's meaning is known; else asks for it."""
        ready: list[Call] = []
        waiting = entry.waiting
        while entry.asking is None and (call := waiting.first()) is not None:
            if entry.found is not None and not (call.create and entry.found.deleting):
                waiting.pop()
                ready += self._resolve(entry, entry.found, call)
            elif call.order <= entry.absent and not call.create:
                waiting.pop()
                self._shared.finish(call, None)
            else:
                entry.asking = self._question(entry, call)
                ready.append(entry.asking)
        return ready

    def _question(self, entry: Entry, call: Call) -> Call:
        ref = call.ref
        if call.create and ref is not None:
            args, body = create_arguments(ref.namespace, ref.name, ref.type, ref.partitions, ref.config)
            question = Call(CallKind.COMMAND, Type.CATALOG, CatalogOp.CREATE, pack(args), body)
            question.late = True  # While the name is being deleted, it waits.
        else:
            question = Call(CallKind.QUERY, Type.CATALOG, CatalogOp.LOOKUP, pack(list(entry.key)), b"")
            question.order = self._order
        question.slot = entry.slot
        question.entry = entry
        return question

    def _resolve(self, entry: Entry, found: Found, call: Call) -> list[Call]:
        ref = call.ref
        if ref is None:
            return []
        if found.type != ref.type:
            kinds = [names().get(type) or f"primitive of type {type}" for type in (found.type, ref.type)]
            self._shared.finish(call, None, TypeMismatch(mismatch_text(ref.name, *kinds)))
            return []
        if found.deleting and call.resolutions and call.primitive.revision == found.revision:
            self._shared.finish(call, None)  # The partition that it asked is gone, the name not yet.
            return []
        asked = PARTITIONS_DEFAULT if ref.partitions is None else ref.partitions
        if ref.config is not None and (asked, ref.config) != (found.partitions, found.config):
            self._shared.finish(call, None, _config_mismatch(ref, found, asked))
            return []
        ref.primitive = PrimitiveId(entry.slot, found.revision)
        ref.spread = found.partitions
        ref.slots = [None] * found.partitions
        return self._aim(call, ref, ref.primitive, ref.spread)

    def _aim(self, call: Call, ref: Reference, primitive: PrimitiveId, spread: int) -> list[Call]:
        """Gives the call its slot, now that its primitive is known."""
        shard_map = self._shared.shard_map
        if call.kind == CallKind.RESOLVE or shard_map is None:
            self._shared.finish(call, _RESOLVED)
            return []
        call.primitive = primitive
        if not spread:
            call.slot = primitive.slot
            call.partition = 0
            return self._bound(call, shard_map.cluster_id, 1)
        if call.key is not None:
            call.partition = partition_of_key(shard_map.salt, call.key, spread)
        elif call.partition >= spread:
            text = f"{ref.name!r} has {spread} partitions; there is none of number {call.partition}"
            self._shared.finish(call, None, ValueError(text))
            return []
        slot = ref.slots[call.partition]
        if slot is None:
            slot = ref.slots[call.partition] = slot_of_partition(shard_map.salt, primitive, call.partition)
        call.slot = slot
        return self._bound(call, shard_map.cluster_id, spread)

    def _bound(self, call: Call, cluster_id: bytes, partitions: int) -> list[Call]:
        """Gives a causal query the revision that its position asks for."""
        if call.position is not None:
            try:
                call.position.check(cluster_id, call.primitive, partitions)
            except BadPosition as error:
                self._shared.finish(call, None, error)
                return []
            call.bound = call.position.revision(call.partition)
        return [call]


def _config_mismatch(ref: Reference, found: Found, asked: int) -> ConfigMismatch:
    if asked != found.partitions:
        shape = "pinned" if not found.partitions else f"spread over {found.partitions} partitions"
        return ConfigMismatch(f"{ref.name!r} exists, {shape}")
    return ConfigMismatch(f"{ref.name!r} exists with another configuration")
