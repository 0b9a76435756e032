"""Whatever is asked of a lock in whatever order: one holder at most, growing tokens, first come first served,
and nothing left of those who went away."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from local_group import Group, Session, create

from primitives.errors import Code
from primitives.lock import ACQUIRE, HOLDER, RELEASE, TRY_ACQUIRE, LockMachine

TYPE = LockMachine.TYPE


class Asked(NamedTuple):
    """A command that asked for the lock, and has not been given up."""

    session: Session
    sequence: int


class LockRules(RuleBasedStateMachine):
    """A lock among sessions that come, ask, let go, change their minds and die."""

    @initialize(flush_every=st.integers(1, 9))
    def found(self, flush_every: int) -> None:
        self.group = Group(flush_every=flush_every)
        creator = Session(self.group)
        self.slot, self.primitive = create(creator, "l", TYPE)
        creator.expire()
        self.group.settle()
        self.alive: list[Session] = []
        self.asked: list[Asked] = []
        """In the order of asking, those that wait and the one that holds."""
        self.granted: dict[Asked, int] = {}
        self.last_token = 0

    # -- what is done ----------------------------------------------------------------------------------------

    def send(self, session: Session, op: int, *args: int) -> int:
        return session.send(self.slot, self.primitive, 0, TYPE, op, list(args), keep=op != RELEASE)

    @rule()
    def join(self) -> None:
        self.alive.append(Session(self.group))

    @precondition(lambda self: self.alive)
    @rule(at=st.integers(0, 99), times=st.integers(1, 4))
    def ask(self, at: int, times: int) -> None:
        for _ in range(times):
            session = self.alive[at % len(self.alive)]
            self.asked.append(Asked(session, self.send(session, ACQUIRE)))

    @precondition(lambda self: self.alive)
    @rule(at=st.integers(0, 99))
    def ask_without_waiting(self, at: int) -> None:
        session = self.alive[at % len(self.alive)]
        free = not self.asked and self.holder() is None
        asked = Asked(session, self.send(session, TRY_ACQUIRE))
        code = session.answers[self.slot, asked.sequence].code
        if code == Code.OK:
            assert free, "somebody held it or was waiting"
            self.asked.append(asked)
        else:
            assert code == Code.CONDITION

    @precondition(lambda self: self.granted)
    @rule()
    def release(self) -> None:
        (asked,) = self.granted
        token = self.granted.pop(asked)
        self.asked.remove(asked)
        answer = asked.session.answers[self.slot, self.send(asked.session, RELEASE, token)]
        assert answer.code == Code.OK
        asked.session.take(self.slot, asked.sequence)

    @precondition(lambda self: self.alive)
    @rule(at=st.integers(0, 99), token=st.integers(0, 2**63))
    def release_what_is_not_held(self, at: int, token: int) -> None:
        session = self.alive[at % len(self.alive)]
        if token not in self.granted.values():
            answer = session.answers[self.slot, self.send(session, RELEASE, token)]
            assert answer.code == Code.CONDITION

    @precondition(lambda self: self.asked)
    @rule(at=st.integers(0, 99))
    def withdraw(self, at: int) -> None:
        asked = self.asked.pop(at % len(self.asked))
        self.granted.pop(asked, None)
        assert asked.session.withdraw(self.slot, asked.sequence).code == Code.OK
        asked.session.take(self.slot, asked.sequence)
        assert asked.session.answers[self.slot, asked.sequence].code in (Code.OK, Code.WITHDRAWN)

    @precondition(lambda self: self.alive)
    @rule(at=st.integers(0, 99))
    def die(self, at: int) -> None:
        session = self.alive.pop(at % len(self.alive))
        session.expire()
        self.asked = [asked for asked in self.asked if asked.session is not session]
        self.granted = {asked: token for asked, token in self.granted.items() if asked.session is not session}

    @rule()
    def settle(self) -> None:
        self.group.settle()
        self.look()
        assert bool(self.granted) == bool(self.asked), "while somebody waits, somebody holds"

    # -- what holds ------------------------------------------------------------------------------------------

    def holder(self) -> tuple[int, int] | None:
        answer = self.group.query(self.slot, self.primitive, 0, TYPE, HOLDER, [])
        if answer.code == Code.CONDITION:
            return None
        return int.from_bytes(answer.result[:8], "big"), int.from_bytes(answer.result[8:], "big")

    @invariant()
    def look(self) -> None:
        for place, asked in enumerate(self.asked):
            answer = asked.session.answers.get((self.slot, asked.sequence))
            if answer is None or asked in self.granted:
                continue
            assert answer.code == Code.OK
            assert place == 0, "first come, first served"
            token = int.from_bytes(answer.result, "big")
            assert token == answer.revision
            assert token > self.last_token, "tokens grow"
            self.last_token = token
            self.granted[asked] = token
        assert len(self.granted) <= 1, "one holder at most"
        expected = next(((asked.session.number, token) for asked, token in self.granted.items()), None)
        assert self.holder() == expected

    def teardown(self) -> None:
        """Everybody changes his mind: nothing is left."""
        if not hasattr(self, "group"):
            return
        while self.asked:
            self.withdraw(0)
            self.look()
        self.group.settle()
        assert self.holder() is None
        rows = self.group.state()
        assert not [key for key in rows if key[2:12] == self.primitive.to_bytes()]
        assert not [key for key in rows if self.primitive.to_bytes() in key[15:] and key[14] == 8], "holdings"


LockRules.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLock = LockRules.TestCase
