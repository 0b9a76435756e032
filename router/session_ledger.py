"""All calls of a session that are under way: begun, bounded, placed with their groups, and settled."""

from __future__ import annotations

from typing import Any, Final

from primitives.codec import pack
from primitives.errors import Code, InvariantViolation, Overloaded, TooLarge
from primitives.handle import Reference
from primitives.ids import GROUP_SLOT, GroupId
from primitives.limits import ARGUMENT_BYTES_MAX
from primitives.position import Position
from router.session_calls import Call
from router.session_groups import GroupSession
from router.session_names import Directory
from router.session_reads import ReplicaReads
from router.session_shared import Shared
from router.shardmap import ShardMap
from router.slots import slot_of_partition


class Ledger:
    """Calls from their beginning to their outcome."""

    __slots__ = ("_bytes", "_calls", "_reads", "directory", "dirty", "finished", "groups", "resolved",
                 "shared")  # fmt: skip

    def __init__(self, shared: Shared, reads: ReplicaReads) -> None:
        self._reads: Final = reads
        self.shared: Final = shared
        self.directory: Final = Directory(shared)
        self.groups: Final[dict[GroupId, GroupSession]] = {}
        self.dirty: Final[dict[GroupId, GroupSession]] = {}
        """Groups that may have something to send."""
        self.finished: list[Call] = []
        """Users' calls that have their outcome."""
        self.resolved: list[Call] = []
        """Watches' own calls that have their outcome."""
        self._calls = 0
        self._bytes = 0

    def make(
        self, kind: int, ref: Reference, op: int, args: list[Any], body: bytes, key: bytes | None,
        partition: int | None,
    ) -> Call:  # fmt: skip
        """A call that a user wants. Raises :class:`Overloaded` if too much is under way, :class:`TooLarge`
        for arguments over their limit."""
        packed = pack(args)
        if len(packed) > ARGUMENT_BYTES_MAX:
            raise TooLarge(f"arguments of {len(packed)} bytes; at most {ARGUMENT_BYTES_MAX} are carried")
        call = Call(kind, ref.type, op, packed, body)
        call.ref, call.key, call.partition = ref, key, partition or 0
        settings = self.shared.settings
        if self._calls >= settings.calls_max or self._bytes + call.size > settings.call_bytes_max:
            raise Overloaded(f"{self._calls} calls of {self._bytes} bytes are under way in this client")
        return call

    def start(self, now_ms: int, call: Call) -> Call:
        """Takes a call that was made, on its way to its group."""
        self.count(call)
        self.place(now_ms, self.directory.submit(call))
        return call

    def count(self, call: Call) -> Call:
        """One call more is under way."""
        self._calls += 1
        self._bytes += call.size
        return call

    def forget(self, call: Call) -> None:
        """One call less is under way."""
        self._calls -= 1
        self._bytes -= call.size

    def place(self, now_ms: int, calls: list[Call]) -> None:
        """Hands calls whose slot is known to their groups."""
        shard_map = self.shared.shard_map
        for call in calls:
            if shard_map is None:
                raise InvariantViolation("a call is placed before there is a map")
            group_id = GroupId(call.group) if call.slot == GROUP_SLOT else shard_map.group(call.slot)
            group = self.group(group_id)
            if call.read:
                self._reads.add(now_ms, group, call)
                continue
            if call.late and group.lane(call.slot).is_crowded(self.shared.settings.late_max):
                self.shared.finish(call, None, Overloaded("too many calls wait in one slot"))
                continue
            group.add(now_ms, call)
            self.dirty[group_id] = group

    def group(self, group_id: GroupId) -> GroupSession:
        """The session's part in a group."""
        group = self.groups.get(group_id)
        if group is None:
            group = self.groups[group_id] = GroupSession(group_id, self.shared)
        return group

    def moved(self, now_ms: int, former: ShardMap, present: ShardMap) -> None:
        """Slots went to other groups. Their revisions went along: what was seen of the former owner holds for
        the present one, too."""
        for before, after in set(zip(former.owners, present.owners, strict=True)):
            if before != after and before in self.groups:
                group = self.group(GroupId(after))
                group.seen = max(group.seen, self.groups[GroupId(before)].seen)
        moved = [call for group in self.groups.values() for call in group.moved(present)]
        self.place(now_ms, moved + self._reads.moved(present))

    def position(self, ref: Reference) -> Position | None:
        """The highest revisions seen of the groups of a primitive's partitions, as the map has them; None if
        ``ref`` is not resolved."""
        shard_map, primitive = self.shared.shard_map, ref.primitive
        if shard_map is None or primitive is None or ref.spread is None:
            return None
        slots = [slot_of_partition(shard_map.salt, primitive, at) for at in range(ref.spread)]
        groups = [self.groups.get(shard_map.group(slot)) for slot in slots or [primitive.slot]]
        revisions = [0 if group is None else group.seen for group in groups]
        return Position.at(shard_map.cluster_id, primitive, revisions)

    def settle(self, now_ms: int) -> None:
        """Deals with calls that have an outcome: the catalog's answers let others go on."""
        shared = self.shared
        while shared.finished:
            finished, shared.finished = shared.finished, []
            for call in finished:
                if call.entry is not None:
                    self.place(now_ms, self.directory.answered(call))
                elif call.answer is not None and call.answer.code == Code.UNKNOWN_PRIMITIVE and call.ref:
                    self.place(now_ms, self.directory.again(call))
                else:
                    self.forget(call)
                    (self.finished if call.watch is None else self.resolved).append(call)
