"""A cluster of one group inside the test: a real applier without log, disk or network, and sessions on it
that are driven by hand."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, Final

import trio
from sortedcontainers import SortedDict

from primitives.applier import Applied, Applier
from primitives.catalog import CatalogOp, create_arguments, decode_found
from primitives.errors import Code
from primitives.history import AGE_SLACK_MS
from primitives.ids import CATALOG_ID, GROUP_SLOT, GroupId, PrimitiveId, Revision, SlotId
from primitives.limits import HISTORY_AGE_MS
from primitives.records import (
    ANSWER_HEADER,
    U32,
    U64,
    Answer,
    Burst,
    Close,
    Command,
    Expire,
    Fire,
    Query,
    Read,
    Register,
    SessionOp,
    Type,
    decode_answer,
    encode_answer,
    encode_burst,
    encode_close,
    encode_command,
    encode_entry,
    encode_expire,
    encode_fire,
    encode_register,
)
from primitives.registry import machines

SLOTS_HERE: Final = 64
EPOCH: Final = 1
FIRES_AN_ENTRY: Final = 100


def answers_of(answer: bytes) -> list[bytes]:
    """The answers of a burst's commands; the only one if there is but one for all."""
    if answer[0] == Code.RUN:
        assert len(answer) == ANSWER_HEADER.size + U64.size
        revision = U64.unpack_from(answer, ANSWER_HEADER.size)[0]
        return [encode_answer(Code.OK, revision + at) for at in range(ANSWER_HEADER.unpack_from(answer)[1])]
    if answer[0] != Code.BURST:
        return [answer]
    found, at = [], ANSWER_HEADER.size
    while at < len(answer):
        (size,) = U32.unpack_from(answer, at)
        found.append(answer[at + 4 : at + 4 + size])
        at += 4 + size
    assert (at, len(found)) == (len(answer), ANSWER_HEADER.unpack_from(answer)[1])
    return found


def slot_of(*parts: object) -> SlotId:
    """Some slot of the group, always the same for the same parts."""
    return SlotId(zlib.crc32(repr(parts).encode()) % SLOTS_HERE)


class MemoryRows:
    """Rows of the group as written."""

    def __init__(self) -> None:
        self._rows: SortedDict[bytes, bytes] = SortedDict()

    def get(self, key: bytes) -> bytes | None:
        return self._rows.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self._rows[key] = value

    def write(self, prefix: bytes, rows: Mapping[bytes, bytes | None]) -> None:
        for key, value in rows.items():
            if value is None:
                self.delete(prefix + key)
            else:
                self.put(prefix + key, value)

    def delete(self, key: bytes) -> None:
        self._rows.pop(key, None)

    def drop(self, first: bytes, last: bytes) -> None:
        for key in list(self._rows.irange(first, last)):
            del self._rows[key]

    def scan(
        self, start: bytes = b"", end: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        for key in list(self._rows.irange(start, end, (True, False), reverse)):
            yield key, self._rows[key]


class Group:
    """A group's applied state, its log time, and the sessions that tests drive on it.

    Every ``flush_every`` entries the tables are written, so that commands meet rows of both kinds.
    """

    def __init__(self, *, flush_every: int = 7) -> None:
        self.rows = MemoryRows()
        self.applier = Applier(GroupId(1), self.rows, machines())
        self.applier.initialize([SlotId(slot) for slot in range(SLOTS_HERE)], EPOCH)
        self.now_ms = 1_000
        self.sessions: dict[int, Session] = {}
        self.ids = count(1)
        self.changed = trio.Event()
        """Set, and replaced, whenever an entry was applied."""
        self.events: list[tuple[bytes, bytes, bytes]] = []
        """Of partitions that are watched."""
        self._entries = 0
        self._flush_every = flush_every

    def apply(self, *records: bytes) -> list[bytes | None]:
        """Applies one entry; late answers go to the sessions that wait for them."""
        applied: Applied = self.applier.apply(encode_entry(self.now_ms, records))
        for number, slot, sequence, answer in applied.late:
            self.sessions[number].answered(slot, sequence, decode_answer(answer))
        for number in applied.ended:
            self.sessions.pop(number).ended()
        self.events += applied.events
        self.changed.set()
        self.changed = trio.Event()
        self._entries += 1
        if self._entries % self._flush_every == 0:
            self.applier.flush(self.rows)
        return applied.answers

    def settle(self) -> int:
        """Fires everything that is due; returns how many entries that took."""
        entries = 0
        while (due_ms := self.applier.next_deadline_ms) is not None and due_ms <= self.now_ms:
            self.apply(encode_fire(Fire(FIRES_AN_ENTRY)))
            entries += 1
            assert entries < 10_000, "timers without end"
        return entries

    def advance(self, ms: int) -> None:
        """Lets log time pass, and fires what is due."""
        self.now_ms += ms
        self.settle()

    def forget(self) -> None:
        """Lets so much log time pass that no history is left."""
        self.advance(HISTORY_AGE_MS + AGE_SLACK_MS)

    def query(
        self, slot: int, primitive: PrimitiveId, partition: int, type: int, op: int, args: list[Any],
        body: bytes = b"",
    ) -> Answer:  # fmt: skip
        """Answers a linearizable query."""
        epoch = 0 if slot == GROUP_SLOT else EPOCH
        query = Query(SlotId(slot), epoch, primitive, partition, type, op, Read.LINEARIZABLE, 0, args, body)
        return decode_answer(self.applier.query(query))

    def reload(self) -> None:
        """Writes everything, and goes on with another applier over the rows, as after a restart."""
        self.applier.flush(self.rows)
        watched = self.applier.watched
        self.applier = Applier(GroupId(1), self.rows, machines())
        self.applier.watched.update(watched)

    def state(self) -> dict[bytes, bytes]:
        """Every row, written first."""
        self.applier.flush(self.rows)
        return dict(self.rows.scan())


class Session:
    """A session in the group: numbers its commands for each slot and keeps their answers."""

    def __init__(self, group: Group, *, session_id: bytes | None = None, registrations: int = 1) -> None:
        self.group = group
        self.id = session_id or next(group.ids).to_bytes(16, "big")
        register = encode_register(Register(self.id, registrations, 10_000))
        (answer,) = group.apply(register)
        assert answer is not None
        assert decode_answer(answer).code == Code.OK
        self.number = int(decode_answer(answer).revision)
        self.last: dict[int, int] = {}
        self.answers: dict[tuple[int, int], Answer] = {}
        self.waits: dict[tuple[int, int], Callable[[], None]] = {}
        """What to call when an answer comes."""
        self.kept: dict[int, set[int]] = {}
        """By slot, numbers whose answers are not acknowledged yet: a grant that may be withdrawn."""
        group.sessions[self.number] = self

    def answered(self, slot: int, sequence: int, answer: Answer) -> None:
        """An answer came."""
        self.answers[slot, sequence] = answer
        wake = self.waits.pop((slot, sequence), None)
        if wake is not None:
            wake()

    def ended(self) -> None:
        """Nothing that waits will be answered any more."""
        for slot, sequence in list(self.waits):
            self.answered(slot, sequence, Answer(Code.SESSION_LOST, Revision(0), b""))

    def send(
        self, slot: int, primitive: PrimitiveId, partition: int, type: int, op: int, args: list[Any],
        body: bytes = b"", *, keep: bool = False,
    ) -> int:  # fmt: skip
        """Applies a command; returns its number. Its answer is in ``answers``, unless it is late. ``keep``:
        it is not acknowledged before :meth:`take`."""
        sequence = self.last[slot] = self.last.get(slot, 0) + 1
        kept = self.kept.setdefault(slot, set())
        exceptions = tuple(sorted(kept))
        if keep:
            kept.add(sequence)
        command = Command(
            self.id, self.number, SlotId(slot), EPOCH, sequence, sequence - 1, primitive, partition, type, op,
            exceptions, args, body,
        )  # fmt: skip
        (answer,) = self.group.apply(encode_command(command))
        if answer is not None:
            self.answered(slot, sequence, decode_answer(answer))
        return sequence

    def burst(
        self, slot: int, primitive: PrimitiveId, partition: int, type: int, op: int,
        commands: Sequence[tuple[list[Any], bytes]], sequence: int, acknowledged: int,
        exceptions: tuple[int, ...] = (), *, epoch: int = EPOCH,
    ) -> bytes:  # fmt: skip
        """The record of commands, each with arguments and body, of which the first has that number."""
        return encode_burst(Burst(
            self.id, self.number, SlotId(slot), epoch, sequence, acknowledged, primitive, partition, type, op,
            exceptions, [args for args, _ in commands], [body for _, body in commands],
        ))

    def send_burst(
        self, slot: int, primitive: PrimitiveId, partition: int, type: int, op: int,
        commands: Sequence[tuple[list[Any], bytes]], *, sequence: int | None = None,
        acknowledged: int | None = None, exceptions: tuple[int, ...] = (), epoch: int = EPOCH,
    ) -> list[Answer]:  # fmt: skip
        """Applies commands in one record, with the next numbers, or again from ``sequence`` on; everything
        before is acknowledged unless said otherwise. Their answers, or the one that refuses them all."""
        if sequence is None:
            sequence = self.last.get(slot, 0) + 1
            self.last[slot] = sequence + len(commands) - 1
        record = self.burst(
            slot, primitive, partition, type, op, commands, sequence,
            sequence - 1 if acknowledged is None else acknowledged, exceptions, epoch=epoch,
        )  # fmt: skip
        (answer,) = self.group.apply(record)
        assert answer is not None
        return [decode_answer(part) for part in answers_of(answer)]

    def take(self, slot: int, sequence: int) -> None:
        """The answer was received for good."""
        self.kept[slot].discard(sequence)

    def withdraw(self, slot: int, sequence: int) -> Answer:
        """Withdraws the command of that number."""
        at = self.send(slot, CATALOG_ID, 0, Type.SESSION, SessionOp.WITHDRAW, [sequence])
        return self.answers[slot, at]

    def close(self) -> None:
        """Somebody ends it: its lease is renewed no more."""
        self.group.apply(encode_close(Close(self.id, self.number)))

    def expire(self) -> None:
        """A leader heard nothing of it."""
        self.group.apply(encode_expire(Expire(self.id, self.number)))


def create(
    session: Session, name: str, type: int, partitions: int | None = 0, config: bytes | None = None
) -> tuple[SlotId, PrimitiveId]:
    """Creates a primitive, or finds it; the slot of its name and its id."""
    slot = slot_of("", name)
    args, body = create_arguments("", name, type, partitions, config)
    at = session.send(slot, CATALOG_ID, 0, Type.CATALOG, CatalogOp.CREATE, args, body)
    answer = session.answers[slot, at]
    assert answer.code == Code.OK, answer
    return slot, PrimitiveId(slot, decode_found(answer.result).revision)


class OnePrimitive:
    """A pinned primitive in a group of its own, spoken to in bytes."""

    def __init__(
        self, name: str, type: int, *, kept: Collection[int] = (), config: bytes | None = None
    ) -> None:
        """``kept`` are the commands whose answers are not acknowledged, so that they may be withdrawn."""
        self.group = Group(flush_every=3)
        self.creator = Session(self.group)
        self.type = type
        self.kept = kept
        self.slot, self.primitive = create(self.creator, name, type, config=config)

    def sessions(self, count: int) -> list[Session]:
        return [Session(self.group) for _ in range(count)]

    def send(self, session: Session, op: int, *args: Any, body: bytes = b"") -> int:
        """The command's number."""
        keep = op in self.kept
        return session.send(self.slot, self.primitive, 0, self.type, op, list(args), body, keep=keep)

    def do(self, session: Session, op: int, *args: Any, body: bytes = b"") -> Answer:
        return session.answers[self.slot, self.send(session, op, *args, body=body)]

    def ask(self, op: int, *args: Any) -> Answer:
        return self.group.query(self.slot, self.primitive, 0, self.type, op, list(args))

    def rows(self) -> int:
        """How many rows its machine has."""
        return len([key for key in self.group.state() if key[2:12] == self.primitive.to_bytes()])

    def holdings(self) -> int:
        """How many sessions hold something in it."""
        own = self.primitive.to_bytes()
        return len([key for key in self.group.state() if own in key[15:] and key[14] == 8])
