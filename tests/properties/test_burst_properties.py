"""Commands that share records, whatever the cut and however often they are sent again, do what they do one by
one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st
from local_group import Group, Session, answers_of, create, slot_of

from primitives import counter
from primitives.codec import encode_key, encode_value
from primitives.counter import Counter
from primitives.ids import PrimitiveId
from primitives.layout import TARGET
from primitives.limits import BURST_COMMANDS_MAX
from primitives.mapops import MapMachine
from primitives.mapops import Op as MapOp
from primitives.queue import Op as QueueOp
from primitives.queue import Queue
from primitives.records import Command, encode_command
from primitives.set import Op as SetOp
from primitives.set import SetMachine

SLOT: Final = slot_of("", "map")


def _named(kind: str) -> str:
    """A name in that very slot, so that all share the session's numbers."""
    names = (kind, *(f"{kind}{at}" for at in range(10_000)))
    return next(name for name in names if slot_of("", name) == SLOT)


NAMES: Final = {
    MapMachine.TYPE: _named("map"), Counter.TYPE: _named("counter"), SetMachine.TYPE: _named("set"),
    Queue.TYPE: _named("queue"),
}  # fmt: skip


class Kind(NamedTuple):
    """What the commands of a burst have in common."""

    type: int
    op: int


Item = tuple[list[Any], bytes]

KEYS = st.sampled_from([encode_key(key) for key in ("a", "b", 3)])
VALUES = st.sampled_from([encode_value(value) for value in (None, 1, "x" * 70)])
TTLS = st.sampled_from([0, 0, 1, 50, 5000])
SMALL = st.integers(-2, 3)


NO_BODY = st.just(b"")


def _items(kind: Kind, args: st.SearchStrategy[Any], bodies: Any = NO_BODY) -> st.SearchStrategy[Any]:
    items = st.tuples(args, bodies)
    return st.tuples(st.just(kind), st.lists(items, min_size=1, max_size=12))


FLAGS = st.integers(0, 31)
COMPARED = st.tuples(KEYS, TTLS, VALUES, VALUES).map(
    lambda drawn: ([drawn[0], drawn[1], len(drawn[2])], drawn[2] + drawn[3])
)
RUNS: Final = st.one_of(
    _items(Kind(MapMachine.TYPE, MapOp.PUT), st.tuples(KEYS).map(list), VALUES),
    _items(
        Kind(MapMachine.TYPE, MapOp.PUT), st.tuples(KEYS, TTLS, FLAGS, st.integers(0, 60)).map(list), VALUES
    ),
    _items(Kind(MapMachine.TYPE, MapOp.REMOVE), st.tuples(KEYS, FLAGS, st.integers(0, 60)).map(list), VALUES),
    st.tuples(
        st.just(Kind(MapMachine.TYPE, MapOp.COMPARE_AND_SET)), st.lists(COMPARED, min_size=1, max_size=6)
    ),
    _items(Kind(MapMachine.TYPE, MapOp.INCREMENT), st.tuples(KEYS, SMALL).map(list)),
    _items(Kind(MapMachine.TYPE, MapOp.CLEAR), st.just([])),
    _items(Kind(Counter.TYPE, counter.ADD), st.tuples(SMALL | st.just((1 << 63) - 1)).map(list)),
    _items(Kind(Counter.TYPE, counter.COMPARE_AND_SET), st.tuples(SMALL, SMALL).map(list)),
    _items(Kind(SetMachine.TYPE, SetOp.ADD), st.tuples(KEYS, TTLS).map(list)),
    _items(Kind(SetMachine.TYPE, SetOp.REMOVE), st.tuples(KEYS).map(list)),
    _items(Kind(Queue.TYPE, QueueOp.OFFER), st.just([]), VALUES),
    _items(Kind(Queue.TYPE, QueueOp.POLL), st.just([])),
    _items(Kind(Queue.TYPE, 99), st.just([])),  # There is no such operation.
    _items(Kind(200, 1), st.just([])),  # Nor such a primitive.
)


class Send(NamedTuple):
    """Sends commands from ``back`` before the first that was not applied on, ``count`` of them."""

    back: int
    count: int
    acknowledged: int
    """So many of those before are not acknowledged."""
    exceptions: int
    """Bits: which of the last that are."""
    alone: bool
    """In records of their own."""
    joined: bool
    """In one entry with what follows."""


class Do(NamedTuple):
    """Something else that happens."""

    what: str
    ms: int = 0


SENDS: Final = st.builds(
    Send, back=st.integers(0, 20) | st.just(0), count=st.integers(1, 20) | st.just(BURST_COMMANDS_MAX),
    acknowledged=st.integers(0, 12), exceptions=st.integers(0, 255), alone=st.booleans(),
    joined=st.booleans(),
)  # fmt: skip
DOINGS: Final = st.builds(Do, st.sampled_from(["flush", "reload", "time"]), st.sampled_from([1, 60, 6000]))


class Side:
    """A group with the primitives, a session that commands them and others that wait at the queue."""

    def __init__(self, waiters: int) -> None:
        self.group = Group(flush_every=1 << 40)
        self.session = Session(self.group)
        self.ids: dict[int, PrimitiveId] = {200: PrimitiveId(SLOT, 1)}  # type: ignore[arg-type]  # a number
        for type_, name in NAMES.items():
            slot, self.ids[type_] = create(self.session, name, type_)
            assert slot == SLOT
            self.group.applier.watched.add(TARGET.pack(slot, *self.ids[type_], 0))
        self.others = [Session(self.group) for _ in range(waiters)]
        for other in self.others:
            other.send(SLOT, self.ids[Queue.TYPE], 0, Queue.TYPE, QueueOp.TAKE, [])
        self.first = self.session.last[SLOT] + 1
        """Number of the first command to come."""

    def record(self, kind: Kind, items: list[Item], sequence: int, send: Send, *, alone: bool) -> bytes:
        session = self.session
        floor = max(0, send.acknowledged)
        below = range(max(1, floor - 7), floor + 1)
        exceptions = tuple(at for at in below if send.exceptions >> (floor - at) & 1)
        if not alone:
            return session.burst(
                SLOT, self.ids[kind.type], 0, kind.type, kind.op, items, sequence, floor, exceptions
            )
        ((args, body),) = items
        return encode_command(Command(
            session.id, session.number, SLOT, 1, sequence, floor, self.ids[kind.type], 0, kind.type, kind.op,
            exceptions, args, body,
        ))

    def everything(self) -> Any:
        """Rows, revision, events, and what others were answered."""
        group = self.group
        return group.state(), group.applier.revision, group.events, [other.answers for other in self.others]


class Pair:
    """One side is sent bursts, the other each command by itself."""

    def __init__(self, runs: list[tuple[Kind, list[Item]]], waiters: int) -> None:
        self.bursts, self.single = Side(waiters), Side(waiters)
        self.commands = [(kind, item) for kind, items in runs for item in items]
        self.done = 0
        self._records: list[bytes] = []
        self._expected: list[bytes] = []

    def send(self, send: Send) -> None:
        """Sends a part of the commands; what is drawn is fitted to what there is."""
        start = max(0, self.done - send.back)
        end = min(start + send.count, len(self.commands))
        first = self.bursts.first
        send = send._replace(acknowledged=first + start - 1 - send.acknowledged)
        for begin, stop in self._runs(start, end):
            kind = self.commands[begin][0]
            items = [item for _, item in self.commands[begin:stop]]
            size = 1 if send.alone else len(items)
            for at in range(0, len(items), size):
                part, sequence = items[at : at + size], first + begin + at
                self._records.append(self.bursts.record(kind, part, sequence, send, alone=send.alone))
                for number, item in enumerate(part):
                    record = self.single.record(kind, [item], sequence + number, send, alone=True)
                    (answer,) = self.single.group.apply(record)
                    assert answer is not None
                    self._expected.append(answer)
        self.done = max(self.done, end)
        if not send.joined:
            self.end_entry()

    def _runs(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Commands that may share a record."""
        begin = start
        for at in range(start, end):
            last = at + 1 == end or self.commands[at + 1][0] != self.commands[at][0]
            if last or at + 1 - begin == BURST_COMMANDS_MAX:
                yield begin, at + 1
                begin = at + 1

    def end_entry(self) -> None:
        """What was joined is applied."""
        if self._records:
            answers = self.bursts.group.apply(*self._records)
            found = [part for answer in answers if answer is not None for part in answers_of(answer)]
            assert found == self._expected
            self._records, self._expected = [], []

    def do(self, doing: Do) -> None:
        """The rows are written on one side alone; time passes on both."""
        self.end_entry()
        if doing.what == "time":
            for side in (self.bursts, self.single):
                side.group.advance(doing.ms)
        elif doing.what == "reload":
            self.bursts.group.reload()
        else:
            self.bursts.group.state()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(RUNS, min_size=1, max_size=6), st.lists(SENDS | SENDS | DOINGS, max_size=14), st.integers(0, 3)
)
@example([(Kind(Counter.TYPE, counter.ADD), [([1], b"")] * 12)], [Send(0, 9, 0, 0, False, False)] * 2, 0)
@example(
    [(Kind(Counter.TYPE, counter.ADD), [([1], b"")] * 12)],
    [
        Send(0, 3, 0, 0, True, True), Send(2, 9, 0, 1, False, True), Do("reload"),
        Send(5, 9, 3, 0, False, True),
    ],
    0,
)  # fmt: skip
def test_bursts_do_what_their_commands_do_one_by_one(
    runs: list[tuple[Kind, list[Item]]], steps: list[Send | Do], waiters: int
) -> None:
    pair = Pair(runs, waiters)
    for step in steps:
        if isinstance(step, Send):
            pair.send(step)
        else:
            pair.do(step)
    while pair.done < len(pair.commands):
        pair.send(Send(0, BURST_COMMANDS_MAX, 0, 0, False, False))
    pair.end_entry()
    assert pair.bursts.everything() == pair.single.everything()
