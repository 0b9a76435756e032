"""A history is what a list of all events would show behind its floor; no row outlives its use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from probe import MARKS, Op, Probe
from support_machine import SLOT, Drive

from primitives.applier import ApplierLimits
from primitives.errors import Code
from primitives.history import AGE_SLACK_MS, MARK, SLACK_PARTS, History, HistoryLimits, value_of
from primitives.ids import Revision
from primitives.layout import HostTable, host_prefix, table_prefix
from primitives.records import Marker, encode_marker

pytestmark = pytest.mark.usefixtures("short_ranges")

KEYS = st.integers(0, 3).map(lambda at: b"k%d" % at)
VALUES = st.integers(0, 40).map(lambda size: b"v" * size)
LIMITS = HistoryLimits(events_max=8, bytes_max=1200, age_ms=60_000)


@dataclass
class Told:
    """What the model knows of an event."""

    mark: bytes
    key: bytes
    value: bytes
    previous: bytes
    at_ms: int


class HistoryRules(RuleBasedStateMachine):
    """A probe that emits, beside a list of everything that it ever emitted."""

    @initialize(rows_max=st.sampled_from([5, 20, 1000]))
    def found(self, rows_max: int) -> None:
        limits = ApplierLimits(rows_a_command_max=rows_max, history=LIMITS, cache_bytes_max=3000)
        self.group = Drive({Probe.TYPE: Probe()}, limits=limits)
        self.who = self.group.session()
        self.probe = self.group.create(self.who, "probe", Probe.TYPE)
        self.events: list[Told] = []
        self.kept: dict[bytes, Told] = {}

    @property
    def history(self) -> History:
        history = self.group.applier.history(SLOT, self.probe, 0)
        assert history is not None
        return history

    def told(self, key: bytes, value: bytes, *, number: int = 0, kept: bool) -> None:
        before = self.kept.pop(key, None)
        mark = MARK.pack(self.group.applier.revision, number)
        event = Told(mark, key, value, b"" if before is None else before.mark, self.group.now_ms)
        self.events.append(event)
        if kept:
            self.kept[key] = event

    def record(self, op: int, args: list[Any], body: bytes = b"") -> bytes:
        return self.group.record(self.who, self.probe, op, args, body, type=Probe.TYPE)

    @rule(key=KEYS, value=VALUES, kept=st.booleans())
    def emit(self, key: bytes, value: bytes, kept: bool) -> None:
        answer = self.group.one(self.record(Op.EMIT, [key, kept], value))
        assert answer is not None
        assert answer.code == Code.OK
        self.told(key, value, kept=kept)

    @rule(key=KEYS, count=st.integers(1, 12))
    def emit_often(self, key: bytes, count: int) -> None:
        for _ in range(count):
            self.emit(key, b"often", True)

    @rule(kind=st.sampled_from(["value", "refused"]), settled=st.booleans())
    def fail(self, kind: str, settled: bool) -> None:
        """A command that fails leaves no event."""
        if kind == "value":
            self.group.one(self.record(Op.RAISE, [2, kind]))
        else:
            self.group.one(self.record(Op.RESULT, [kind]))
        if settled:
            self.group.query(self.probe, Op.EMIT, type=Probe.TYPE)

    @rule(key=KEYS)
    def release(self, key: bytes) -> None:
        self.group.one(self.record(Op.RELEASE, [key]))
        self.kept.pop(key, None)

    @rule(ms=st.sampled_from([1, 20_000, LIMITS.age_ms, 2 * LIMITS.age_ms]), settled=st.booleans())
    def wait(self, ms: int, settled: bool) -> None:
        self.group.now_ms += ms
        self.group.one(encode_marker(Marker(b"tick")))
        if settled:
            self.settle()

    @rule()
    def settle(self) -> None:
        self.group.settle()
        history, behind = self.history, self.behind()
        most = LIMITS.events_max + LIMITS.events_max // SLACK_PARTS
        assert history.count <= most
        assert history.bytes <= LIMITS.bytes_max + LIMITS.bytes_max // SLACK_PARTS or history.count == 1
        oldest_ms = self.group.applier.log_time_ms - LIMITS.age_ms - AGE_SLACK_MS
        assert all(event.at_ms >= oldest_ms for event in behind), "what is too old goes in time"

    @rule()
    def flush(self) -> None:
        self.group.flush()

    @rule()
    def reload(self) -> None:
        self.group.reload()

    def behind(self) -> list[Told]:
        return [event for event in self.events if event.mark > self.history.floor]

    @invariant()
    def what_is_behind_the_floor_is_whole(self) -> None:
        if not hasattr(self, "group"):
            return
        history, behind = self.history, self.behind()
        assert [(e.mark, e.key, e.value, e.previous) for e in history.after(history.floor)] == [
            (e.mark, e.key, e.value, e.previous) for e in behind
        ]
        assert history.count == len(behind)
        values = {event.mark: event.value for event in self.events}
        for event in behind:
            if event.previous:
                row = history.table.get(event.previous)
                assert row is not None, "a value that was replaced is there as long as the event is"
                assert value_of(row) == values[event.previous]
        if behind:
            middle = behind[len(behind) // 2]
            assert [event.mark for event in history.after(middle.mark)] == [
                event.mark for event in behind if event.mark > middle.mark
            ]

    @invariant()
    def kept_values_are_there(self) -> None:
        if not hasattr(self, "group"):
            return
        for key in (b"k0", b"k1", b"k2", b"k3"):
            answer = self.group.query(self.probe, Op.MARKED, [key], type=Probe.TYPE)
            event = self.kept.get(key)
            assert (answer.code, answer.result) == (
                (Code.CONDITION, b"") if event is None else (Code.OK, event.value)
            )

    def teardown(self) -> None:
        """Rows are those behind the floor, what is kept, and what those events replaced; none is left."""
        if not hasattr(self, "group"):
            return
        for _ in range(2):
            self.settle()
            prefix = host_prefix(SLOT, HostTable.HISTORY) + self.probe.to_bytes() + bytes(2)
            rows = {key[len(prefix) :] for key in self.group.state() if key.startswith(prefix)} - {b""}
            behind = self.behind()
            wanted = {event.mark for event in (*behind, *self.kept.values())}
            assert rows == wanted | {event.previous for event in behind if event.previous}
            self.wait(LIMITS.age_ms + AGE_SLACK_MS + 1, True)
        assert self.history.count == self.history.bytes == 0
        marks = table_prefix(SLOT, self.probe, 0, MARKS)
        assert rows == {row for key, row in self.group.state().items() if key.startswith(marks)}
        assert self.group.applier.next_deadline_ms is None
        assert self.history.floor_revision <= Revision(self.group.applier.revision)


HistoryRules.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestHistory = HistoryRules.TestCase
