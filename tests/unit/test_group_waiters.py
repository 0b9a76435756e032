"""Whoever waits for a group is resolved once, and told no more than is known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from local_group import MemoryRows

from primitives.applier import Applier
from primitives.errors import Code
from primitives.ids import GroupId, NodeId
from primitives.records import Register, decode_answer, encode_answer, encode_entry, encode_register
from primitives.registry import machines
from raftgroup.types import Entry, EntryKind, HardState, Index, Membership, ReplicaId, Role, Term
from router.frames import HEADER_BYTES, FrameKind, decode_answers, decode_control
from shards.group import GroupDriver
from shards.outbox import Outbox
from shards.ports import Effects, Origin, ReplicaIdentity, StoredReplica
from shards.reads import Confirm
from shards.waiters import Pending

GROUP, NODE, SESSION_ID = GroupId(1), NodeId(1), b"s" * 16
REGISTER = Register(SESSION_ID, 1, 1000)


class Led:
    """A group's driver around a replica that leads term 3 and does nothing by itself."""

    def __init__(self) -> None:
        replica: Any = SimpleNamespace(
            role=Role.LEADER, term=3, leader=1, commit=0, applied_to=lambda index: None
        )
        store: Any = SimpleNamespace(log=lambda group: SimpleNamespace(last_index=lambda: Index(0)))
        applier = Applier(GROUP, MemoryRows(), machines())
        applier.initialize([0, 1, 2])
        members = Membership(incoming=(ReplicaId(1),))
        stored = StoredReplica(ReplicaIdentity(GROUP, ReplicaId(1)), members, HardState(), Index(0), 1)
        self.driver = GroupDriver(NODE, stored, replica, applier, store, {ReplicaId(1): NODE})
        self.out = Outbox(NODE, 64)

    def commit(self, index: int, term: int, *, proposed_in: int) -> tuple[int, int]:
        """Commits a registration of ``term`` where one of ``proposed_in`` is waited for; code and revision of
        the answer."""
        data = encode_register(REGISTER)
        origin = Origin(NODE, 5, index)
        self.driver.applying.waiters.add(Index(index), Pending(Term(proposed_in), (REGISTER,), (origin,)))
        entry = Entry(Term(term), Index(index), EntryKind.NORMAL, encode_entry(0, [data]))
        self.driver.applying.take([entry])
        self.driver.apply(0, self.out)
        [frame] = self.out.take().clients[5]
        [(request, answer)] = decode_answers(frame[HEADER_BYTES:])
        assert request == index
        code, revision, _ = decode_answer(answer)
        return code, revision

    def keepalive(self, number: int) -> list[list[Any]]:
        """What is confirmed and what is gone of a keepalive for that session."""
        self.driver._serve_confirm(Confirm(NODE, 5, 77, SESSION_ID, number), self.out)
        frames = self.out.take().clients.get(5, [])
        parts: list[list[Any]] = [[], []]
        for frame in frames:
            assert frame[4] == FrameKind.KEEPALIVE_REPLY
            [keepalive, confirmed, gone], _ = decode_control(frame[HEADER_BYTES:])
            assert keepalive == 77
            parts[0] += confirmed
            parts[1] += gone
        return parts


def test_a_waiter_of_another_terms_entry_is_told_that_its_fate_is_unknown() -> None:
    led = Led()
    assert led.commit(1, 3, proposed_in=3) == (Code.OK, 1)
    assert led.commit(2, 3, proposed_in=2) == (Code.LOST, 0)


def test_a_session_whose_expiry_was_proposed_is_confirmed_no_more() -> None:
    led = Led()
    led.driver.leases.elected(0, [])
    _, number = led.commit(1, 3, proposed_in=3)
    assert led.keepalive(number) == [[[GROUP, number, 1]], []]
    assert led.driver.leases.expired(999) == []
    assert led.driver.leases.expired(1000) == [number]
    assert led.keepalive(number) == [[], []]


def test_a_session_that_the_group_does_not_know_is_gone() -> None:
    led = Led()
    assert led.keepalive(9) == [[], [[GROUP, 9]]]


def test_an_operation_without_a_byte_is_answered_and_stops_nothing() -> None:
    led = Led()
    led.driver.submit(Origin(NODE, 5, 9), b"", led.out)
    [frame] = led.out.take().clients[5]
    [(request, answer)] = decode_answers(frame[HEADER_BYTES:])
    assert (request, decode_answer(answer).code) == (9, Code.BAD_REQUEST)


def test_answers_leave_between_entries_once_they_are_many_and_each_once() -> None:
    led = Led()
    led.out = Outbox(NODE, 3)
    early: list[Effects] = []
    led.out.send = early.append
    entries = []
    for index in range(1, 6):  # Two registrations of one session in each of five entries.
        origins = Origin(NODE, 5, 2 * index), Origin(NODE, 6, 2 * index + 1)
        led.driver.applying.waiters.add(Index(index), Pending(Term(3), (REGISTER, REGISTER), origins))
        data = encode_entry(0, [encode_register(REGISTER)] * 2)
        entries.append(Entry(Term(3), Index(index), EntryKind.NORMAL, data))
    led.driver.applying.take(entries)
    led.driver.apply(0, led.out)
    sent = [_requests(effects) for effects in early]
    assert sent == [[2, 4, 3, 5], [6, 8, 7, 9]]
    assert _requests(led.out.take()) == [10, 11]


def test_answers_wait_for_the_end_of_the_round_where_nothing_may_leave_before() -> None:
    out = Outbox(NODE, 1)
    out.answer(Origin(NODE, 5, 1), encode_answer(Code.OK, 1))
    out.answer_early()
    assert _requests(out.take()) == [1]


def _requests(effects: Effects) -> list[int]:
    assert not effects.peers
    frames = [frame for given in effects.clients.values() for frame in given]
    return [request for frame in frames for request, _ in decode_answers(frame[HEADER_BYTES:])]
