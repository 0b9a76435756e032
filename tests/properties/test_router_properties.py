"""Properties of frames, the ring, the queue of calls and the session core, for arbitrary inputs."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st
from router_driver import Driver, counter
from router_model import ModelCluster

from primitives.codec import pack
from primitives.counter import ADD, GET
from primitives.errors import Code, ProtocolError
from primitives.ids import GroupId, PrimitiveId, Revision
from primitives.limits import BURST_COMMANDS_MAX
from primitives.records import (
    Answer,
    Command,
    command_head,
    decode_answer,
    encode_answer,
    encode_burst_answer,
    encode_command,
    encode_run_answer,
)
from router.frames import (
    AnswerReader,
    Splitter,
    decode_answers,
    decode_control,
    decode_requests,
    encode_answers,
    encode_control,
    encode_frame,
    encode_requests,
)
from router.ring import rebalance
from router.session_calls import Call, CallKind
from router.session_lanes import Lane
from router.session_queue import CallQueue
from router.shardmap import ShardMap

U64 = st.integers(0, 2**64 - 1)
U32 = st.integers(0, 2**32 - 1)
U16 = st.integers(0, 2**16 - 1)


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=60))), st.lists(st.integers(1, 50)))
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(
    frames: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    stream = b"".join(encode_frame(kind, payload) for kind, payload in frames)
    splitter = Splitter()
    found = []
    sizes = iter(cuts)
    while stream:
        size = next(sizes, len(stream))
        splitter.push(stream[:size])
        stream = stream[size:]
        while (frame := splitter.pop()) is not None:
            found.append(frame)
    assert found == frames
    assert splitter.buffered_bytes == 0


@given(st.binary(max_size=200))
def test_garbage_gives_a_protocol_error_or_frames_and_nothing_else(data: bytes) -> None:
    splitter = Splitter(100)
    with suppress(ProtocolError):
        splitter.push(data)
        while (frame := splitter.pop()) is not None:
            assert len(frame[1]) <= 100
    for decode in (decode_control, lambda p: list(decode_requests(p)), lambda p: list(decode_answers(p))):
        with suppress(ProtocolError):
            decode(data)
    with suppress(ProtocolError):
        ShardMap.decode(b"\x01" + data)


@given(st.lists(st.tuples(U64, U32, st.binary())), st.lists(st.tuples(U64, st.binary())), st.binary())
def test_payloads_are_read_back(
    requests: list[tuple[int, int, bytes]], answers: list[tuple[int, bytes]], blob: bytes
) -> None:
    assert list(decode_requests(encode_requests(requests)[8:])) == requests
    assert list(decode_answers(encode_answers(answers)[8:])) == answers
    assert decode_control(encode_control(7, [1, [2]], blob)[8:]) == ([1, [2]], blob)


PARTS = st.lists(st.builds(encode_answer, st.integers(0, 255), U64, st.binary(max_size=9)), max_size=5)
RUNS = st.builds(encode_run_answer, st.integers(0, 70), U64)
ANSWERS = st.lists(
    st.tuples(U64, st.binary(max_size=30) | PARTS.map(encode_burst_answer) | RUNS)
).map(lambda answers: encode_answers(answers)[8:])


def _expanded(request: int, data: bytes) -> Iterator[tuple[int, Answer | None]]:
    """Answers of a burst, or the only one; ends where it is not what it says."""
    if len(data) >= 9 and data[0] == Code.RUN:
        count, first = decode_answer(data).revision, int.from_bytes(data[9:], "big")
        if len(data) != 17 or not 1 <= count <= BURST_COMMANDS_MAX or first + count > 1 << 64:
            raise ProtocolError("run")
        for number in range(count):
            yield request + number, Answer(Code.OK, Revision(first + number), b"")
        return
    if len(data) < 9 or data[0] != Code.BURST:
        yield request, decode_answer(data) if len(data) >= 9 else None
        return
    count, at = decode_answer(data).revision, 9
    for number in range(count):
        size = int.from_bytes(data[at : at + 4], "big")
        part = data[at + 4 : at + 4 + size]
        at += 4 + size
        is_burst = part[:1] in (bytes((Code.BURST,)), bytes((Code.RUN,)))
        if len(part) < max(9, size) or is_burst or (at == len(data)) != (number == count - 1):
            raise ProtocolError("burst")
        yield request + number, decode_answer(part)
    if not count:
        raise ProtocolError("burst")


CUT = st.tuples(ANSWERS, st.integers(1, 40)).map(lambda drawn: drawn[0][: -drawn[1]])


@given(ANSWERS | CUT | st.binary(max_size=60))
def test_a_reader_of_answers_finds_what_decoding_them_finds(payload: bytes) -> None:
    found: list[tuple[int, Answer | None]] = []
    read: list[tuple[int, Answer | None]] = []
    errors: list[str] = []
    try:
        for request, data in decode_answers(payload):
            found.extend(_expanded(request, data))
    except ProtocolError as error:
        errors.append(str(error))
    reader = AnswerReader(payload)
    try:
        while reader.next():
            answer = reader.answer() if reader.code >= 0 else None
            assert answer is None or (type(answer), answer.revision) == (Answer, reader.revision)
            read.append((reader.request, answer))
    except ProtocolError as error:
        errors.remove(next((kind for kind in ("burst", "run") if kind in str(error)), str(error)))
    assert (read, errors) == (found, [])


COMMANDS = st.builds(
    Command, session_id=st.binary(min_size=16, max_size=16), number=U64, slot=U16,
    epoch=U32, sequence=U64, acknowledged=U64, primitive=st.builds(PrimitiveId, U16, U64),
    partition=U16, type=st.integers(2, 255), op=st.integers(0, 255),
    exceptions=st.lists(U64, max_size=3).map(tuple), args=st.lists(st.binary(max_size=20), max_size=2),
    body=st.binary(),
)  # fmt: skip


@given(COMMANDS)
def test_a_calls_record_is_its_command(command: Command) -> None:
    call = Call(CallKind.COMMAND, command.type, command.op, pack(command.args), command.body)
    call.slot, call.primitive, call.partition = command.slot, command.primitive, command.partition
    call.number, call.sequence = command.number, command.sequence
    head = command_head(command.session_id, command.number, command.slot, command.epoch)
    record = call.command_record(head, command.acknowledged, command.exceptions)
    assert record == encode_command(command)


@given(st.lists(st.sets(st.integers(1, 12), min_size=1), min_size=1, max_size=6), st.integers(1, 300))
def test_shares_stay_even_and_moves_fewest_whatever_groups_come_and_go(
    changes: list[set[int]], slots: int
) -> None:
    table: list[int | None] = [None] * slots
    for members in changes:
        after = rebalance(table, [GroupId(group) for group in members])
        shares = Counter(after)
        assert set(shares) <= members
        assert max(shares.values()) <= -(-slots // len(members))
        assert min(shares.get(GroupId(group), 0) for group in members) >= slots // len(members)
        before = Counter(owner for owner in table if owner in members)
        gained = sum(max(0, shares[GroupId(group)] - before[group]) for group in members)
        assert sum(old != new for old, new in zip(table, after, strict=True)) == gained
        table = list(after)


@given(st.lists(st.sampled_from(["push", "front", "pop", "off", "first"]), max_size=300), st.randoms())
def test_a_queue_of_calls_behaves_like_a_list(steps: list[str], random: object) -> None:
    queue, model = CallQueue(), []
    for step in steps:
        if step == "push":
            model.append(Call(CallKind.QUERY, 1, 1, b"", b""))
            queue.push(model[-1])
        elif step == "front":
            model.insert(0, Call(CallKind.QUERY, 1, 1, b"", b""))
            queue.push_front(model[0])
        elif step == "pop":
            assert queue.pop() is (model.pop(0) if model else None)
        elif step == "first":
            assert queue.first() is (model[0] if model else None)
        elif model:
            victim = model.pop(random.randrange(len(model)))  # type: ignore[attr-defined]
            victim.queue.call_off(victim)
        assert len(queue) == len(model)
        assert list(queue) == model


def _sendable(lane: Lane) -> list[Call]:
    return list(iter(lambda: lane.next(5, 1000), None))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), min_size=1, max_size=60))
def test_what_a_lane_acknowledges_was_answered(steps: list[tuple[bool, int]]) -> None:
    lane = Lane(1)
    open_calls: dict[int, Call] = {}
    top = 0
    for late, settled in steps:
        call = Call(CallKind.COMMAND, 1, 1, b"", b"")
        call.late = late
        lane.waiting.push(call)
        assert _sendable(lane) == [call]
        open_calls[call.sequence] = call
        top = call.sequence
        if settled in open_calls:
            lane.settle(open_calls.pop(settled))
        floor, exceptions = lane.acknowledgement()
        assert 0 <= floor <= top
        assert list(exceptions) == sorted(set(exceptions))
        acknowledged = set(range(1, floor + 1)) - set(exceptions)
        assert not acknowledged & set(open_calls)
        lane.rewind()
        assert [again.sequence for again in _sendable(lane)] == sorted(open_calls)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(st.sampled_from(["cut", "lead", "none", "call", "cancel", "wait"]), max_size=40),
)
def test_a_counter_holds_what_was_acknowledged_and_no_more_than_was_tried(
    seed: int, steps: list[str]
) -> None:
    cluster = ModelCluster(groups=1)
    driver = Driver(cluster, seed=seed, delay_ms=(1, 15))
    ref = counter("c")
    live: list[Call] = []
    unsure = acknowledged = 0
    for step in steps:
        if step == "cut":
            driver.cut()
        elif step == "lead":
            cluster.lead(1, 1 + driver.random.randrange(3))
        elif step == "none":
            cluster.lead(1, 0)
        elif step == "call":
            live.append(driver.command(ref, ADD, [1]))
        elif step == "cancel" and live:
            call = live.pop(driver.random.randrange(len(live)))
            acknowledged += call.done
            unsure += not call.done
            driver.core.cancel(driver.now_ms, call)
        else:
            driver.pass_ms(driver.random.randrange(1, 100))
    cluster.lead(1, 2)
    driver.wait(*live)
    acknowledged += len(live)
    (answer,) = driver.wait(driver.query(ref, GET, []))
    value = 0 if answer is None else struct.unpack(">q", answer.result)[0]
    assert acknowledged <= value <= acknowledged + unsure
