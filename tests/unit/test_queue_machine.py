"""The queue's machine in a real applier, command by command."""

from __future__ import annotations

from typing import Any

import pytest
from local_group import OnePrimitive, Session

from primitives import queueops
from primitives.errors import Code
from primitives.limits import VALUE_BYTES_MAX
from primitives.line import SLICE_WAITERS
from primitives.pages import decode_page
from primitives.queueops import OFFER_MANY_MAX, SLICE_ROWS, Ask, Op, QueueMachine

TYPE = QueueMachine.TYPE


class OneQueue(OnePrimitive):
    """A queue in a group, spoken to in bytes."""

    def __init__(self, config: bytes | None = None) -> None:
        super().__init__("q", TYPE, kept=(Op.TAKE, Op.POLL), config=config)

    def offer(self, *values: bytes) -> None:
        for value in values:
            assert self.do(self.creator, Op.OFFER, body=value).code == Code.OK

    def taken(self, session: Session, at: int) -> bytes | None:
        """What the command of that number was given so far."""
        answer = session.answers.get((self.slot, at))
        return answer.result[8:] if answer is not None and answer.code == Code.OK else None

    def elements(self) -> list[bytes]:
        page, more = decode_page(self.ask(Ask.PAGE, b"", 1000, True).result)
        assert not more
        assert int.from_bytes(self.ask(Ask.SIZE).result, "big") == len(page)
        first = self.ask(Ask.PEEK)
        assert (first.result[8:] if first.code == Code.OK else None) == (page[0][1][8:] if page else None)
        return [row[8:] for _, row in page]



@pytest.fixture
def one() -> OneQueue:
    return OneQueue()


def test_elements_come_out_in_the_order_they_went_in(one: OneQueue) -> None:
    one.offer(b"a", b"b")
    assert one.do(one.creator, Op.OFFER_MANY, 1, 2, body=b"cde").code == Code.OK
    assert one.elements() == [b"a", b"b", b"c", b"de"]
    (a,) = one.sessions(1)
    assert [one.do(a, op).result[8:] for op in (Op.POLL, Op.TAKE, Op.POLL, Op.TAKE)] == [
        b"a",
        b"b",
        b"c",
        b"de",
    ]
    assert one.do(a, Op.POLL).code == Code.CONDITION
    assert one.elements() == []


def test_takers_are_served_in_the_order_they_came_by_the_command_that_offers(one: OneQueue) -> None:
    crowd = one.sessions(4)
    places = [one.send(session, Op.TAKE) for session in crowd]
    assert one.do(one.creator, Op.OFFER_MANY, 1, 1, body=b"ab").code == Code.OK
    assert [one.taken(s, p) for s, p in zip(crowd, places, strict=True)] == [b"a", b"b", None, None]
    assert one.elements() == []
    one.offer(b"c", b"d", b"e")
    assert [one.taken(s, p) for s, p in zip(crowd, places, strict=True)] == [b"a", b"b", b"c", b"d"]
    assert one.elements() == [b"e"]
    assert one.holdings() == 0


def test_a_taker_whose_session_ended_is_passed_over_and_leaves_nothing(one: OneQueue) -> None:
    a, b = one.sessions(2)
    one.send(a, Op.TAKE)
    place = one.send(b, Op.TAKE)
    a.expire()
    one.offer(b"x")
    assert one.taken(b, place) == b"x"
    one.group.settle()
    one.offer(b"y")
    assert one.elements() == [b"y"]
    assert one.holdings() == 0


def test_dead_takers_are_skipped_in_slices_and_the_first_living_one_is_served(one: OneQueue) -> None:
    *crowd, last = one.sessions(2 * SLICE_WAITERS + 3)
    for session in crowd:
        one.send(session, Op.TAKE)
    place = one.send(last, Op.TAKE)
    for session in crowd:
        session.expire()
    one.offer(b"x")
    assert one.taken(last, place) is None, "more than one command's work"
    (late,) = one.sessions(1)
    late_place = one.send(late, Op.TAKE)
    one.group.settle()
    assert one.taken(last, place) == b"x"
    assert one.taken(late, late_place) is None
    one.offer(b"y")
    assert one.taken(late, late_place) == b"y"


def test_whoever_polls_meanwhile_gets_what_is_there(one: OneQueue) -> None:
    *crowd, last = one.sessions(2 * SLICE_WAITERS + 3)
    places = [one.send(session, Op.TAKE) for session in (*crowd, last)]
    for session in crowd:
        session.expire()
    one.offer(b"x")
    assert one.do(one.creator, Op.POLL).result[8:] == b"x", "a queue that holds something is not empty"
    one.group.settle()
    assert one.taken(last, places[-1]) is None
    one.offer(b"y")
    assert one.taken(last, places[-1]) == b"y"


def test_a_session_with_many_takers_leaves_in_slices(one: OneQueue) -> None:
    a, b = one.sessions(2)
    for _ in range(SLICE_WAITERS * 2 + 5):
        one.send(a, Op.TAKE)
    place = one.send(b, Op.TAKE)
    a.expire()
    assert one.group.settle() >= 3, "in slices"
    assert one.rows() == 3, "the state, b and its place"
    one.offer(b"x")
    assert one.taken(b, place) == b"x"


def test_a_withdrawn_taker_is_passed_over(one: OneQueue) -> None:
    a, b = one.sessions(2)
    a_place, b_place = one.send(a, Op.TAKE), one.send(b, Op.TAKE)
    assert a.withdraw(one.slot, a_place).code == Code.OK
    assert a.answers[one.slot, a_place].code == Code.WITHDRAWN
    one.offer(b"x")
    assert one.taken(b, b_place) == b"x"
    assert one.holdings() == 0


def test_a_withdrawn_element_goes_back_to_where_it_was(one: OneQueue) -> None:
    a, b = one.sessions(2)
    one.offer(b"1", b"2", b"3", b"4")
    first, second = one.send(a, Op.TAKE), one.send(b, Op.POLL)
    assert one.elements() == [b"3", b"4"]
    assert b.withdraw(one.slot, second).code == Code.OK
    assert one.elements() == [b"2", b"3", b"4"]
    assert b.withdraw(one.slot, second).code == Code.OK, "again"
    assert one.elements() == [b"2", b"3", b"4"]
    assert a.withdraw(one.slot, first).code == Code.OK
    assert one.elements() == [b"1", b"2", b"3", b"4"]


def test_a_withdrawn_element_goes_to_the_first_who_waits(one: OneQueue) -> None:
    a, b, c = one.sessions(3)
    a_place = one.send(a, Op.TAKE)
    b_place, c_place = one.send(b, Op.TAKE), one.send(c, Op.TAKE)
    one.offer(b"x")
    assert one.taken(a, a_place) == b"x"
    a.withdraw(one.slot, a_place)
    assert one.taken(b, b_place) == b"x"
    assert one.taken(c, c_place) is None
    assert one.elements() == []


def test_an_element_taken_before_a_clear_does_not_come_back(one: OneQueue) -> None:
    a, b = one.sessions(2)
    one.offer(b"1", b"2")
    place = one.send(a, Op.TAKE)
    assert one.do(b, Op.CLEAR).code == Code.OK
    a.withdraw(one.slot, place)
    assert one.elements() == []
    one.offer(b"3")
    assert one.elements() == [b"3"]
    one.group.settle()
    assert one.elements() == [b"3"]
    assert one.rows() == 2


def test_a_cleared_queue_is_empty_at_once_and_drops_its_rows_in_slices(one: OneQueue) -> None:
    for _ in range(5):
        one.do(one.creator, Op.OFFER_MANY, *[1] * OFFER_MANY_MAX, body=bytes(OFFER_MANY_MAX))
    (a,) = one.sessions(1)
    assert one.do(a, Op.CLEAR).code == Code.OK
    assert one.elements() == []
    one.offer(b"x", b"y")
    assert one.do(a, Op.CLEAR).code == Code.OK
    one.offer(b"z")
    assert one.elements() == [b"z"]
    assert one.group.settle() >= 5 * OFFER_MANY_MAX // SLICE_ROWS
    assert one.elements() == [b"z"]
    assert one.rows() == 2


def test_many_takers_are_served_by_one_command_and_a_slice(one: OneQueue) -> None:
    crowd = one.sessions(OFFER_MANY_MAX)
    places = [one.send(session, Op.TAKE) for session in crowd]
    one.do(one.creator, Op.OFFER_MANY, *[1] * OFFER_MANY_MAX, body=bytes(range(OFFER_MANY_MAX)))
    one.group.settle()
    found = [one.taken(s, p) for s, p in zip(crowd, places, strict=True)]
    assert found == [bytes((number,)) for number in range(OFFER_MANY_MAX)]


def test_a_full_queue_refuses_until_something_is_taken() -> None:
    one = OneQueue(config=(3).to_bytes(8, "big"))
    one.offer(b"1", b"2")
    assert one.do(one.creator, Op.OFFER_MANY, 1, 1, body=b"34").code == Code.CONDITION
    assert one.elements() == [b"1", b"2"], "all or none"
    one.offer(b"3")
    assert one.do(one.creator, Op.OFFER, body=b"4").code == Code.CONDITION
    (a,) = one.sessions(1)
    place = one.send(a, Op.TAKE)
    one.offer(b"4")
    a.withdraw(one.slot, place)
    assert one.elements() == [b"1", b"2", b"3", b"4"], "what comes back has its place"
    assert one.do(one.creator, Op.OFFER, body=b"5").code == Code.CONDITION


def test_too_many_takers_are_refused(one: OneQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queueops, "WAITERS_MAX", 2)
    a, b = one.sessions(2)
    one.send(a, Op.TAKE)
    one.send(a, Op.TAKE)
    assert one.do(b, Op.TAKE).code == Code.OVERLOADED


BAD: list[tuple[int, list[Any], bytes]] = [
    (0, [], b""), (9, [], b""), (Op.OFFER, [], b""), (Op.OFFER, [1], b"x"), (Op.OFFER_MANY, [1], b"xy"),
    (Op.OFFER_MANY, [0, 1], b"x"), (Op.OFFER_MANY, [None], b"x"), (Op.OFFER_MANY, [-1, 2], b"x"),
    (Op.POLL, [1], b""), (Op.POLL, [], b"x"), (Op.TAKE, [1], b""), (Op.TAKE, [], b"x"), (Op.CLEAR, [1], b""),
    (Op.CLEAR, [], b"x"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "args", "body"), BAD)
def test_a_malformed_command_is_refused_with_a_text(
    one: OneQueue, op: int, args: list[Any], body: bytes
) -> None:
    one.offer(b"a")
    answer = one.do(one.creator, op, *args, body=body)
    assert (answer.code, bool(answer.result.decode())) == (Code.BAD_REQUEST, True)
    assert one.elements() == [b"a"]


def test_a_command_that_carries_too_much_is_refused(one: OneQueue) -> None:
    assert one.do(one.creator, Op.OFFER, body=bytes(VALUE_BYTES_MAX + 1)).code == Code.TOO_LARGE
    many = [1] * (OFFER_MANY_MAX + 1)
    assert one.do(one.creator, Op.OFFER_MANY, *many, body=bytes(len(many))).code == Code.TOO_LARGE


@pytest.mark.parametrize(
    ("op", "args"),
    [(0, []), (9, []), (Ask.PEEK, [1]), (Ask.SIZE, [1]), (Ask.PAGE, []), (Ask.PAGE, [b"x", 1, True]),
     (Ask.PAGE, [b"", 0, True]), (Ask.PAGE, [b"", 1, 1]), (Ask.PAGE, [None, 1, True])],
)  # fmt: skip
def test_a_malformed_query_is_refused(one: OneQueue, op: int, args: list[Any]) -> None:
    assert one.ask(op, *args).code == Code.BAD_REQUEST
