"""Whatever is asked of a queue in whatever order: elements in order, each given once, to the first who waits,
and nothing left of those who went away."""

from __future__ import annotations

from bisect import insort
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from local_group import Group, Session, create

from primitives.errors import Code
from primitives.pages import decode_page
from primitives.queueops import Ask, Op, QueueMachine
from primitives.records import Answer

TYPE = QueueMachine.TYPE
CAPACITY = 6


class Asked(NamedTuple):
    """A command that polled or took, and has not been acknowledged."""

    session: Session
    sequence: int


class QueueRules(RuleBasedStateMachine):
    """A queue among sessions that offer, take, change their minds and die."""

    @initialize(flush_every=st.integers(1, 9))
    def found(self, flush_every: int) -> None:
        self.group = Group(flush_every=flush_every)
        self.offerer = Session(self.group)
        self.slot, self.primitive = create(self.offerer, "q", TYPE, config=CAPACITY.to_bytes(8, "big"))
        self.alive: list[Session] = []
        self.waiting: list[Asked] = []
        """In the order of asking."""
        self.given: dict[Asked, int] = {}
        self.elements: list[int] = []
        self.made = self.cleared = 0

    def send(self, session: Session, op: int, *lengths: int, body: bytes = b"") -> int:
        keep = op in (Op.POLL, Op.TAKE)
        return session.send(self.slot, self.primitive, 0, TYPE, op, list(lengths), body, keep=keep)

    def ask(self, op: int, *args: object) -> Answer:
        return self.group.query(self.slot, self.primitive, 0, TYPE, op, list(args))

    @rule()
    def join(self) -> None:
        self.alive.append(Session(self.group))

    @rule(count=st.integers(1, 4))
    def offer(self, count: int) -> None:
        values = [(self.made + at).to_bytes(4, "big") for at in range(count)]
        op, lengths = (Op.OFFER, []) if count == 1 else (Op.OFFER_MANY, [4] * count)
        room = len(self.elements) + count <= CAPACITY
        answer = self.offerer.answers[self.slot, self.send(self.offerer, op, *lengths, body=b"".join(values))]
        assert (answer.code == Code.OK) is room
        if room:
            self.elements += range(self.made, self.made + count)
            self.made += count
        self.serve()

    @precondition(lambda self: self.alive)
    @rule(at=st.integers(0, 99), times=st.integers(1, 3))
    def take(self, at: int, times: int) -> None:
        session = self.alive[at % len(self.alive)]
        for _ in range(times):
            self.waiting.append(Asked(session, self.send(session, Op.TAKE)))
            self.serve()

    @precondition(lambda self: self.alive)
    @rule(at=st.integers(0, 99))
    def poll(self, at: int) -> None:
        session = self.alive[at % len(self.alive)]
        asked = Asked(session, self.send(session, Op.POLL))
        answer = session.answers[self.slot, asked.sequence]
        assert (answer.code == Code.OK) is bool(self.elements)
        if self.elements:
            self.give(asked, self.elements.pop(0))
        else:
            session.take(self.slot, asked.sequence)

    def serve(self) -> None:
        """The first who waits are given the first elements."""
        while self.elements and self.waiting:
            self.give(self.waiting.pop(0), self.elements.pop(0))

    def give(self, asked: Asked, element: int) -> None:
        answer = asked.session.answers[self.slot, asked.sequence]
        assert answer.code == Code.OK
        assert int.from_bytes(answer.result[8:], "big") == element
        self.given[asked] = element

    @precondition(lambda self: self.given)
    @rule(at=st.integers(0, 99))
    def acknowledge(self, at: int) -> None:
        asked = list(self.given)[at % len(self.given)]
        del self.given[asked]
        asked.session.take(self.slot, asked.sequence)

    @precondition(lambda self: self.given or self.waiting)
    @rule(at=st.integers(0, 99))
    def withdraw(self, at: int) -> None:
        asked = (*self.given, *self.waiting)[at % (len(self.given) + len(self.waiting))]
        if asked in self.given:
            element = self.given.pop(asked)
            if element >= self.cleared:
                insort(self.elements, element)
        else:
            self.waiting.remove(asked)
        assert asked.session.withdraw(self.slot, asked.sequence).code == Code.OK
        asked.session.take(self.slot, asked.sequence)
        self.serve()

    @precondition(lambda self: self.alive)
    @rule(at=st.integers(0, 99))
    def die(self, at: int) -> None:
        session = self.alive.pop(at % len(self.alive))
        session.expire()
        self.waiting = [asked for asked in self.waiting if asked.session is not session]
        self.given = {asked: one for asked, one in self.given.items() if asked.session is not session}

    @rule()
    def clear(self) -> None:
        self.send(self.offerer, Op.CLEAR)
        self.cleared = self.made
        self.elements.clear()

    @rule()
    def settle(self) -> None:
        self.group.settle()

    @invariant()
    def look(self) -> None:
        rows, more = decode_page(self.ask(Ask.PAGE, b"", 1000, True).result)
        assert not more
        assert [int.from_bytes(row[8:], "big") for _, row in rows] == self.elements
        assert int.from_bytes(self.ask(Ask.SIZE).result, "big") == len(self.elements)
        for asked in self.waiting:
            assert (self.slot, asked.sequence) not in asked.session.answers

    def teardown(self) -> None:
        """Everybody changes his mind: all elements are there, and nothing else but the state."""
        if not hasattr(self, "group"):
            return
        while self.given or self.waiting:
            self.withdraw(0)
            self.look()
        self.clear()
        self.group.settle()
        rows = self.group.state()
        assert len([key for key in rows if key[2:12] == self.primitive.to_bytes()]) <= 1
        assert not [key for key in rows if self.primitive.to_bytes() in key[15:] and key[14] == 8], "holdings"
        self.group.forget()
        assert self.group.applier.next_deadline_ms is None, "no timer is left"


QueueRules.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestQueue = QueueRules.TestCase
