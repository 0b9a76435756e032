"""Bursts through a node: one record each in entries, in what waits, and in what is passed on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from by_snapshot import GROUP as FORWARDED
from by_snapshot import Engines
from local_group import answers_of
from test_forwarding import EPOCH, SLOT, Caller

from bench.micro_steps import GROUP, Alone, Session
from primitives.errors import Code
from primitives.ids import NodeId, PrimitiveId
from primitives.limits import BURST_COMMANDS_MAX
from primitives.lock import RELEASE, LockMachine
from primitives.records import (
    Burst,
    Kind,
    Register,
    count_answers,
    decode_answer,
    decode_burst,
    decode_entry,
    encode_answer,
    encode_burst,
    encode_burst_answer,
    encode_register,
)
from router.frames import HEADER_BYTES, FrameKind, decode_answers, encode_requests
from shards.outbox import Outbox
from shards.ports import Effects, Origin
from shards.proposals import ENTRY_BYTES_MAX, ENTRY_COMMANDS_MAX, Proposals
from shards.waiters import Waiters

NODE = NodeId(1)


def burst(count: int, body: bytes = b"") -> Burst:
    return Burst(
        b"s" * 16, 1, SLOT, 1, 1, 0, PrimitiveId(SLOT, 9), 0, 17, 2, (), [[1]] * count, [body] * count  # type: ignore[arg-type]  # a number
    )


def entries_of(records: list[Any]) -> list[list[int]]:
    """How many commands each record of each entry has, once a leader proposed them."""
    proposals, waiters = Proposals(), Waiters()
    entries: list[bytes] = []

    def propose(data: bytes) -> int:
        entries.append(data)
        return len(entries)

    for at, record in enumerate(records):
        data = encode_burst(record) if isinstance(record, Burst) else encode_register(record)
        proposals.add(data, record, Origin(NODE, 5, at))
    replica: Any = SimpleNamespace(term=3, propose=propose)
    proposals.enter(replica, 0, waiters)
    assert not len(proposals)
    found = []
    for index, entry in enumerate(entries, 1):
        parts = decode_entry(entry)[1]
        pending = waiters.pop(index)  # type: ignore[arg-type]  # an index
        assert pending is not None and len(pending.records) == len(pending.origins) == len(parts)
        found.append([len(decode_burst(part).bodies) if part[0] == Kind.BURST else 1 for part in parts])
    return found


SINGLE = Register(b"s" * 16, 1, 1000)


def test_an_entry_has_no_more_commands_than_it_may_yet_always_a_record() -> None:
    assert ENTRY_COMMANDS_MAX == BURST_COMMANDS_MAX == 64
    assert entries_of([burst(64), burst(64)]) == [[64], [64]]
    assert entries_of([SINGLE, burst(64), SINGLE]) == [[1], [64], [1]]
    assert entries_of([burst(30), burst(34), burst(1), burst(63), burst(2)]) == [[30, 34], [1, 63], [2]]
    assert entries_of([burst(40), burst(40), SINGLE, burst(23), SINGLE]) == [[40], [40, 1, 23], [1]]
    assert entries_of([SINGLE] * 130) == [[1] * 64, [1] * 64, [1] * 2]


def test_an_entry_has_no_more_bytes_than_it_may_yet_always_a_record() -> None:
    large = burst(2, b"x" * (ENTRY_BYTES_MAX // 4))
    huge = burst(2, b"x" * ENTRY_BYTES_MAX)
    assert entries_of([large, large, SINGLE, large]) == [[2], [2, 1], [2]]
    assert entries_of([SINGLE, huge, SINGLE]) == [[1], [2], [1]]


@pytest.mark.parametrize("size", [2, 16, 64])
def test_answers_leave_early_once_those_of_bursts_are_many(size: int) -> None:
    out = Outbox(NODE, 64)
    early: list[Effects] = []
    out.send = early.append
    part = encode_answer(Code.OK, 9)
    for at in range(64 // size):
        assert not early
        out.answer(Origin(NODE, 5, at), encode_burst_answer([part] * size))
        out.answer_early()
    assert len(early) == 1
    assert not out.take().clients


@pytest.mark.parametrize(("groups", "parts"), [(0, 1), (1, 1), (3, 3), (4, 4), (16, 4), (19, 4), (64, 16)])
def test_the_more_groups_answer_in_a_round_the_more_answers_are_waited_for(groups: int, parts: int) -> None:
    out = Outbox(NODE, 2)
    early: list[Effects] = []
    out.send = early.append
    out.expect(groups)
    for at in range(2 * parts):
        assert not early
        out.answer(Origin(NODE, 5, at), encode_answer(Code.OK, 9))
        out.answer_early()
    assert len(early) == 1


def test_a_burst_refused_as_a_whole_counts_as_one_answer() -> None:
    out = Outbox(NODE, 2)
    early: list[Effects] = []
    out.send = early.append
    out.answer(Origin(NODE, 5, 1), encode_answer(Code.NOT_LEADER, 0))
    out.answer_early()
    assert not early


def test_a_node_answers_bursts_as_it_answers_their_commands() -> None:
    joined, single = Alone(), Alone()
    sessions = [Session(lambda record, node=node: node.ask([record])[0]) for node in (joined, single)]  # type: ignore[misc]  # bound now
    found = joined.ask(sessions[0].bursts(200, 16))
    assert [count_answers(answer) for answer in found] == [16] * 12 + [8]
    alone = single.ask(sessions[1].puts(200))
    parts = [decode_answer(part) for answer in found for part in answers_of(answer)]
    assert parts == [decode_answer(answer) for answer in alone]
    assert {answer.code for answer in parts} == {Code.OK}


def test_a_burst_for_what_is_not_there_is_answered_once_the_name_s_slot_was_asked() -> None:
    node = Alone()
    session = Session(lambda record: node.ask([record])[0])
    data = decode_burst(session.bursts(3, 3)[0])
    nothing = data._replace(primitive=PrimitiveId(data.slot, 1))  # type: ignore[arg-type]  # a number
    requests = encode_requests([(900, GROUP, encode_burst(nothing)), (903, GROUP, session.bursts(2, 2)[0])])
    node.engine.client_frame(1, FrameKind.OPS, requests[HEADER_BYTES:])
    given: list[Effects] = []
    for _ in range(50):
        node._now_ms += 10
        given.append(node.round(given.append))
    frames = [frame for effects in given for frame in effects.clients.get(1, [])]
    told = {request: answer for frame in frames for request, answer in decode_answers(frame[HEADER_BYTES:])}
    parts = [decode_answer(part).code for part in answers_of(told[900])]
    assert parts == [Code.UNKNOWN_PRIMITIVE] * 3
    assert [decode_answer(part).code for part in answers_of(told[903])] == [Code.OK] * 2


def test_what_cannot_be_read_as_a_burst_is_answered_and_stops_nothing() -> None:
    node = Alone()
    session = Session(lambda record: node.ask([record])[0])
    good = session.bursts(4, 2)
    bad = node.ask([good[0][:-1], bytes((Kind.BURST,))])
    assert [decode_answer(answer).code for answer in bad] == [Code.BAD_REQUEST] * 2
    assert [len(answers_of(answer)) for answer in node.ask(good)] == [2, 2]


@pytest.mark.parametrize("leads", [True, False])
def test_a_burst_that_is_passed_on_is_answered_under_its_request(leads: bool) -> None:
    engines = Engines()
    leader = engines.leader.node
    node = leader if leads else next(node for node in engines.up if node != leader)
    caller = Caller(engines, 1, leader)
    lock = caller.create(leader, "lock")

    def send(request: int, record: bytes) -> bytes:
        frame = encode_requests([(request, FORWARDED, record)])
        engines.up[node].client_frame(7, frame[4], frame[HEADER_BYTES:])
        engines.run(50)
        return next(
            answer for frame in engines.told[node, 7] if frame[4] == FrameKind.ANSWERS
            for at, answer in decode_answers(frame[HEADER_BYTES:]) if at == request
        )  # fmt: skip

    releases = Burst(
        caller.id, caller.number, SLOT, EPOCH, caller.sequence + 1, 0, lock, 0, LockMachine.TYPE, RELEASE, (),
        [[1], [2], [3]], [b""] * 3,
    )  # fmt: skip
    first = send(1, encode_burst(releases))
    parts = answers_of(first)
    assert len(parts) == 3
    assert [decode_answer(part).revision for part in parts] == [
        decode_answer(parts[0]).revision + at for at in range(3)
    ]
    assert send(5, encode_burst(releases)) == first
    assert send(9, encode_burst(releases._replace(epoch=9)))[0] == Code.WRONG_SLOT
    assert send(13, encode_burst(releases._replace(number=1 << 40)))[0] == Code.SESSION_LOST
    engines.run(100)  # until followers have heard of the last commit, and all have written their state
    assert engines.have_met()
