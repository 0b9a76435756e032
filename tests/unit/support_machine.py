"""Drives an Applier in memory, for tests of state machines: no store, no consensus, no clock.

    group = Drive({16: MapMachine()})
    alice = group.session()
    lock = group.create(alice, "lock", type=18)
    code, revision, result = group.command(alice, lock, op=1, args=[])

Each call is an entry of its own, applied at the group's present time ``now_ms``. ``flush`` writes to memory
and ``reload`` goes on with a new Applier over what was written, as after a restart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sortedcontainers import SortedDict

from primitives.applier import Applied, Applier, ApplierLimits
from primitives.catalog import CatalogMachine, CatalogOp, create_arguments, decode_found
from primitives.errors import Code
from primitives.ids import CATALOG_ID, GroupId, PrimitiveId, Revision, SlotId
from primitives.machine import Machine
from primitives.records import (
    Answer,
    Command,
    EndSession,
    Expire,
    Fire,
    Marker,
    Open,
    Query,
    Register,
    SessionOp,
    Type,
    decode_answer,
    encode_command,
    encode_end_session,
    encode_entry,
    encode_expire,
    encode_fire,
    encode_marker,
    encode_open,
    encode_register,
)

SLOT = SlotId(7)
LIMITS = ApplierLimits()
NO_PRIMITIVE = PrimitiveId(SlotId(0), Revision(0))


class MemoryRows:
    """Sorted rows in memory: both what an Applier reads and what it flushes into."""

    def __init__(self) -> None:
        self.rows: SortedDict[bytes, bytes] = SortedDict()
        self.reads = 0

    def get(self, key: bytes) -> bytes | None:
        self.reads += 1
        return self.rows.get(key)

    def scan(
        self, start: bytes, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        for key in list(self.rows.irange(start, end, (True, False), reverse)):
            yield key, self.rows[key]

    def put(self, key: bytes, value: bytes) -> None:
        self.rows[key] = value

    def write(self, prefix: bytes, rows: Mapping[bytes, bytes | None]) -> None:
        for key, value in rows.items():
            if value is None:
                self.delete(prefix + key)
            else:
                self.put(prefix + key, value)

    def delete(self, key: bytes) -> None:
        self.rows.pop(key, None)

    def drop(self, first: bytes, last: bytes) -> None:
        for key in list(self.rows.irange(first, last)):
            del self.rows[key]


@dataclass
class Who:
    """A client's side of a session in the group."""

    session_id: bytes
    number: int
    count: int = 1
    sequences: dict[int, int] = field(default_factory=dict)
    """Last number used, by slot."""


class Drive:
    """One group, driven by hand."""

    def __init__(
        self, machines: Mapping[int, Machine], *, slots: Sequence[int] = (SLOT,),
        limits: ApplierLimits = LIMITS, rows: MemoryRows | None = None,
    ) -> None:  # fmt: skip
        self.machines = {CatalogMachine.TYPE: CatalogMachine(), **machines}
        self.limits = limits
        self.rows = MemoryRows() if rows is None else rows
        self.applier = Applier(GroupId(1), self.rows, self.machines, limits=limits)
        self.applier.initialize(slots)
        self.now_ms = 1000
        self.late: dict[tuple[int, int, int], Answer] = {}
        """Late answers so far, by session number, slot and sequence."""
        self.ended: list[int] = []
        self.last: Applied = Applied([], [], [], [], [])

    def entry(self, *records: bytes) -> list[Answer | None]:
        """Applies one entry; the records' answers, None for those that come late."""
        applied = self.last = self.applier.apply(encode_entry(self.now_ms, records))
        for number, slot, sequence, answer in applied.late:
            assert (number, slot, sequence) not in self.late, "answered twice"
            self.late[number, slot, sequence] = decode_answer(answer)
        self.ended += applied.ended
        return [None if answer is None else decode_answer(answer) for answer in applied.answers]

    def one(self, record: bytes) -> Answer | None:
        """Applies an entry of one record."""
        return self.entry(record)[0]

    def register(self, session_id: bytes, count: int = 1, timeout_ms: int = 10_000) -> Answer:
        """Applies a registration; the session's number is the answer's revision."""
        answer = self.one(encode_register(Register(session_id, count, timeout_ms)))
        assert answer is not None
        return answer

    def session(self, name: str = "client", count: int = 1) -> Who:
        """Registers a session."""
        session_id = name.encode().ljust(16, b".")
        answer = self.register(session_id, count)
        assert answer.code == Code.OK, answer
        return Who(session_id, answer.revision, count)

    def record(
        self, who: Who, primitive: PrimitiveId, op: int, args: list[Any] | None = None, body: bytes = b"", *,
        type: int, partition: int = 0, slot: int = SLOT, epoch: int = 1, sequence: int | None = None,
        acknowledged: int | None = None, exceptions: tuple[int, ...] = (),
    ) -> bytes:  # fmt: skip
        """A command's bytes, under the session's next number unless one is given. Unless said otherwise it
        acknowledges everything before."""
        if sequence is None:
            sequence = who.sequences[slot] = who.sequences.get(slot, 0) + 1
        if acknowledged is None:
            acknowledged = max(sequence - 1, 0)
        return encode_command(
            Command(
                who.session_id, who.number, SlotId(slot), epoch, sequence, acknowledged, primitive, partition,
                type, op, exceptions, args or [], body,
            )
        )  # fmt: skip

    def command(self, who: Who, primitive: PrimitiveId, op: int, args: list[Any] | None = None,
                body: bytes = b"", **rest: Any) -> Answer | None:  # fmt: skip
        """Applies a command; None if it waits."""
        return self.one(self.record(who, primitive, op, args, body, **rest))

    def create(self, who: Who, name: str, type: int, *, partitions: int = 0, config: bytes | None = None,
               slot: int = SLOT) -> PrimitiveId:  # fmt: skip
        """Creates a primitive, or finds it; with ``partitions``, they are opened in the same slot."""
        args, body = create_arguments("", name, type, partitions, config)
        answer = self.command(
            who, CATALOG_ID, CatalogOp.CREATE, args, body, type=Type.CATALOG, slot=slot
        )
        assert answer is not None and answer.code == Code.OK, answer
        found = decode_found(answer.result)
        primitive = PrimitiveId(SlotId(slot), found.revision)
        for partition in range(partitions):
            opened = self.open(primitive, type, partition, config=found.config, slot=slot)
            assert opened.code == Code.OK, opened
        return primitive

    def open(self, primitive: PrimitiveId, type: int, partition: int = 0, *, config: bytes = b"",
             slot: int = SLOT, asked: int | None = None) -> Answer:  # fmt: skip
        """Opens a partition."""
        revision = self.applier.revision if asked is None else Revision(asked)
        answer = self.one(encode_open(Open(SlotId(slot), primitive, partition, type, revision, config)))
        assert answer is not None
        return answer

    def query(self, primitive: PrimitiveId, op: int, args: list[Any] | None = None, body: bytes = b"", *,
              type: int, partition: int = 0, slot: int = SLOT, epoch: int = 1) -> Answer:  # fmt: skip
        """Asks."""
        query = Query(SlotId(slot), epoch, primitive, partition, type, op, 0, 0, args or [], body)
        return decode_answer(self.applier.query(query))

    def noop(self, who: Who, sequence: int, slot: int = SLOT) -> Answer | None:
        """Takes the number of a command that is called off."""
        return self.command(
            who, NO_PRIMITIVE, SessionOp.NOOP, type=Type.SESSION, sequence=sequence, slot=slot
        )  # fmt: skip

    def withdraw(self, who: Who, number: int, slot: int = SLOT, **rest: Any) -> Answer | None:
        """Withdraws a command that may wait; its answer counts as not received."""
        rest.setdefault("acknowledged", number - 1)
        return self.command(
            who, NO_PRIMITIVE, SessionOp.WITHDRAW, [number], type=Type.SESSION, slot=slot, **rest
        )

    def end(self, who: Who) -> Answer | None:
        """The client lets its lease go."""
        return self.one(encode_end_session(EndSession(who.session_id, who.number)))

    def expire(self, who: Who) -> Answer | None:
        """The leader ends the session."""
        return self.one(encode_expire(Expire(who.session_id, who.number)))

    def fire(self, count: int = 100) -> int:
        """Fires what is due; how many."""
        answer = self.one(encode_fire(Fire(count)))
        assert answer is not None and answer.code == Code.OK
        return int.from_bytes(answer.result, "big")

    def settle(self, steps: int = 10_000) -> None:
        """Fires until nothing is due."""
        for _ in range(steps):
            if self.applier.next_deadline_ms != 0:
                return
            self.fire()
        raise AssertionError("something stays due")

    def wait(self, ms: int) -> None:
        """Lets log time pass: an entry carries it."""
        self.now_ms += ms
        self.one(encode_marker(Marker(b"tick")))

    def flush(self) -> None:
        """Writes everything to ``rows``."""
        self.applier.flush(self.rows)

    def reload(self) -> None:
        """Flushes, then goes on with a new Applier over the rows."""
        self.flush()
        self.applier = Applier(GroupId(1), self.rows, self.machines, limits=self.limits)

    def state(self) -> dict[bytes, bytes]:
        """All rows, after a flush: what replicas compare."""
        self.flush()
        return dict(self.rows.rows)
