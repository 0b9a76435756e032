"""Bursts by a client's core against a model cluster: whatever is said of one, each of its calls takes effect
once, in order, and is told what became of itself."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from router_driver import Driver, counter, home, number, spread_map
from router_model import ModelCluster, ModelConnection, RandomFaults
from test_router_watches import connected, events, keys, pinned_map, put, watch

from primitives.codec import encode_key, encode_value
from primitives.counter import ADD
from primitives.errors import Code, ProtocolError, SessionLost
from primitives.handle import Reference
from primitives.ids import GroupId
from primitives.limits import ANSWERS_STORED_MAX
from primitives.mapops import Op
from primitives.queue import Op as QueueOp
from primitives.records import COMMAND_HEADER, U32, Expire, Kind, encode_answer, encode_expire
from router.session_calls import Call
from router.session_settings import SessionSettings

_NUMBER = struct.Struct(">q")
KEY = encode_key("k")
PREVIOUS = 8
LARGE = 10_000
_COUNT_AT = COMMAND_HEADER.size - 2
"""Where a burst says how many commands it has."""


class Records:
    """What reaches the cluster: how many commands each record has. ``refuse`` is asked for each burst what it
    is answered instead of being applied."""

    def __init__(self, cluster: ModelCluster) -> None:
        self.sizes: list[int] = []
        self.refuse: Callable[[bytes], bytes | None] = lambda record: None
        self.refused = 0
        self._operation = cluster.operation
        cluster.operation = self._arrive  # type: ignore[method-assign]  # stands before it

    def _arrive(self, connection: ModelConnection, request: int, group: GroupId, record: bytes) -> None:
        if record[0] == Kind.BURST:
            self.sizes.append(int.from_bytes(record[_COUNT_AT : _COUNT_AT + 2], "big"))
            answer = self.refuse(record)
            if answer is not None:
                self.refused += 1
                connection.answer(request, answer)
                return
        elif record[0] == Kind.COMMAND:
            self.sizes.append(1)
        self._operation(connection, request, group, record)

    def once(self, answer: bytes) -> None:
        """Refuses the next burst."""
        self.refuse = lambda record: answer if not self.refused else None


def staged(cluster: ModelCluster | None = None, **options: Any) -> tuple[Driver, Reference, Records]:
    """A driver whose counter exists and whose session is registered, and what arrives from then on."""
    driver = Driver(cluster or ModelCluster(), **options)
    ref = counter("c")
    driver.wait(driver.command(ref, ADD, [0]))
    return driver, ref, Records(driver.cluster)


def adds(driver: Driver, ref: Reference, *numbers: int) -> list[Call]:
    return [driver.command(ref, ADD, [number]) for number in numbers]


def sums(driver: Driver, calls: list[Call]) -> list[int]:
    """What the calls were answered."""
    answers = driver.wait(*calls)
    assert Counter(driver.outcomes)[calls[0]] == 1
    return [_NUMBER.unpack(answer.result)[0] for answer in answers if answer is not None]


def test_calls_made_at_once_share_a_record_and_each_is_told_its_own_answer() -> None:
    driver, ref, records = staged()
    calls = adds(driver, ref, *range(1, 21))
    assert sums(driver, calls) == [sum(range(at + 1)) for at in range(1, 21)]
    assert records.sizes == [20]


def test_answers_of_bursts_of_several_slots_and_of_other_calls_are_told_apart() -> None:
    driver, ref, records = staged(ModelCluster(nodes=1, groups=1))
    other, entries = counter("other"), spread_map("m")
    driver.wait(driver.command(other, ADD, [1000]), driver.command(entries, Op.PUT, [KEY], b"\x01", key=KEY))
    calls, others = adds(driver, ref, 1, 1, 1), adds(driver, other, 1, 1)
    single = driver.command(entries, Op.PUT, [KEY], b"\x01", key=KEY)
    query = driver.query(ref, 1, [])
    calls += adds(driver, ref, 1)
    assert sums(driver, calls) == [1, 2, 3, 4]
    assert sums(driver, others) == [1001, 1002]
    (answer, asked) = driver.wait(single, query)
    assert answer is not None and answer.code == Code.OK
    assert asked is not None and _NUMBER.unpack(asked.result)[0] in (0, 4)
    assert sorted(records.sizes[-3:]) == [1, 2, 4]


# --- Refused as a whole -----------------------------------------------------------------------------------

REFUSALS = {
    "LOST": encode_answer(Code.LOST, 0), "NOT_LEADER": encode_answer(Code.NOT_LEADER, 0),
    "NOT_LEADER but another": encode_answer(Code.NOT_LEADER, 0, U32.pack(2)),
    "WRONG_SLOT": encode_answer(Code.WRONG_SLOT, 0), "UNAVAILABLE": encode_answer(Code.UNAVAILABLE, 0),
    "OVERLOADED": encode_answer(Code.OVERLOADED, 0, b"too much"),
    "BAD_REQUEST": encode_answer(Code.BAD_REQUEST, 0, b"not a burst"),
    "WRONG_SLOT as logged": encode_answer(Code.WRONG_SLOT, 9),
    "OUT_OF_ORDER": encode_answer(Code.OUT_OF_ORDER, 9),
}  # fmt: skip


@pytest.mark.parametrize("answer", REFUSALS.values(), ids=list(REFUSALS))
@pytest.mark.parametrize("forwards", [False, True])
def test_a_burst_that_is_refused_as_a_whole_is_sent_again_and_takes_effect_once(
    answer: bytes, forwards: bool
) -> None:
    cluster = ModelCluster()
    cluster.forwards = forwards
    driver, ref, records = staged(cluster)
    records.once(answer)
    calls = adds(driver, ref, *range(1, 31))
    more: list[Call] = []
    driver.at(1, lambda: more.extend(adds(driver, ref, 100)))
    assert sums(driver, calls) == [sum(range(at + 1)) for at in range(1, 31)]
    assert sums(driver, more) == [565]
    assert records.refused == 1
    assert number(driver, ref) == 565


def test_a_call_that_cannot_be_read_fails_by_itself_and_not_for_its_neighbours() -> None:
    driver, ref, records = staged()
    deep = [[[[[[1]]]]]]
    calls = [driver.command(ref, ADD, args) for args in ([1], [2], deep, [4], deep, [8])]
    driver.run(lambda: all(call.done for call in calls))
    assert [type(call.error) for call in calls if call.error] == [ProtocolError, ProtocolError]
    assert calls[2].error is not None and calls[4].error is not None
    found = [_NUMBER.unpack(call.answer.result)[0] for call in calls if call.answer and not call.error]
    assert found == [1, 3, 7, 15]
    assert records.sizes[0] == 6
    assert sums(driver, adds(driver, ref, 16, 32)) == [31, 63]
    assert records.sizes[-1] == 2  # Calls to come share records as ever.


def test_a_node_that_reads_no_bursts_is_sent_one_command_after_the_other() -> None:
    driver, ref, records = staged()
    records.refuse = lambda record: encode_answer(Code.BAD_REQUEST, 0, b"not a record")
    calls = adds(driver, ref, *[1] * 100)
    assert sums(driver, calls) == list(range(1, 101))
    assert records.refused <= 4


def test_a_burst_that_met_the_end_of_its_session_goes_on_under_the_next_registration() -> None:
    driver, ref, records = staged()
    group = driver.cluster.groups[home(driver, ref)]
    (session,) = group.applier.sessions
    driver.cluster._apply(group, encode_expire(Expire(session.session_id, session.number)), None)
    calls = adds(driver, ref, *range(1, 11))
    assert sums(driver, calls) == [sum(range(at + 1)) for at in range(1, 11)]
    assert records.sizes == [10, 10]
    assert len(driver.lost) == 1
    (found,) = group.applier.sessions
    assert found.number != session.number


def test_a_burst_that_was_sent_twice_when_its_session_ended_is_ambiguous_for_each_call() -> None:
    driver, ref, records = staged()
    group = driver.cluster.groups[home(driver, ref)]
    (session,) = group.applier.sessions
    driver.cluster.fault = lambda: "lost_after" if records.sizes and records.sizes[-1] == 10 else None
    calls = adds(driver, ref, *[1] * 10)
    driver.run(lambda: len(records.sizes) == 1)
    driver.cluster.fault = lambda: None
    driver.cluster._apply(group, encode_expire(Expire(session.session_id, session.number)), None)
    driver.run(lambda: all(call.done for call in calls))
    assert all(isinstance(call.error, SessionLost) for call in calls)
    assert {Counter(driver.outcomes)[call] for call in calls} == {1}
    assert number(driver, ref) == 10  # They had taken effect.
    assert sums(driver, adds(driver, ref, 1, 1)) == [11, 12]


# --- Lost, and sent again ---------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["lost_before", "lost_after", "silent", "refused"])
def test_a_burst_that_is_lost_takes_effect_once(fault: str) -> None:
    driver, ref, records = staged()
    driver.cluster.fault = lambda: fault if len(records.sizes) == 1 else None
    assert sums(driver, adds(driver, ref, *[1] * 40)) == list(range(1, 41))
    assert records.sizes[0] == 40 and len(records.sizes) > 1
    assert number(driver, ref) == 40


def test_what_is_sent_again_is_cut_otherwise_and_takes_effect_once() -> None:
    driver, ref, records = staged()
    driver.cluster.fault = lambda: "lost_after" if records.sizes and len(records.sizes) <= 3 else None
    calls = []
    for count in (1, 3, 5):
        calls += adds(driver, ref, *[1] * count)
        driver.poll()
    assert sums(driver, calls) == list(range(1, 10))
    assert records.sizes[:3] == [1, 3, 5]
    assert 9 in records.sizes
    assert number(driver, ref) == 9


@pytest.mark.parametrize("seed", range(8))
def test_previous_values_form_one_chain_whatever_is_lost_and_however_large_they_are(seed: int) -> None:
    """Most bursts are answered in part, for what they are answered is too large."""
    cluster = ModelCluster(nodes=3, groups=1)
    faults = cluster.fault = RandomFaults(seed, 0.15, ("refused", "lost_before", "lost_after", "silent"))
    driver = Driver(cluster, seed=seed, addresses=("node1:1", "node2:1"), delay_ms=(1, 10))
    records = Records(cluster)
    ref = pinned_map("m")
    values = [encode_value(struct.pack(">I", at) * (LARGE // 4)) for at in range(120)]
    calls: list[Call] = []

    def more() -> None:
        for value in values[len(calls) : len(calls) + 30]:
            calls.append(driver.command(ref, Op.PUT, [KEY, 0, PREVIOUS, 0], value, key=KEY))
        if len(calls) < len(values):
            driver.at(driver.random.randrange(1, 60), more)

    more()
    driver.at(100, lambda: driver.cut(driver.random.randrange(1, 4)))
    driver.at(200, lambda: cluster.lead(1, 1 + seed % 3))
    driver.at(1500, lambda: setattr(faults, "on", False))
    driver.run(lambda: len(calls) == len(values) and all(call.done for call in calls), 120_000)
    answers = [call.answer.result for call in calls if call.answer is not None and call.error is None]
    assert len(answers) == len(values)
    assert [answer[24:] for answer in answers[1:]] == values[:-1]
    assert max(records.sizes) > 4
    assert {Counter(driver.outcomes)[call] for call in calls} == {1}


def test_answers_that_are_too_large_together_come_in_turns_without_a_pause() -> None:
    driver = Driver(ModelCluster(nodes=1, groups=1))
    ref = pinned_map("m")
    driver.wait(driver.command(ref, Op.PUT, [KEY], encode_value(b"x" * LARGE), key=KEY))
    records = Records(driver.cluster)
    begun_ms = driver.now_ms
    calls = [
        driver.command(ref, Op.PUT, [KEY, 0, PREVIOUS, 0], encode_value(bytes((at,)) * 200), key=KEY)
        for at in range(64)
    ]
    driver.wait(*calls)
    assert records.sizes == [64]
    large = [
        driver.command(ref, Op.PUT, [KEY, 0, PREVIOUS, 0], encode_value(bytes((at,)) * LARGE), key=KEY)
        for at in range(12)
    ]
    driver.wait(*large)
    assert len(records.sizes) > 2
    assert driver.now_ms - begun_ms < 60
    assert driver.core.groups[GroupId(1)].backoff.tries == 0


def test_calls_beyond_the_answers_that_a_group_keeps_are_answered_once_the_others_are_acknowledged() -> None:
    driver, ref, records = staged(settings=SessionSettings(window=4000))
    count = ANSWERS_STORED_MAX + 500
    calls = adds(driver, ref, *[1] * count)
    begun_ms = driver.now_ms
    assert sums(driver, calls) == list(range(1, count + 1))
    assert {Counter(driver.outcomes)[call] for call in calls[::100]} == {1}
    assert sum(records.sizes) > count  # Some were refused, and sent again.
    assert driver.now_ms - begun_ms < 100
    assert number(driver, ref) == count


def test_what_is_too_large_to_be_answered_together_takes_no_more_than_two_turns() -> None:
    driver = Driver(ModelCluster(nodes=1, groups=1), delay_ms=(10, 10))
    ref = Reference("", "q", 21, 0, None)
    values = [encode_value(bytes((at,)) * 50_000) for at in range(64)]
    driver.wait(*(driver.command(ref, QueueOp.OFFER, [], value) for value in values))
    records = Records(driver.cluster)
    begun_ms = driver.now_ms
    polls = [driver.command(ref, QueueOp.POLL, []) for _ in range(64)]
    answers = driver.wait(*polls)
    assert [answer.result[8:] for answer in answers if answer is not None] == values
    assert driver.now_ms - begun_ms <= 2 * 20
    assert records.sizes == [64, *[1] * 63]


@pytest.mark.parametrize("seed", range(6))
def test_each_call_counts_once_though_bursts_are_refused_in_every_way(seed: int) -> None:
    cluster = ModelCluster(nodes=3, groups=2)
    cluster.fault = faults = RandomFaults(seed, 0.1, ("refused", "lost_before", "lost_after", "silent"))
    cluster.forwards = seed % 2 == 0
    driver = Driver(cluster, seed=seed, delay_ms=(1, 20), settings=SessionSettings(window=40))
    records = Records(cluster)
    answers = list(REFUSALS.values())
    records.refuse = lambda record: (
        driver.random.choice(answers) if faults.on and driver.random.random() < 0.15 else None
    )
    refs = [counter(f"c{at}") for at in range(3)]
    sums_: dict[Reference, list[int]] = {ref: [] for ref in refs}
    left = dict.fromkeys(refs, 150)

    def told(ref: Reference, done: Call) -> None:
        assert done.answer is not None and done.error is None
        sums_[ref].append(_NUMBER.unpack(done.answer.result)[0])
        again(ref)

    def again(ref: Reference) -> None:
        if left[ref]:
            left[ref] -= 1
            driver.waiters[driver.command(ref, ADD, [1])] = lambda done: told(ref, done)

    def heal() -> None:
        faults.on = False
        for group in cluster.groups:
            cluster.lead(group, 1 + (group + seed) % 3)

    for ref in refs:
        for _ in range(25):
            again(ref)
    driver.at(50, driver.cut)
    driver.at(200, lambda: cluster.lead(1, 0))
    driver.at(400, lambda: cluster.lead(1, 2))
    driver.at(3000, heal)
    driver.run(lambda: all(len(found) == 150 for found in sums_.values()), 120_000)
    for ref in refs:
        assert sums_[ref] == list(range(1, 151))
        assert number(driver, ref) == 150
    assert records.refused > 2 and max(records.sizes) > 8


# --- Callers that give up ---------------------------------------------------------------------------------


def test_callers_of_a_burst_under_way_that_give_up_take_nobody_along() -> None:
    driver, ref, records = staged()
    calls = adds(driver, ref, *(1 << at for at in range(10)))
    driver.poll()
    for at in (0, 3, 4, 9):
        driver.core.cancel(driver.now_ms, calls[at])
    kept = [call for at, call in enumerate(calls) if at not in (0, 3, 4, 9)]
    driver.wait(*kept)
    assert records.sizes == [10]
    assert number(driver, ref) == (1 << 10) - 1  # They had left already.
    assert Counter(driver.outcomes)[calls[0]] == 0
    assert sums(driver, adds(driver, ref, 1)) == [1 << 10]


@pytest.mark.parametrize("off", [(0,), (0, 3, 4, 9), (9,), tuple(range(10))])
def test_callers_of_a_burst_that_gave_up_before_it_arrived_take_no_effect(off: tuple[int, ...]) -> None:
    driver, ref, records = staged()
    driver.cluster.fault = lambda: "lost_before" if len(records.sizes) == 1 else None
    calls = adds(driver, ref, *(1 << at for at in range(10)))
    driver.poll()
    for at in off:
        driver.core.cancel(driver.now_ms, calls[at])
    driver.pass_ms(500)
    kept = [call for at, call in enumerate(calls) if at not in off]
    assert all(call.done and call.error is None for call in kept)
    assert number(driver, ref) == (1 << 10) - 1 - sum(1 << at for at in off)
    assert sums(driver, adds(driver, ref, 1 << 10, 1 << 11))[-1] == (1 << 12) - 1 - sum(1 << at for at in off)


@pytest.mark.parametrize("answer", [REFUSALS["BAD_REQUEST"], REFUSALS["OUT_OF_ORDER"], REFUSALS["LOST"]])
@pytest.mark.parametrize("off", [(0,), (0, 1), (2, 5)])
def test_a_refusal_of_a_burst_whose_callers_gave_up_in_part_goes_for_all(
    answer: bytes, off: tuple[int, ...]
) -> None:
    driver, ref, records = staged()
    records.once(answer)
    calls = adds(driver, ref, *(1 << at for at in range(6)))
    driver.poll()
    for at in off:
        driver.core.cancel(driver.now_ms, calls[at])
    driver.wait(*(call for at, call in enumerate(calls) if at not in off))
    assert number(driver, ref) == (1 << 6) - 1 - sum(1 << at for at in off)


# --- Watches ----------------------------------------------------------------------------------------------


def lagging(cluster: ModelCluster) -> tuple[Driver, Reference, Any]:
    """A watch of a map by a replica that lags from now on, while another leads."""
    driver = connected(cluster)
    ref = pinned_map("m")
    driver.wait(put(driver, ref, "a", b"x" * LARGE))
    made = watch(driver, ref)
    (stream,) = cluster.streams.streams
    cluster.lead(1, stream.connection.node % 3 + 1)
    cluster.lag(1, stream.connection.node)
    return driver, ref, made


def test_answers_of_a_burst_wait_for_the_events_that_it_led_to() -> None:
    cluster = ModelCluster(groups=1)
    driver, ref, made = lagging(cluster)
    records = Records(cluster)
    calls = [put(driver, ref, f"k{at}") for at in range(8)]
    told: list[str] = []

    def done() -> bool:
        told.extend(keys(events(driver, made)))
        finished = [at for at, call in enumerate(calls) if call.done]
        assert set(told) >= {f"k{at}" for at in finished}
        return len(finished) == len(calls)

    driver.run(done)
    assert told == [f"k{at}" for at in range(8)]
    assert 8 in records.sizes
    assert not any(call.error for call in calls)


def test_a_burst_that_is_answered_in_part_while_its_answers_wait_is_sent_again_at_once() -> None:
    cluster = ModelCluster(groups=1)
    driver, ref, made = lagging(cluster)
    records = Records(cluster)
    calls = [
        driver.command(ref, Op.PUT, [encode_key("a"), 0, PREVIOUS, 0], encode_value(bytes((at,)) * LARGE),
                       key=encode_key("a"))
        for at in range(40)
    ]  # fmt: skip
    begun_ms = driver.now_ms
    holding: list[int] = []

    def done() -> bool:
        events(driver, made)
        holding.append(driver.core.groups[GroupId(1)].backoff.tries)
        return all(call.done for call in calls)

    driver.run(done)
    previous = [call.answer.result[24:] for call in calls if call.answer is not None]
    assert previous == [encode_value(b"x" * LARGE), *(encode_value(bytes((at,)) * LARGE) for at in range(39))]
    assert max(records.sizes) > 4
    assert max(holding[1:]) <= 1
    assert driver.now_ms - begun_ms < 500


def test_who_is_told_that_his_burst_s_session_ended_has_the_events_until_then() -> None:
    """Sent twice, so that its outcome is unknown: nobody is told before the watch has what led to it."""
    cluster = ModelCluster(groups=1)
    driver, ref, made = lagging(cluster)
    records = Records(cluster)
    group = cluster.groups[GroupId(1)]
    (session,) = group.applier.sessions
    cluster.fault = lambda: "lost_after" if records.sizes and max(records.sizes) > 1 else None
    calls = [put(driver, ref, f"k{at}") for at in range(5)]
    driver.run(lambda: 5 in records.sizes)
    cluster.fault = lambda: None
    cluster._apply(group, encode_expire(Expire(session.session_id, session.number)), None)
    told: list[str] = []

    def done() -> bool:
        told.extend(keys(events(driver, made)))
        finished = [call for call in calls if call.done]
        assert not finished or told == [f"k{at}" for at in range(5)]
        return len(finished) == len(calls)

    driver.run(done)
    assert all(isinstance(call.error, SessionLost) for call in calls)


# --- Late commands ----------------------------------------------------------------------------------------


def test_late_calls_among_bursts_are_answered_when_their_time_comes() -> None:
    driver = Driver(ModelCluster(nodes=1, groups=1))
    ref = Reference("", "q", 21, 0, None)
    records = Records(driver.cluster)
    takes = [driver.command(ref, QueueOp.TAKE, [], late=True) for _ in range(3)]
    driver.pass_ms(50)
    polls = [driver.command(ref, QueueOp.POLL, []) for _ in range(4)]
    more = [driver.command(ref, QueueOp.TAKE, [], late=True) for _ in range(2)]
    driver.wait(*polls)
    offers = [driver.command(ref, QueueOp.OFFER, [], encode_value(at)) for at in range(7)]
    answers = driver.wait(*takes, *more, *offers)
    assert [answer.result[8:] for answer in answers[:5] if answer] == [encode_value(at) for at in range(5)]
    assert 4 in records.sizes and 7 in records.sizes
    taken = [driver.command(ref, QueueOp.POLL, []) for _ in range(3)]
    found = driver.wait(*taken)
    assert [answer.code for answer in found if answer] == [Code.OK, Code.OK, Code.CONDITION]


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("fault", ["lost_before", "lost_after", "silent"])
def test_what_goes_on_under_the_next_registration_is_sent_again_when_it_is_lost_there(
    count: int, fault: str
) -> None:
    driver, ref, records = staged()
    group = driver.cluster.groups[home(driver, ref)]
    (session,) = group.applier.sessions
    driver.cluster._apply(group, encode_expire(Expire(session.session_id, session.number)), None)
    driver.cluster.fault = lambda: fault if len(records.sizes) == 2 else None
    calls = adds(driver, ref, *[1] * count)
    assert sums(driver, calls) == list(range(1, count + 1))
    assert records.sizes == [count] * 3
    assert number(driver, ref) == count
