"""Whatever is asked of an election in whatever order: one leader at most, growing terms, candidates in order,
and nothing left of those who went away."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from local_group import Group, Session, create

from primitives.candidates import LENGTH, Ask, ElectionMachine, Op
from primitives.errors import Code
from primitives.pages import decode_page

TYPE = ElectionMachine.TYPE


class Stood(NamedTuple):
    """A campaign that has not been given up."""

    session: Session
    sequence: int
    id: int


class ElectionRules(RuleBasedStateMachine):
    """An election among sessions that come, stand, are moved about, change their minds and die."""

    @initialize(flush_every=st.integers(1, 9))
    def found(self, flush_every: int) -> None:
        self.group = Group(flush_every=flush_every)
        self.creator = Session(self.group)
        self.slot, self.primitive = create(self.creator, "e", TYPE)
        self.alive: list[Session] = []
        self.line: list[Stood] = []
        """Who leads, if anybody, and then those that stand."""
        self.terms: dict[Stood, int] = {}
        self.last_term = 0

    def send(self, session: Session, op: int, *args: int, body: bytes = b"") -> int:
        keep = op == Op.CAMPAIGN
        return session.send(self.slot, self.primitive, 0, TYPE, op, list(args), body, keep=keep)

    def arrange(self, op: int, stood: Stood) -> None:
        answer = self.creator.answers[self.slot, self.send(self.creator, op, stood.id)]
        assert answer.code == Code.OK

    def leader(self) -> Stood | None:
        """Who leads by the model: the first, once it was looked at whether it was told."""
        return self.line[0] if self.line and self.line[0] in self.terms else None

    @rule()
    def join(self) -> None:
        self.alive.append(Session(self.group))

    @precondition(lambda self: self.alive)
    @rule(at=st.integers(0, 99), times=st.integers(1, 3))
    def stand(self, at: int, times: int) -> None:
        session = self.alive[at % len(self.alive)]
        for _ in range(times):
            sequence = self.send(session, Op.CAMPAIGN, body=b"\x01")
            self.line.append(Stood(session, sequence, int(self.group.applier.revision)))
            self.look()

    @precondition(lambda self: self.terms)
    @rule()
    def resign(self) -> None:
        (stood,) = self.terms
        answer = stood.session.answers[self.slot, self.send(stood.session, Op.RESIGN, self.terms[stood])]
        assert answer.code == Code.OK
        self.over(stood)

    def over(self, stood: Stood) -> None:
        del self.terms[stood]
        self.line.remove(stood)
        stood.session.take(self.slot, stood.sequence)

    @precondition(lambda self: self.terms and len(self.line) > 1)
    @rule(at=st.integers(0, 99), how=st.sampled_from([Op.ANOINT, Op.PROMOTE, Op.DEMOTE, Op.EVICT]))
    def move(self, at: int, how: int) -> None:
        leader, stood = self.line[0], self.line[1 + at % (len(self.line) - 1)]
        self.arrange(how, stood)
        self.line.remove(stood)
        if how == Op.ANOINT:
            self.over(leader)
            self.line.insert(0, stood)
        elif how == Op.PROMOTE:
            self.line.insert(1, stood)
        elif how == Op.DEMOTE:
            self.line.append(stood)
        else:
            assert stood.session.answers[self.slot, stood.sequence].code == Code.CONDITION
            stood.session.take(self.slot, stood.sequence)

    @precondition(lambda self: self.terms)
    @rule(how=st.sampled_from([Op.DEMOTE, Op.EVICT]))
    def depose(self, how: int) -> None:
        (stood,) = self.terms
        self.arrange(how, stood)
        self.over(stood)

    @precondition(lambda self: self.line)
    @rule(at=st.integers(0, 99))
    def withdraw(self, at: int) -> None:
        stood = self.line.pop(at % len(self.line))
        self.terms.pop(stood, None)
        assert stood.session.withdraw(self.slot, stood.sequence).code == Code.OK
        stood.session.take(self.slot, stood.sequence)

    @precondition(lambda self: self.alive)
    @rule(at=st.integers(0, 99))
    def die(self, at: int) -> None:
        session = self.alive.pop(at % len(self.alive))
        session.expire()
        self.line = [stood for stood in self.line if stood.session is not session]
        self.terms = {stood: term for stood, term in self.terms.items() if stood.session is not session}

    @rule()
    def settle(self) -> None:
        self.group.settle()
        self.look()
        assert bool(self.terms) == bool(self.line), "while somebody stands, somebody leads"

    @invariant()
    def look(self) -> None:
        for place, stood in enumerate(self.line):
            answer = stood.session.answers.get((self.slot, stood.sequence))
            if answer is None or stood in self.terms:
                continue
            assert answer.code == Code.OK
            assert place == 0, "the first leads"
            term, id = int.from_bytes(answer.result[:8], "big"), int.from_bytes(answer.result[8:], "big")
            assert (term, id) == (answer.revision, stood.id)
            assert term > self.last_term, "terms grow"
            self.last_term = term
            self.terms[stood] = term
        assert len(self.terms) <= 1, "one leader at most"
        result = self.group.query(self.slot, self.primitive, 0, TYPE, Ask.LEADERSHIP, [b""]).result
        (length,) = LENGTH.unpack_from(result)
        leader = self.leader()
        assert (length > 0) is (leader is not None)
        if leader is not None:
            assert int.from_bytes(result[4:12], "big") == self.terms[leader]
        rows, more = decode_page(result[LENGTH.size + length :])
        assert not more
        ids = [int.from_bytes(row[8:16], "big") for _, row in rows]
        assert ids == [stood.id for stood in self.line[leader is not None :]]

    def teardown(self) -> None:
        """Everybody changes his mind: nothing is left but the state of an election without candidates."""
        if not hasattr(self, "group"):
            return
        while self.line:
            self.withdraw(0)
            self.look()
        self.group.settle()
        rows = self.group.state()
        assert len([key for key in rows if key[2:12] == self.primitive.to_bytes()]) <= 1
        assert not [key for key in rows if self.primitive.to_bytes() in key[15:] and key[14] == 8], "holdings"


ElectionRules.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestElection = ElectionRules.TestCase
