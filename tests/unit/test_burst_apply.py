"""Bursts in apply: each command is judged by itself; what refuses one, or all, leaves nothing behind."""

from __future__ import annotations

from typing import Any

import pytest
from local_group import EPOCH, Group, Session, answers_of, create

from primitives.codec import encode_key, encode_value
from primitives.counter import ADD, CounterMachine
from primitives.counter import GET as COUNTED
from primitives.errors import Code
from primitives.ids import GROUP_SLOT, PrimitiveId, Revision, SlotId
from primitives.layout import HostTable, host_prefix
from primitives.limits import (
    ANSWERS_STORED_MAX,
    BURST_ANSWER_BYTES_MAX,
    BURST_COMMANDS_MAX,
    CLIENT_FRAME_BYTES_MAX,
    VALUE_BYTES_MAX,
)
from primitives.lock import ACQUIRE, HOLDER, LockMachine
from primitives.mapops import Ask as MapAsk
from primitives.mapops import MapMachine
from primitives.mapops import Op as MapOp
from primitives.queue import Ask as QueueAsk
from primitives.queue import Op as QueueOp
from primitives.queue import QueueMachine
from primitives.records import Answer, decode_answer, encode_answer, encode_run_answer
from router.frames import encode_answers

PREVIOUS = 8
KEY = encode_key("k")
META = host_prefix(GROUP_SLOT, HostTable.META)


class Stage:
    """A group with a primitive of one type and a session."""

    def __init__(self, type_: int) -> None:
        self.group = Group()
        self.type = type_
        self.session = Session(self.group)
        self.slot, self.id = create(Session(self.group), "it", type_)

    def burst(
        self, op: int, *commands: tuple[list[Any], bytes], who: Session | None = None,
        primitive: PrimitiveId | None = None, type_: int | None = None, **rest: Any,
    ) -> list[Answer]:  # fmt: skip
        return (who or self.session).send_burst(
            self.slot, primitive or self.id, 0, self.type if type_ is None else type_, op, commands, **rest
        )

    def add(self, *numbers: int, **rest: Any) -> list[Answer]:
        return self.burst(ADD, *(([number], b"") for number in numbers), **rest)

    def alone(self, op: int, args: list[Any], body: bytes = b"") -> Answer | None:
        at = self.session.send(self.slot, self.id, 0, self.type, op, args, body)
        return self.session.answers.get((self.slot, at))

    def ask(self, op: int, *args: Any) -> Answer:
        return self.group.query(self.slot, self.id, 0, self.type, op, list(args))

    @property
    def counted(self) -> int:
        return int.from_bytes(self.ask(COUNTED).result, "big", signed=True)


def codes(answers: list[Answer]) -> list[int]:
    return [answer.code for answer in answers]


def numbers(answers: list[Answer]) -> list[int]:
    return [int.from_bytes(answer.result, "big", signed=True) for answer in answers]


def unchanged(stage: Stage, before: dict[bytes, bytes]) -> None:
    """Nothing but the group's revision differs."""
    after = stage.group.state()
    assert before.pop(META) != after.pop(META)
    assert after == before


def test_each_command_of_a_burst_has_its_own_answer_and_revision() -> None:
    stage = Stage(CounterMachine.TYPE)
    revision = stage.group.applier.revision
    answers = stage.add(*range(1, BURST_COMMANDS_MAX + 1))
    assert codes(answers) == [Code.OK] * BURST_COMMANDS_MAX
    assert [answer.revision - revision for answer in answers] == list(range(1, BURST_COMMANDS_MAX + 1))
    assert stage.group.applier.revision == revision + BURST_COMMANDS_MAX
    assert numbers(answers)[:4] == [1, 3, 6, 10]
    assert stage.add(1)[0].revision == revision + BURST_COMMANDS_MAX + 1


def test_commands_that_are_all_ok_and_no_more_are_answered_as_a_run_and_else_one_by_one() -> None:
    stage = Stage(MapMachine.TYPE)
    revision = stage.group.applier.revision

    def put(at: int, *values: bytes) -> bytes:
        commands = [([encode_key(f"k{at + each}")], value) for each, value in enumerate(values)]
        record = stage.session.burst(stage.slot, stage.id, 0, stage.type, MapOp.PUT, commands, at, 0)
        [answer] = stage.group.apply(record)
        assert answer is not None
        return answer

    value = encode_value("x")
    ok = [encode_answer(Code.OK, revision + at) for at in range(1, 15)]
    assert put(1, value, value, value) == encode_run_answer(3, revision + 1)
    again = put(2, value, value, value)
    assert again[0] == Code.BURST
    assert answers_of(again) == [ok[1], ok[2], ok[5]]
    mixed = put(5, value, b"", value)
    assert (mixed[0], codes([decode_answer(each) for each in answers_of(mixed)])) == (
        Code.BURST, [Code.OK, Code.BAD_REQUEST, Code.OK]
    )  # fmt: skip
    whole = put(1, *[value] * 7)
    assert answers_of(whole) == [*ok[:3], ok[5], *answers_of(mixed)]
    stage.group.reload()
    assert put(1, *[value] * 7) == whole
    assert put(8, value) == encode_run_answer(1, stage.group.applier.revision)


def test_what_is_left_of_a_run_that_was_acknowledged_in_part_is_told_again_as_it_was() -> None:
    stage = Stage(MapMachine.TYPE)

    def put(*numbers: int, acknowledged: int = 0) -> list[Answer]:
        commands = [([encode_key(f"k{number}")], encode_value(number)) for number in numbers]
        return stage.burst(MapOp.PUT, *commands, sequence=numbers[0], acknowledged=acknowledged)

    first = put(1, 2, 3, 4)
    put(5, acknowledged=2)
    assert put(3, 4) == first[2:]
    assert codes(put(1, 2, 3)) == [Code.FORGOTTEN, Code.FORGOTTEN, Code.OK]
    put(6, acknowledged=3)
    assert put(4) == first[3:]


def test_a_command_that_is_refused_for_what_it_asks_leaves_its_neighbours_alone() -> None:
    stage = Stage(CounterMachine.TYPE)
    answers = stage.burst(ADD, ([1], b""), (["one"], b""), ([(1 << 63) - 1], b""), ([2], b""))
    assert codes(answers) == [Code.OK, Code.BAD_REQUEST, Code.OVERFLOW, Code.OK]
    assert stage.counted == 3
    assert stage.add(1)[0].code == Code.OK  # The refused ones took their numbers.


@pytest.mark.parametrize("reload", [False, True])
def test_a_burst_that_comes_again_gets_the_stored_answers_and_takes_no_effect(reload: bool) -> None:
    stage = Stage(CounterMachine.TYPE)
    first = stage.add(1, 2, 3)
    if reload:
        stage.group.reload()
    assert stage.add(1, 2, 3, sequence=1) == first
    assert stage.add(2, 3, 4, 5, sequence=2)[:2] == first[1:]
    assert stage.counted == 15
    assert stage.add(3, sequence=3, acknowledged=0) == first[2:]
    assert stage.counted == 15


def test_copies_of_a_burst_in_one_entry_take_effect_once() -> None:
    stage = Stage(CounterMachine.TYPE)
    records = [
        stage.session.burst(stage.slot, stage.id, 0, stage.type, ADD, [([1], b"")] * count, at, 0)
        for at, count in ((1, 3), (1, 3), (2, 5), (1, 6), (4, 1))
    ]
    answers = [answers_of(answer) for answer in stage.group.apply(*records) if answer is not None]
    assert answers[1] == answers[0]
    assert answers[2][:2] == answers[0][1:]
    assert answers[3] == [answers[0][0], *answers[2]]
    assert answers[4] == [answers[3][3]]
    assert stage.counted == 6


@pytest.mark.parametrize("count", [1, 2, BURST_COMMANDS_MAX])
def test_a_burst_of_any_size_may_be_sent_again_as_single_commands(count: int) -> None:
    stage = Stage(CounterMachine.TYPE)
    answers = stage.add(*[1] * count)
    for at in range(count):
        assert stage.add(1, sequence=1 + at, acknowledged=0) == [answers[at]]
    assert stage.counted == count


# --- Refused as a whole -----------------------------------------------------------------------------------


def test_a_burst_that_comes_too_early_changes_nothing_and_is_answered_once() -> None:
    stage = Stage(CounterMachine.TYPE)
    stage.add(1, 1)
    before, revision = stage.group.state(), stage.group.applier.revision
    assert stage.add(1, 1, sequence=4) == [Answer(Code.OUT_OF_ORDER, Revision(revision + 1), b"")]
    assert stage.group.applier.revision == revision + 1
    unchanged(stage, before)
    assert codes(stage.add(1, 1)) == [Code.OK, Code.OK]


@pytest.mark.parametrize("sequence", [0, 2, 1 << 63])
def test_a_first_burst_of_another_number_than_one_leaves_no_row(sequence: int) -> None:
    stage = Stage(CounterMachine.TYPE)
    before = stage.group.state()
    assert codes(stage.add(1, 1, sequence=sequence, acknowledged=0)) == [Code.OUT_OF_ORDER]
    unchanged(stage, before)


def test_a_burst_of_no_known_session_is_refused_and_changes_nothing() -> None:
    stage = Stage(CounterMachine.TYPE)
    stage.add(1)
    stranger = Session(stage.group)
    stranger.number += 1
    ended = Session(stage.group)
    ended.expire()
    before = stage.group.state()
    for who in (stranger, ended):
        assert codes(stage.add(1, 1, who=who)) == [Code.SESSION_LOST]
    unchanged(stage, before)


def test_a_burst_of_another_epoch_is_refused_and_changes_nothing() -> None:
    stage = Stage(CounterMachine.TYPE)
    stage.add(1)
    before = stage.group.state()
    for epoch in (EPOCH - 1, EPOCH + 1):
        assert codes(stage.add(1, 1, sequence=2, epoch=epoch)) == [Code.WRONG_SLOT]
    unchanged(stage, before)


def test_commands_of_a_burst_for_what_is_not_there_take_their_numbers() -> None:
    stage = Stage(CounterMachine.TYPE)
    nothing = PrimitiveId(SlotId(stage.slot), Revision(1))
    assert codes(stage.add(1, 1, primitive=nothing)) == [Code.UNKNOWN_PRIMITIVE] * 2
    assert codes(stage.add(1, 1, type_=MapMachine.TYPE)) == [Code.TYPE_MISMATCH] * 2
    assert codes(stage.add(1, 1)) == [Code.OK] * 2
    assert stage.counted == 2


# --- Late commands ----------------------------------------------------------------------------------------


def test_a_command_of_a_burst_that_would_wait_fails_takes_its_number_and_leaves_nothing() -> None:
    stage = Stage(LockMachine.TYPE)
    answers = stage.burst(ACQUIRE, *[([], b"")] * 3)
    assert codes(answers) == [Code.OK, Code.MACHINE_FAILED, Code.MACHINE_FAILED]
    other = Session(stage.group)
    assert codes(stage.burst(ACQUIRE, *[([], b"")] * 2, who=other)) == [Code.MACHINE_FAILED] * 2
    stage.session.expire()
    stage.group.settle()
    assert stage.ask(HOLDER).code == Code.CONDITION  # Nobody waited.
    assert other.answers == {}
    assert stage.burst(ACQUIRE, ([], b""), who=other)[0].code == Code.OK  # Its third number.


def test_elements_go_to_nobody_who_took_in_a_burst() -> None:
    stage = Stage(QueueMachine.TYPE)
    stage.alone(QueueOp.OFFER, [], encode_value(1))
    assert codes(stage.burst(QueueOp.TAKE, *[([], b"")] * 3)) == [Code.OK, *[Code.MACHINE_FAILED] * 2]
    before = stage.group.state()
    stage.burst(QueueOp.OFFER, *[([], encode_value(at)) for at in range(5)])
    assert int.from_bytes(stage.ask(QueueAsk.SIZE).result, "big") == 5
    assert before != stage.group.state()


def test_after_a_burst_a_late_command_waits_as_ever() -> None:
    stage = Stage(QueueMachine.TYPE)
    stage.burst(QueueOp.TAKE, *[([], b"")] * 2)
    assert stage.alone(QueueOp.TAKE, []) is None
    stage.burst(QueueOp.POLL, *[([], b"")] * 2)
    assert stage.alone(QueueOp.TAKE, []) is None
    other = Session(stage.group)
    stage.burst(QueueOp.OFFER, *[([], encode_value(at)) for at in range(3)], who=other)
    taken = [stage.session.answers[stage.slot, at].result[8:] for at in (3, 6)]
    assert taken == [encode_value(0), encode_value(1)]
    assert int.from_bytes(stage.ask(QueueAsk.SIZE).result, "big") == 1


def test_a_waiting_command_whose_number_comes_again_in_a_burst_goes_on_waiting() -> None:
    stage = Stage(QueueMachine.TYPE)
    assert stage.alone(QueueOp.TAKE, []) is None
    answers = stage.burst(QueueOp.POLL, *[([], b"")] * 2, sequence=1, acknowledged=0)
    assert codes(answers) == [Code.FORGOTTEN, Code.CONDITION]
    stage.burst(QueueOp.OFFER, ([], encode_value(7)), who=Session(stage.group))
    assert stage.session.answers[stage.slot, 1].result[8:] == encode_value(7)


# --- Answers that are too many, or too large --------------------------------------------------------------


def test_at_the_cap_the_rest_of_a_burst_is_refused_without_taking_numbers() -> None:
    stage = Stage(CounterMachine.TYPE)
    left = 24
    full, rest = divmod(ANSWERS_STORED_MAX - left, 60)
    for size in (*[60] * full, rest):
        assert set(codes(stage.add(*[1] * size, acknowledged=0))) == {Code.OK}
    answers = stage.add(*[1] * BURST_COMMANDS_MAX, acknowledged=0)
    behind = BURST_COMMANDS_MAX - left - 1
    assert codes(answers) == [Code.OK] * left + [Code.ANSWERS_FULL] + [Code.OUT_OF_ORDER] * behind
    assert stage.counted == ANSWERS_STORED_MAX
    again = stage.add(*[1] * 3, sequence=ANSWERS_STORED_MAX + 1, acknowledged=0)
    assert codes(again) == [Code.ANSWERS_FULL, Code.OUT_OF_ORDER, Code.OUT_OF_ORDER]
    again = stage.add(*[1] * 3, sequence=ANSWERS_STORED_MAX + 1, acknowledged=2)
    assert codes(again) == [Code.OK, Code.OK, Code.ANSWERS_FULL]
    assert stage.counted == ANSWERS_STORED_MAX + 2


def large(at: int) -> bytes:
    return encode_value(bytes((at,)) * 10_000)


def puts(*values: int) -> list[tuple[list[Any], bytes]]:
    return [([KEY, 0, PREVIOUS, 0], large(value)) for value in values]


@pytest.mark.parametrize("reload", [False, True])
def test_what_makes_a_burst_s_answers_too_large_is_the_last_to_be_applied(reload: bool) -> None:
    stage = Stage(MapMachine.TYPE)
    stage.alone(MapOp.PUT, [KEY], large(0))
    answers = stage.burst(MapOp.PUT, *puts(*range(1, 9)))
    assert codes(answers) == [Code.OK] * 4 + [Code.ANSWERS_FULL] * 4
    assert [answer.result[-10_000:] for answer in answers[:4]] == [bytes((at,)) * 10_000 for at in range(4)]
    assert sum(len(answer.result) for answer in answers) < BURST_ANSWER_BYTES_MAX + 11_000
    assert stage.ask(MapAsk.GET, KEY).result.endswith(large(4))
    if reload:
        stage.group.reload()
    # All of it again, then what is left, as a client does that lost the answer.
    assert stage.burst(MapOp.PUT, *puts(*range(1, 9)), sequence=2, acknowledged=1)[:4] == answers[:4]
    assert stage.ask(MapAsk.GET, KEY).result.endswith(large(4))
    rest = stage.burst(MapOp.PUT, *puts(*range(5, 9)), sequence=6, acknowledged=5)
    assert codes(rest) == [Code.OK] * 4
    assert [answer.result[-10_000:] for answer in rest] == [bytes((at,)) * 10_000 for at in range(4, 8)]
    assert stage.ask(MapAsk.GET, KEY).result.endswith(large(8))


def test_one_command_of_a_burst_is_applied_however_large_its_answer_is() -> None:
    stage = Stage(MapMachine.TYPE)
    stage.alone(MapOp.PUT, [KEY], encode_value(b"x" * 1_000_000))
    answers = stage.burst(MapOp.PUT, *puts(1, 2))
    assert codes(answers) == [Code.OK, Code.ANSWERS_FULL]
    assert len(answers[0].result) > 1_000_000
    assert codes(stage.burst(MapOp.PUT, *puts(2), sequence=3, acknowledged=2)) == [Code.OK]


def test_the_largest_answer_of_a_burst_fits_into_a_frame() -> None:
    stage = Stage(MapMachine.TYPE)
    largest = encode_value(b"x" * (VALUE_BYTES_MAX - 5))
    assert len(largest) == VALUE_BYTES_MAX
    other = encode_key("other")
    stage.alone(MapOp.PUT, [KEY], encode_value(b"x" * (BURST_ANSWER_BYTES_MAX // 2 - 60)))
    stage.alone(MapOp.PUT, [other], largest)
    small = ([KEY, 0, PREVIOUS, 0], encode_value(b"x" * (BURST_ANSWER_BYTES_MAX // 2 - 60)))
    commands = [small, small, ([other, 0, PREVIOUS, 0], encode_value(1)), *[small] * 61]
    record = stage.session.burst(stage.slot, stage.id, 0, stage.type, MapOp.PUT, commands, 3, 2)
    (answer,) = stage.group.apply(record)
    assert answer is not None
    found = codes([decode_answer(part) for part in answers_of(answer)])
    assert found == [Code.OK] * 3 + [Code.ANSWERS_FULL] * 61
    assert len(answer) > VALUE_BYTES_MAX + BURST_ANSWER_BYTES_MAX
    assert len(encode_answers([(1, answer)])) <= CLIENT_FRAME_BYTES_MAX


# --- Acknowledgements -------------------------------------------------------------------------------------


def test_a_burst_acknowledges_up_to_its_floor_but_for_its_exceptions() -> None:
    stage = Stage(CounterMachine.TYPE)
    first = stage.add(*range(1, 9), acknowledged=0)
    stage.add(1, acknowledged=6, exceptions=(2, 5))
    again = stage.add(*range(1, 9), sequence=1, acknowledged=0)
    forgotten = {1, 3, 4, 6}
    for at, (before, after) in enumerate(zip(first, again, strict=True), 1):
        assert after.code == (Code.FORGOTTEN if at in forgotten else Code.OK)
        assert after == before or at in forgotten
    assert stage.counted == sum(range(1, 9)) + 1
    stage.group.reload()
    assert codes(stage.add(*range(1, 9), sequence=1, acknowledged=0)) == codes(again)


def test_a_burst_that_only_comes_again_acknowledges_nothing() -> None:
    stage = Stage(CounterMachine.TYPE)
    first = stage.add(1, 2, 3, acknowledged=0)
    stage.add(3, sequence=3, acknowledged=2)
    assert stage.add(1, 2, 3, sequence=1, acknowledged=0) == first
    stage.add(3, 4, sequence=3, acknowledged=2)
    stage.session.last[stage.slot] = 4
    assert codes(stage.add(1, 2, 3, sequence=1, acknowledged=0)) == [Code.FORGOTTEN, Code.FORGOTTEN, Code.OK]
    assert stage.counted == 10


def test_a_burst_s_record_is_answered_in_its_place_among_others_of_its_entry() -> None:
    stage = Stage(CounterMachine.TYPE)
    others = [Session(stage.group) for _ in range(3)]
    revision = stage.group.applier.revision
    records = [
        other.burst(stage.slot, stage.id, 0, stage.type, ADD, [([1], b"")] * count, 1, 0)
        for other, count in zip(others, (2, 1, 3), strict=True)
    ]
    answers = stage.group.apply(*records)
    found = [[decode_answer(part) for part in answers_of(answer)] for answer in answers if answer is not None]
    assert [numbers(part) for part in found] == [[1, 2], [3], [4, 5, 6]]
    assert [answer.revision - revision for part in found for answer in part] == [1, 2, 3, 4, 5, 6]
