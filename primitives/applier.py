"""The host of a group's state machines: applies committed entries, answers queries, keeps sessions.

Synchronous and deterministic: the same entries give the same answers and the same rows on every replica,
whatever was flushed when. A group has one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from primitives.commands import Commands
from primitives.context import HostContext
from primitives.deleting import Deleting
from primitives.ending import Ending
from primitives.errors import Code
from primitives.execution import FAILED, Execution
from primitives.history import HISTORY_LIMITS, TRIM_TIMER, Histories, History, HistoryLimits
from primitives.ids import GROUP_SLOT, GroupId, PrimitiveId, Revision, SlotId
from primitives.inspection import Inspection
from primitives.instances import Instance, Instances
from primitives.layout import (
    HOST_ID,
    HOST_TARGET,
    INTERNAL_ID,
    TARGET,
    HostTable,
    HostTimer,
    after,
    host_prefix,
)
from primitives.limits import ANSWERS_STORED_MAX, ROWS_A_COMMAND_MAX, SESSIONS_A_GROUP_MAX
from primitives.machine import Machine
from primitives.records import (
    U32,
    U64,
    Burst,
    Close,
    Command,
    Delete,
    Deleted,
    EndSession,
    Expire,
    Fire,
    Internal,
    Marker,
    Open,
    Query,
    Record,
    Register,
    Type,
    decode_entry,
    decode_record,
    encode_answer,
)
from primitives.sessions import SESSION_FORMER_KEPT_MS, Session, SessionInfo, SessionTable
from primitives.tables import Rows, Sink, Tables
from primitives.timers import Timers

TIMERS_A_FIRE_MAX: Final = 1000
ROWS_A_FIRE_MAX: Final = 4000
"""Timers that are due beyond so many rows, about, are left to the next FIRE."""
INCARNATION_SHIFT: Final = 48
"""A revision's upper 15 of 63 bits are the cluster's incarnation."""

_META: Final = struct.Struct(">QQQI")
"""Revision, log time, timers made, ownership version."""
_EPOCH: Final = struct.Struct(">I")
_SLOT: Final = struct.Struct(">H")
_HOST_TIMER: Final = struct.Struct(">BQ")


@dataclass(frozen=True, slots=True)
class ApplierLimits:
    """Bounds of one group's state. All but the cache's are replicated decisions: equal on every node."""

    answers_stored_max: int = ANSWERS_STORED_MAX
    sessions_max: int = SESSIONS_A_GROUP_MAX
    rows_a_command_max: int = ROWS_A_COMMAND_MAX
    history: HistoryLimits = HISTORY_LIMITS
    cache_bytes_max: int = 4 << 20


class Applied(NamedTuple):
    """What applying an entry came to."""

    answers: list[bytes | None]
    """One for each record; None: it will come late."""
    late: list[tuple[int, int, int, bytes]]
    """Answers of commands that waited: session number, slot, sequence, answer."""
    ended: list[int]
    """Numbers of sessions that ended."""
    markers: list[tuple[bytes, int]]
    """Nonces of markers, with the revision at each."""
    events: list[tuple[bytes, bytes, bytes]]
    """Target, mark and row of each event that was emitted in a partition that is watched."""


class Applier:
    """A group's replicated state above its rows.

    ``rows`` holds what was flushed before; nothing for a new group, which :meth:`initialize` begins.
    ``machines`` are the types known here, by number.
    """

    def __init__(
        self, group: GroupId, rows: Rows, machines: Mapping[int, Machine], *,
        limits: ApplierLimits = ApplierLimits(),
    ) -> None:  # fmt: skip
        self.group: Final = group
        self._tables: Final = Tables(
            rows, rows_a_command_max=limits.rows_a_command_max, cache_bytes_max=limits.cache_bytes_max
        )
        meta = rows.get(host_prefix(GROUP_SLOT, HostTable.META))
        revision, log_time_ms, timers_made, version = (0, 0, 0, 0) if meta is None else _META.unpack(meta)
        self.log_time_ms: int = log_time_ms
        """Applied log time."""
        self.ownership_version: int = version
        """One up whenever the slots owned change."""
        self._owned: dict[int, int] = {}
        prefix = host_prefix(GROUP_SLOT, HostTable.OWNED)
        for key, row in rows.scan(prefix, after(prefix)):
            self._owned[_SLOT.unpack_from(key, len(prefix))[0]] = _EPOCH.unpack(row)[0]
        self._timers: Final = Timers(self._tables, timers_made)
        self._sessions: Final = SessionTable(self._tables, rows, limits.sessions_max)
        self._alive: Final = self._sessions.alive
        self._instances: Final = Instances(self._tables, machines)
        self._histories: Final = Histories(
            self._tables, self._timers, limits.history, limits.rows_a_command_max
        )
        self._context: Final = HostContext(
            self._tables, self._timers, self._sessions, self._instances, self._histories
        )
        self._context.revision = Revision(revision)
        self._context.log_time_ms = log_time_ms
        self._execution: Final = Execution(
            self._context, self._tables, self._sessions, self._histories
        )
        self._commands: Final = Commands(
            self._execution, self._sessions, self._instances, self._owned, limits.answers_stored_max
        )
        self._ending: Final = Ending(
            self._sessions, self._instances, self._tables, limits.rows_a_command_max, self._execution
        )
        self._deleting: Final = Deleting(
            self._execution, self._sessions, self._instances, self._histories, self._tables, self._timers,
            self._owned, limits.rows_a_command_max,
        )  # fmt: skip
        self.deletions: Final = self._deleting.due
        """Primitives whose deletion is to go on, with their partitions: the group's leader takes them away.
        No replicated state."""
        self.closed: list[int] = []
        """Sessions whose leases are renewed no more from now on, for the group's leader to take away. No
        replicated state."""
        self._applied = Applied([], [], [], [], [])
        self._appliers: Final[dict[type, Callable[[Any], bytes | None]]] = {
            Register: self._register, EndSession: self._end_session,
            Expire: self._end_session, Fire: self._fire, Marker: self._marker, Open: self._open,
            Internal: self._internal, Delete: self._deleting.delete,
            Deleted: self._deleting.deleted, Close: self._close,
        }  # fmt: skip

    # -- what the group is asked ---------------------------------------------------------------------------

    @property
    def revision(self) -> Revision:
        """Of the last record applied."""
        return self._context.revision

    @property
    def overlay_bytes(self) -> int:
        """About how much a flush would write."""
        return self._tables.bytes + self._sessions.answer_bytes

    @property
    def next_deadline_ms(self) -> int | None:
        """Log time at which the next timer is due, 0 if one is due already; None if there is none."""
        first_ms = self._timers.first_ms()
        return first_ms if first_ms is None or first_ms > self.log_time_ms else 0

    @property
    def sessions(self) -> list[SessionInfo]:
        """Live sessions in the order of their registration: a copy."""
        return [session.info for session in self._alive.values()]

    @property
    def inspection(self) -> Inspection:
        """What administrators ask about the group's state."""
        return Inspection(self._tables, self._sessions, self._instances)

    @property
    def closing(self) -> list[int]:
        """Numbers of live sessions whose leases are renewed no more."""
        return [number for number, session in self._alive.items() if session.closing]

    def session(self, number: int) -> SessionInfo | None:
        """A live session."""
        session = self._alive.get(number)
        return None if session is None else session.info

    def owns(self, slot: int, epoch: int) -> bool:
        """Whether the group owns ``slot`` at ``epoch``, as applied; always ``GROUP_SLOT`` at 0."""
        return epoch == 0 if slot == GROUP_SLOT else self._owned.get(slot) == epoch

    def knows(self, slot: int, primitive: PrimitiveId, partition: int) -> bool:
        """Whether that partition is open here."""
        return self._instances.find((slot, primitive, partition)) is not None

    def query(self, query: Query) -> bytes:
        """The answer to a query, from applied state."""
        revision = self._context.revision
        if not self.owns(query.slot, query.epoch):
            return encode_answer(Code.WRONG_SLOT, revision)
        instance = self._instances.find((query.slot, query.primitive, query.partition))
        if instance is None:
            return encode_answer(Code.UNKNOWN_PRIMITIVE, revision)
        if instance.type != query.type:
            return encode_answer(Code.TYPE_MISMATCH, revision)
        return self._execution.ask(instance, query.op, query.args, query.body)

    @property
    def watched(self) -> set[bytes]:
        """Targets of partitions whose events :meth:`apply` is to give out; whoever watches changes it."""
        return self._histories.watched

    def history(self, slot: int, primitive: PrimitiveId, partition: int) -> History | None:
        """The history of a partition, to be read until the next call of :meth:`apply`; None if the partition
        is not open here."""
        instance = self._instances.find((slot, primitive, partition))
        return None if instance is None else self._histories.of(instance.key, instance.target)

    def left_of(self, slot: int, primitive: PrimitiveId, partition: int) -> History:
        """Like :meth:`history`, for a partition that was open here until now: what is left of it, if it was
        deleted since."""
        return self._histories.of((slot, primitive, partition), TARGET.pack(slot, *primitive, partition))

    def deleted_behind(self, slot: int, revision: int) -> bool:
        """Whether a command above ``revision`` deleted something of ``slot``."""
        deleted = self._instances.slot_table(slot, HostTable.DELETED).get(b"")
        return deleted is not None and U64.unpack(deleted)[0] > revision

    # -- what changes it -----------------------------------------------------------------------------------

    def initialize(self, slots: Iterable[int], epoch: int = 1, incarnation: int = 0) -> None:
        """A new group's first state: it owns ``slots`` at ``epoch``. Before the first entry is applied."""
        owned = self._tables.host_table(host_prefix(GROUP_SLOT, HostTable.OWNED))
        for slot in sorted(slots):
            self._tables.begin()
            owned.put(_SLOT.pack(slot), _EPOCH.pack(epoch))
            self._owned[slot] = epoch
        self._context.revision = Revision(incarnation << INCARNATION_SHIFT)
        self.ownership_version = 1

    def apply(self, data: bytes, records: Sequence[Record] | None = None) -> Applied:
        """Applies an entry's data; ``records`` are the same, decoded, if whoever proposed it has them.

        Each record counts one revision, succeed or not, and a FIRE one for each timer that it fires, if more,
        a BURST one for each of its commands.
        Raises ``BadRecord`` before it changes anything, and passes on what the rows raise.
        """
        if records is None:
            log_time_ms, parts = decode_entry(data)
            records = [decode_record(part) for part in parts]
        else:
            (log_time_ms,) = U64.unpack_from(data)
        context = self._context
        if log_time_ms > self.log_time_ms:
            self.log_time_ms = context.log_time_ms = log_time_ms
        applied = self._applied = tuple.__new__(Applied, ([], [], [], [], []))
        self._execution.late = applied.late
        self._histories.collected = applied.events
        answers = applied.answers
        commands, appliers = self._commands, self._appliers
        for record in records:
            context.revision += 1  # type: ignore[assignment]  # spares the call of Revision
            if type(record) is Command:
                answers.append(commands.apply(record))
            elif type(record) is Burst:
                answers.append(commands.apply_burst(record))
            else:
                answers.append(appliers[type(record)](record))
        return applied

    def flush(self, sink: Sink) -> None:
        """Writes everything applied since the last flush. Reads of these rows go to ``rows`` again, so it
        must have them before the next call of :meth:`apply` or :meth:`query`."""
        meta = _META.pack(self.revision, self.log_time_ms, self._timers.made, self.ownership_version)
        sink.put(host_prefix(GROUP_SLOT, HostTable.META), meta)
        self._sessions.flush(sink)
        self._histories.flush(sink)
        self._tables.flush(sink)
        if self._instances.forget():
            self._histories.forget()

    # -- records -------------------------------------------------------------------------------------------

    def _refusal(self, code: int) -> bytes:
        return encode_answer(code, self._context.revision)

    def _register(self, record: Register) -> bytes:
        self._tables.begin()
        code, number, former = self._sessions.register(record, self._context.revision)
        if former is not None:
            self._end(former)
        return encode_answer(code, number or self._context.revision)

    def _close(self, record: Close) -> bytes:
        session = self._sessions.find(record.session_id, record.number)
        if session is None:
            return self._refusal(Code.SESSION_LOST)
        if not session.closing:  # Again, it would only put the end off.
            self._sessions.close(session)
            self.closed.append(record.number)
        return self._refusal(Code.OK)

    def _end_session(self, record: EndSession | Expire) -> bytes:
        session = self._alive.get(record.number)
        if session is None or session.id != record.session_id:
            return self._refusal(Code.SESSION_LOST)
        self._tables.begin()
        self._end(session)
        return self._refusal(Code.OK)

    def _end(self, session: Session) -> None:
        number = session.number
        if self._sessions.end(session):
            payload = _HOST_TIMER.pack(HostTimer.FORGET_FORMER, number) + session.id
            self._timers.arm(self.log_time_ms + SESSION_FORMER_KEPT_MS, HOST_TARGET, payload)
        if session.numberings:
            self._timers.arm(self.log_time_ms, HOST_TARGET, _HOST_TIMER.pack(HostTimer.END_SLICE, number))
        else:
            self._sessions.remove(session)
        self._applied.ended.append(number)

    def _fire(self, record: Fire) -> bytes:
        fired = written = 0
        for handle in self._timers.due(self.log_time_ms, min(record.count, TIMERS_A_FIRE_MAX)):
            if written > ROWS_A_FIRE_MAX:
                break
            self._tables.begin()
            due = self._timers.fire(handle)
            if due is None:
                continue
            if fired:  # each may grant something, and no two grants carry one revision
                self._context.revision = Revision(self._context.revision + 1)
            fired += 1
            (slot, primitive_slot, revision, partition), payload = due
            primitive = PrimitiveId(SlotId(primitive_slot), Revision(revision))
            instance = None
            if primitive == HOST_ID:
                self._fire_host(payload)
            else:
                instance = self._instances.find((slot, primitive, partition))
            if instance is not None:
                self._execution.run(instance, 0, 0, instance.machine.timer, payload)
            written += self._tables.written()
        return encode_answer(Code.OK, self._context.revision, U32.pack(fired))

    def _fire_host(self, payload: bytes) -> None:
        kind = payload[0]
        if kind == TRIM_TIMER:
            self._trim(payload[1], payload[2:])
        elif kind in (HostTimer.DROP, HostTimer.DELETION):
            self._deleting.timer(payload)
        else:
            self._fire_session(kind, payload)

    def _fire_session(self, kind: int, payload: bytes) -> None:
        number = _HOST_TIMER.unpack_from(payload)[1]
        if kind == HostTimer.FORGET_FORMER:
            self._sessions.forget_former(payload[_HOST_TIMER.size :], number)
        elif not self._ending.slice(self._sessions.ending[number]):
            self._tables.begin()
            self._timers.arm(self.log_time_ms, HOST_TARGET, payload)

    def _trim(self, kind: int, target: bytes) -> None:
        slot, primitive_slot, revision, partition = TARGET.unpack(target)
        key = (slot, PrimitiveId(SlotId(primitive_slot), Revision(revision)), partition)
        if self._instances.find(key) is not None:
            self._histories.trim(self._histories.of(key, target), kind, self.log_time_ms)

    def _marker(self, record: Marker) -> bytes:
        self._applied.markers.append((record.nonce, self._context.revision))
        return self._refusal(Code.OK)

    def _open(self, record: Open) -> bytes:
        slot = record.slot
        if slot not in self._owned:
            return self._refusal(Code.WRONG_SLOT)
        key = (slot, record.primitive, record.partition)
        present = self._instances.find(key)
        if present is not None:
            return self._refusal(Code.OK if present.type == record.type else Code.TYPE_MISMATCH)
        if self.deleted_behind(slot, record.asked):
            return self._refusal(Code.UNKNOWN_PRIMITIVE)
        machine = self._instances.machine(record.type) if record.type > Type.SYSTEM else None
        if machine is None or record.primitive.slot == GROUP_SLOT or not record.primitive.revision:
            return self._refusal(Code.BAD_REQUEST)
        instance = Instance(self._tables, key, machine, record.type, record.config)
        opened = self._execution.run(
            instance, 0, 0, lambda context: context.open_partition(key, machine, record.config)
        )
        return self._refusal(Code.MACHINE_FAILED if opened is FAILED else Code.OK)

    def _internal(self, record: Internal) -> bytes:
        instance = self._instances.find((GROUP_SLOT, INTERNAL_ID, 0))
        if instance is None or instance.type != record.type:
            return self._refusal(Code.BAD_REQUEST)
        _, answer = self._execution.apply(instance, 0, 0, record.op, record.args, record.body)
        self._execution.settle()
        return answer
