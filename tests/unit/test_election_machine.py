"""The election's machine in a real applier, command by command."""

from __future__ import annotations

from typing import Any

import pytest
from local_group import OnePrimitive, Session

from primitives import candidates
from primitives.candidates import DATA_BYTES_MAX, LED, LENGTH, VACANT, Ask, ElectionMachine, Op
from primitives.codec import encode_value
from primitives.errors import Code
from primitives.line import SLICE_WAITERS
from primitives.pages import decode_page

TYPE = ElectionMachine.TYPE


class OneElection(OnePrimitive):
    """An election in a group, spoken to in bytes."""

    def __init__(self) -> None:
        super().__init__("e", TYPE, kept=(Op.CAMPAIGN, Op.ATTEND))

    def stand(self, session: Session, data: str = "x") -> int:
        return self.send(session, Op.CAMPAIGN, body=encode_value(data))

    def term(self, session: Session, at: int) -> int | None:
        """The term that the campaign of that number was granted so far."""
        answer = session.answers.get((self.slot, at))
        if answer is None or answer.code != Code.OK:
            return None
        term = int.from_bytes(answer.result[:8], "big")
        assert term == answer.revision, "the revision of what granted it"
        return term

    def leader(self) -> tuple[int, int] | None:
        """Session and term."""
        answer = self.ask(Ask.LEADER)
        if answer.code == Code.CONDITION:
            return None
        return int.from_bytes(answer.result[8:16], "big"), int.from_bytes(answer.result[:8], "big")

    def id(self, session: Session) -> int:
        """Of the session's first candidacy."""
        return next(number for who, number in self.waiting() if who == session.number)

    def waiting(self) -> list[tuple[int, int]]:
        """Sessions and ids of those that stand, in order."""
        result = self.ask(Ask.LEADERSHIP, b"").result
        (length,) = LENGTH.unpack_from(result)
        rows, more = decode_page(result[LENGTH.size + length :])
        assert not more
        return [(int.from_bytes(row[:8], "big"), int.from_bytes(row[8:16], "big")) for _, row in rows]

    def told(self) -> list[int | None]:
        """Whose leadership the history tells, None for nobody's."""
        history = self.group.applier.history(self.slot, self.primitive, 0)
        assert history is not None
        events = [event for event in history.after(history.floor) if event.kind in (LED, VACANT)]
        return [int.from_bytes(one.value[8:16], "big") if one.kind == LED else None for one in events]


@pytest.fixture
def one() -> OneElection:
    return OneElection()


def test_the_first_who_stands_leads_and_the_others_follow_in_order(one: OneElection) -> None:
    assert one.leader() is None
    crowd = one.sessions(4)
    places = [one.stand(session) for session in crowd]
    assert [who for who, _ in one.waiting()] == [session.number for session in crowd[1:]]
    terms: list[int] = []
    for session, place in zip(crowd, places, strict=True):
        term = one.term(session, place)
        assert term is not None
        assert one.leader() == (session.number, term)
        assert not terms or term > terms[-1]
        terms.append(term)
        assert one.do(session, Op.RESIGN, term).code == Code.OK
        assert one.do(session, Op.RESIGN, term).code == Code.CONDITION
    assert one.leader() is None
    assert one.told() == [*(session.number for session in crowd), None]
    assert one.holdings() == 0
    assert one.rows() == 1


def test_a_dead_leader_is_void_from_the_entry_that_ended_it(one: OneElection) -> None:
    a, b = one.sessions(2)
    one.stand(a)
    place = one.stand(b)
    a.expire()
    assert one.leader() is None
    assert one.term(b, place) is None
    one.group.settle()
    term = one.term(b, place)
    assert term is not None
    assert one.leader() == (b.number, term)
    b.expire()
    one.group.settle()
    assert one.told() == [a.number, b.number, None]


def test_who_stands_when_the_leader_is_dead_leads_and_stays(one: OneElection) -> None:
    a, b = one.sessions(2)
    one.stand(a)
    a.expire()
    term = one.term(b, one.stand(b))
    assert term is not None
    one.group.settle()
    assert one.leader() == (b.number, term)
    assert one.told() == [a.number, b.number]


def test_dead_candidates_are_skipped_in_slices_and_nobody_overtakes(one: OneElection) -> None:
    a, *crowd, last = one.sessions(2 * SLICE_WAITERS + 3)
    term = one.term(a, one.stand(a))
    for session in crowd:
        one.stand(session)
    place = one.stand(last)
    for session in crowd:
        session.expire()
    assert one.waiting() == [(last.number, one.id(last))], "the dead are not shown"
    assert one.do(a, Op.RESIGN, term).code == Code.OK
    assert one.term(last, place) is None, "more than one command's work"
    late_place = one.stand(a)
    one.group.settle()
    assert one.term(last, place) is not None
    assert one.term(a, late_place) is None
    assert one.told() == [a.number, last.number]


def test_nobody_is_told_once_when_all_candidates_are_dead(one: OneElection) -> None:
    a, *crowd = one.sessions(SLICE_WAITERS + 30)
    term = one.term(a, one.stand(a))
    for session in crowd:
        one.stand(session)
    for session in crowd:
        session.expire()
    one.do(a, Op.RESIGN, term)
    one.group.settle()
    assert one.told() == [a.number, None]
    assert one.rows() == 1
    assert one.holdings() == 0


def test_anointing_deposes_the_leader_who_is_told(one: OneElection) -> None:
    a, b, c = one.sessions(3)
    places = [one.stand(session) for session in (a, b, c)]
    term = one.term(a, places[0])
    attending = one.send(a, Op.ATTEND, term)
    assert (one.slot, attending) not in a.answers
    id = one.id(c)
    anointed = one.do(b, Op.ANOINT, id)
    assert anointed.code == Code.OK
    assert a.answers[one.slot, attending].code == Code.OK
    assert one.leader() == (c.number, anointed.revision) == (c.number, one.term(c, places[2]))
    assert one.do(b, Op.ANOINT, id).code == Code.OK, "leads already"
    assert one.leader() == (c.number, anointed.revision)
    assert one.do(a, Op.RESIGN, term).code == Code.CONDITION
    assert [who for who, _ in one.waiting()] == [b.number]
    assert one.told() == [a.number, c.number]


def test_promoting_and_demoting_change_the_order(one: OneElection) -> None:
    lead, *crowd = one.sessions(5)
    term = one.term(lead, one.stand(lead))
    for session in crowd:
        one.stand(session)
    a, b, c, d = (session.number for session in crowd)
    ids = [one.id(session) for session in crowd]

    def order() -> list[int]:
        return [who for who, _ in one.waiting()]

    assert one.do(lead, Op.PROMOTE, ids[2]).code == Code.OK
    assert order() == [c, a, b, d]
    assert one.do(lead, Op.PROMOTE, ids[3]).code == Code.OK
    assert order() == [d, c, a, b]
    assert one.do(lead, Op.DEMOTE, ids[2]).code == Code.OK
    assert order() == [d, a, b, c]
    assert one.do(lead, Op.PROMOTE, ids[3]).code == Code.OK
    assert order() == [d, a, b, c]
    assert one.leader() == (lead.number, term)
    one.do(lead, Op.RESIGN, term)
    assert (one.leader() or ())[0] == d
    assert one.do(lead, Op.PROMOTE, ids[3]).code == Code.OK, "who leads is first"
    assert one.do(lead, Op.DEMOTE, ids[3]).code == Code.OK, "who leads is deposed"
    assert (one.leader() or ())[0] == a
    assert order() == [b, c]


def test_evicting_ends_a_candidacy_or_a_term(one: OneElection) -> None:
    a, b, c = one.sessions(3)
    places = [one.stand(session) for session in (a, b, c)]
    term = one.term(a, places[0])
    attending = one.send(a, Op.ATTEND, term)
    assert one.do(c, Op.EVICT, one.id(b)).code == Code.OK
    assert b.answers[one.slot, places[1]].code == Code.CONDITION
    leader = int.from_bytes(a.answers[one.slot, places[0]].result[8:], "big")
    assert one.do(c, Op.EVICT, leader).code == Code.OK
    assert a.answers[one.slot, attending].code == Code.OK
    assert (one.leader() or ())[0] == c.number
    for op in (Op.ANOINT, Op.PROMOTE, Op.DEMOTE, Op.EVICT):
        assert one.do(c, op, leader).code == Code.CONDITION
        assert one.do(c, op, 2**63 - 1).code == Code.CONDITION
    assert one.do(c, Op.RESIGN, one.term(c, places[2])).code == Code.OK
    assert one.holdings() == 0
    assert one.rows() == 1


def test_a_candidate_whose_session_ended_is_none_for_whoever_arranges(one: OneElection) -> None:
    a, b = one.sessions(2)
    one.stand(a)
    one.stand(b)
    id = one.id(b)
    b.expire()
    for op in (Op.ANOINT, Op.PROMOTE, Op.DEMOTE, Op.EVICT):
        assert one.do(a, op, id).code == Code.CONDITION


def test_attending_a_term_that_is_over_is_answered_at_once(one: OneElection) -> None:
    a, b = one.sessions(2)
    term = one.term(a, one.stand(a))
    assert one.do(b, Op.ATTEND, term).code == Code.OK, "not b's"
    attending = one.send(a, Op.ATTEND, term)
    assert one.do(a, Op.ATTEND, term).code == Code.BAD_REQUEST, "attended already"
    a.withdraw(one.slot, attending)
    attending = one.send(a, Op.ATTEND, term)
    one.do(a, Op.RESIGN, term)
    assert a.answers[one.slot, attending].code == Code.OK
    assert one.do(a, Op.ATTEND, term).code == Code.OK


def test_withdrawing_leaves_nothing_and_passes_the_leadership_on(one: OneElection) -> None:
    a, b, c = one.sessions(3)
    places = [one.stand(session) for session in (a, b, c)]
    assert b.withdraw(one.slot, places[1]).code == Code.OK
    assert [who for who, _ in one.waiting()] == [c.number]
    assert a.withdraw(one.slot, places[0]).code == Code.OK
    term = one.term(c, places[2])
    assert one.leader() == (c.number, term)
    a.withdraw(one.slot, places[0])
    assert one.leader() == (c.number, term)
    c.withdraw(one.slot, places[2])
    assert one.leader() is None
    assert one.rows() == 1
    assert one.holdings() == 0


def test_a_dead_session_leaves_the_line_in_slices(one: OneElection) -> None:
    a, b = one.sessions(2)
    one.stand(a)
    for _ in range(2 * SLICE_WAITERS + 5):
        one.stand(b)
    b.expire()
    assert one.group.settle() >= 3, "in slices"
    assert one.waiting() == []
    assert one.rows() == 2, "the state and the leader"


def test_too_many_candidates_and_too_much_data_are_refused(
    one: OneElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "WAITERS_MAX", 2)
    (a,) = one.sessions(1)
    for _ in range(3):
        one.stand(a)
    assert one.do(a, Op.CAMPAIGN, body=b"x").code == Code.OVERLOADED
    assert one.do(a, Op.CAMPAIGN, body=bytes(DATA_BYTES_MAX + 1)).code == Code.TOO_LARGE


BAD: list[tuple[int, list[Any], bytes]] = [
    (0, [], b""), (9, [1], b""), (Op.CAMPAIGN, [1], b"x"), (Op.CAMPAIGN, [], b""), (Op.RESIGN, [], b""),
    (Op.RESIGN, [1], b"x"), (Op.RESIGN, [-1], b""), (Op.RESIGN, [2**63], b""), (Op.ATTEND, [None], b""),
    (Op.ANOINT, [b"1"], b""), (Op.PROMOTE, [1, 2], b""), (Op.DEMOTE, [True], b""), (Op.EVICT, [1.0], b""),
]  # fmt: skip


@pytest.mark.parametrize(("op", "args", "body"), BAD)
def test_a_malformed_command_is_refused_with_a_text(
    one: OneElection, op: int, args: list[Any], body: bytes
) -> None:
    answer = one.do(one.creator, op, *args, body=body)
    assert (answer.code, bool(answer.result.decode())) == (Code.BAD_REQUEST, True)
    assert one.leader() is None


@pytest.mark.parametrize(
    ("op", "args"),
    [(0, []), (9, []), (Ask.LEADER, [1]), (Ask.LEADERSHIP, []), (Ask.LEADERSHIP, [b"x"]),
     (Ask.LEADERSHIP, [1])],
)  # fmt: skip
def test_a_malformed_query_is_refused(one: OneElection, op: int, args: list[Any]) -> None:
    assert one.ask(op, *args).code == Code.BAD_REQUEST
