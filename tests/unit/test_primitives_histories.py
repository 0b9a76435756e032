"""Random histories: neither flushes nor restarts nor retries show in answers, rows and effects."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from probe import Op, Probe
from support_machine import Drive, Who

from primitives.applier import Applied, ApplierLimits
from primitives.counter import ADD, GET, CounterMachine
from primitives.errors import Code
from primitives.history import HistoryLimits
from primitives.ids import CATALOG_ID, PrimitiveId
from primitives.records import (
    Answer,
    EndSession,
    Expire,
    Fire,
    Register,
    SessionOp,
    Type,
    decode_answer,
    encode_end_session,
    encode_entry,
    encode_expire,
    encode_fire,
    encode_register,
)
from primitives.registry import machines

pytestmark = pytest.mark.usefixtures("short_ranges")

PROBE = Probe.TYPE
NOT_TAKEN = (Code.SESSION_LOST, Code.OUT_OF_ORDER, Code.ANSWERS_FULL)
LIMITS = ApplierLimits(
    answers_stored_max=6, sessions_max=5, rows_a_command_max=20, cache_bytes_max=2000,
    history=HistoryLimits(events_max=6, bytes_max=700, age_ms=600_000),
)  # fmt: skip
SLOTS = (1, 2)
CLIENTS = 3
KEPT = 5

KEYS = st.integers(0, 3).map(lambda at: b"k%d" % at)
OPS = st.one_of(
    st.tuples(st.just(Op.PUT), st.tuples(KEYS, st.binary(max_size=2)).map(list)),
    st.tuples(st.just(Op.WAIT), st.just([])),
    st.tuples(st.just(Op.WAKE), st.integers(1, 3).map(lambda count: [count])),
    st.tuples(st.just(Op.ARM), st.tuples(st.integers(0, 3000),
              st.sampled_from([b"x", b"again", b"raise", b"wake"])).map(list)),
    st.tuples(st.just(Op.HOLD), st.integers(1, 2).map(lambda count: [count])),
    st.tuples(st.just(Op.EMIT), st.tuples(KEYS, st.booleans()).map(list)),
    st.tuples(st.just(Op.EMIT), st.tuples(KEYS, st.just(True)).map(list)),
    st.tuples(st.just(Op.RELEASE), KEYS.map(lambda key: [key])),
    st.tuples(st.just(Op.WRITE), st.integers(15, 25).map(lambda rows: [rows])),
    st.tuples(st.just(Op.RAISE), st.integers(0, 4).map(lambda writes: [writes, "value"])),
    st.tuples(st.just(Op.RESULT), st.sampled_from(["refused", "condition", "none"]).map(lambda name: [name])),
)  # fmt: skip
CLIENT = st.integers(0, CLIENTS - 1)
STEPS = st.one_of(
    st.tuples(st.just("command"), CLIENT, st.sampled_from(SLOTS), OPS, st.integers(0, 3)),
    st.tuples(st.just("command"), CLIENT, st.sampled_from(SLOTS), OPS, st.integers(0, 3)),
    st.tuples(st.just("withdraw"), CLIENT, st.sampled_from(SLOTS), st.integers(0, 5)),
    st.tuples(st.just("again"), st.integers(0, 30)),
    st.tuples(st.just("register"), CLIENT, st.integers(0, 1)),
    st.tuples(st.just("end"), CLIENT, st.booleans()),
    st.tuples(st.just("fire"), st.integers(1, 3)),
    st.tuples(st.just("wait"), st.sampled_from([1, 500, 700_000])),
    st.tuples(st.just("flush")),
    st.tuples(st.just("reload")),
)


class Script:
    """Turns drawn steps into entries, the same ones whatever the group does with them."""

    def __init__(self) -> None:
        self.time_ms = 1000
        self.counts = [0] * CLIENTS
        self.whos: list[Who] = []
        self.sent: list[bytes] = []

    def records(self, drive: Drive, probes: dict[int, PrimitiveId], step: Any) -> list[bytes]:
        """The records of a step."""
        kind, *args = step
        if kind == "again":
            return self.sent[-1 - args[0] : len(self.sent) - args[0]]
        if kind == "fire":
            return [encode_fire(Fire(args[0]))]
        if kind == "wait":
            self.time_ms += args[0]
            return []
        if kind == "register":
            who = self.whos[args[0]]
            self.counts[args[0]] += args[1]
            record = encode_register(Register(who.session_id, self.counts[args[0]], 1000))
        elif kind == "end":
            who = self.whos[args[0]]
            end = (who.session_id, who.number)
            record = encode_end_session(EndSession(*end)) if args[1] else encode_expire(Expire(*end))
        elif kind == "command":
            client, slot, (op, arguments), behind = args
            who = self.whos[client]
            floor = max(who.sequences.get(slot, 0) - behind, 0)
            exceptions = (floor,) if behind == 2 and floor else ()
            record = drive.record(
                who, probes[slot], op, arguments, type=PROBE, slot=slot, acknowledged=floor,
                exceptions=exceptions,
            )  # fmt: skip
        else:
            client, slot, behind = args
            who = self.whos[client]
            number = max(who.sequences.get(slot, 0) - behind, 0)
            record = drive.record(
                who, CATALOG_ID, SessionOp.WITHDRAW, [number], type=Type.SESSION, slot=slot,
                acknowledged=max(number - 1, 0),
            )  # fmt: skip
        self.sent.append(record)
        return [record]


def _start() -> tuple[Drive, Script, dict[int, PrimitiveId]]:
    drive = Drive({PROBE: Probe()}, slots=SLOTS, limits=LIMITS)
    maker = drive.session("maker")
    probes = {slot: drive.create(maker, "probe", PROBE, slot=slot) for slot in SLOTS}
    script = Script()
    script.whos = [drive.session(f"client{at}", count=0) for at in range(CLIENTS)]
    return drive, script, probes


def _settle_numbers(script: Script, drive: Drive, step: Any, answers: list[Answer | None]) -> None:
    """A client that registered anew counts from one again; one that was refused sends its number again."""
    if step[0] == "register" and answers[0] is not None and answers[0].code == Code.OK:
        who = script.whos[step[1]]
        if answers[0].revision != who.number:
            script.whos[step[1]] = Who(who.session_id, answers[0].revision)
    if step[0] in ("command", "withdraw") and answers[0] is not None and answers[0].code in NOT_TAKEN:
        script.whos[step[1]].sequences[step[2]] -= 1


def _run(steps: list[Any], *, disturbed: bool) -> tuple[list[Applied], dict[bytes, bytes]]:
    drive, script, probes = _start()
    history: list[Applied] = []
    for step in steps:
        if step[0] in ("flush", "reload"):
            if disturbed and step[0] == "flush":
                drive.flush()
            elif disturbed:
                drive.reload()
            continue
        records = script.records(drive, probes, step)
        applied = drive.applier.apply(encode_entry(script.time_ms, records))
        history.append(applied)
        answers = [None if answer is None else decode_answer(answer) for answer in applied.answers]
        _settle_numbers(script, drive, step, answers)
        if disturbed:
            assert drive.applier.next_deadline_ms != -1  # asking must not show either
    return history, drive.state()


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_flushes_and_restarts_show_neither_in_answers_nor_in_rows(steps: list[Any]) -> None:
    plain, rows = _run(steps, disturbed=False)
    disturbed, other_rows = _run(steps, disturbed=True)
    assert disturbed == plain
    assert other_rows == rows


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(SLOTS), st.integers(0, 8), st.booleans()), max_size=60))
def test_a_command_repeated_anywhere_takes_effect_once(steps: list[Any]) -> None:
    drive = Drive(machines(), slots=SLOTS, limits=ApplierLimits(answers_stored_max=8))
    maker, who = drive.session("maker"), drive.session()
    counters = {slot: drive.create(maker, "n", CounterMachine.TYPE, slot=slot) for slot in SLOTS}
    sent: dict[int, list[tuple[bytes, Answer | None]]] = {slot: [] for slot in SLOTS}
    for slot, repeats, reload in steps:
        floor = max(len(sent[slot]) - KEPT + 1, 0)
        record = drive.record(
            who, counters[slot], ADD, [1], type=CounterMachine.TYPE, slot=slot, acknowledged=floor
        )
        sent[slot].append((record, drive.one(record)))
        if reload:
            drive.reload()
        for sequence in range(max(len(sent[slot]) - repeats, 0) + 1, len(sent[slot]) + 1):
            record, answer = sent[slot][sequence - 1]
            repeated = drive.one(record)
            assert repeated is not None
            assert repeated == answer if sequence > floor else repeated.code == Code.FORGOTTEN
    for slot, all_sent in sent.items():
        value = drive.query(counters[slot], GET, type=CounterMachine.TYPE, slot=slot)
        assert int.from_bytes(value.result, "big") == len(all_sent)
