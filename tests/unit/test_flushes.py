"""When groups are written: in time, in slices, at a size, for a marker and for a snapshot."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from primitives.ids import GroupId
from shards.flushes import Flushes
from shards.settings import EngineSettings

SETTINGS = EngineSettings(
    flush_interval_ms=300, flush_slice_bytes=100, flush_bytes=1000, log_cut_interval_ms=500
)


class Driver:
    """Stands for one group's."""

    def __init__(self, group: int, written: list[int], cut: list[int]) -> None:
        self._group, self._written, self._cut = group, written, cut
        self.applying = SimpleNamespace(is_dirty=False, must_flush=False)
        self.applier = SimpleNamespace(overlay_bytes=0)

    def flush(self, batch: Any) -> None:
        assert self.applying.is_dirty
        self.applying.is_dirty = False
        self.applier.overlay_bytes = 0
        self._written.append(self._group)

    def cut_log(self, batch: Any, settings: EngineSettings, connected: Any) -> None:
        assert settings.log_cut_interval_ms == SETTINGS.log_cut_interval_ms
        self._cut.append(self._group)


class Stage:
    """Some groups of one node, and what was done to them in each round."""

    def __init__(self, groups: int, settings: EngineSettings = SETTINGS) -> None:
        self.written: list[int] = []
        self.cut: list[int] = []
        self.drivers: dict[GroupId, Any] = {
            GroupId(n): Driver(n, self.written, self.cut) for n in range(groups)
        }
        self.snapshots = SimpleNamespace(wants_flush=False)
        self.batches = 0
        engine: Any = SimpleNamespace(
            groups=self.drivers, settings=settings, snapshots=self.snapshots,
            forwarding=SimpleNamespace(up=()),
        )  # fmt: skip
        writer: Any = SimpleNamespace(batch=object, write=self._write)
        self.flushes = Flushes(engine, writer, 0)
        self.round(0)
        self.cut.clear()
        self.batches = 0

    def _write(self, batch: Any, waits: list[Any]) -> None:
        assert waits == []
        self.batches += 1

    def apply(self, now_ms: int, group: int, size: int) -> None:
        driver = self.drivers[GroupId(group)]
        driver.applying.is_dirty = True
        driver.applier.overlay_bytes += size
        self.flushes.applied(now_ms, GroupId(group))

    def round(self, now_ms: int) -> list[int]:
        self.written.clear()
        self.flushes.round(now_ms, self.drivers)
        return list(self.written)


def test_a_group_is_written_once_some_time_after_its_first_change() -> None:
    stage = Stage(2)
    stage.apply(10, 1, 30)
    stage.apply(200, 1, 30)
    assert stage.flushes.due_ms == 310
    assert stage.round(309) == [] and stage.batches == 0
    assert stage.round(310) == [1] and stage.batches == 1
    assert stage.flushes.due_ms > 1 << 60
    stage.apply(320, 1, 30)
    assert stage.round(400) == []
    assert stage.flushes.due_ms == 620


def test_groups_whose_time_has_come_take_turns_in_the_order_of_their_changes() -> None:
    stage = Stage(5)
    for group, size in ((3, 60), (0, 60), (4, 500), (1, 20), (2, 20)):
        stage.apply(0, group, size)
    assert stage.round(300) == [3, 0], "the second goes beyond the slice"
    assert stage.flushes.due_ms == 300, "and the next round is not to wait"
    stage.apply(301, 3, 60)
    assert stage.round(301) == [4]
    assert stage.round(302) == [1, 2], "what has changed again is due anew"
    assert stage.flushes.due_ms == 601


def test_a_group_with_much_unwritten_or_a_marker_does_not_wait() -> None:
    stage = Stage(3)
    for group in range(3):
        stage.apply(0, group, 900)
    assert stage.round(1) == []
    stage.apply(1, 1, 101)
    assert stage.round(1) == [1]
    stage.drivers[GroupId(2)].applying.must_flush = True
    assert stage.round(2) == [2]
    assert stage.round(3) == [], "its marker waits, but there is nothing to write"
    assert stage.round(300) == [0]


def test_a_group_that_always_has_much_unwritten_keeps_no_other_from_its_turn() -> None:
    stage = Stage(4)
    for group in (1, 2, 3):
        stage.apply(0, group, 60)
    stage.apply(299, 0, 2000)
    assert stage.round(299) == [0]
    stage.apply(300, 0, 2000)
    assert stage.round(300) == [0, 1, 2]
    stage.apply(301, 0, 2000)
    assert stage.round(301) == [0, 3]


def test_the_least_slice_is_one_group() -> None:
    stage = Stage(2, replace(SETTINGS, flush_slice_bytes=0))
    stage.apply(0, 1, 60)
    stage.apply(0, 0, 60)
    assert stage.round(300) == [1]
    assert stage.round(301) == [0]


def test_all_that_has_changed_is_written_for_a_snapshot() -> None:
    stage = Stage(4)
    for group in (2, 0, 3):
        stage.apply(0, group, 900)
    stage.snapshots.wants_flush = True
    assert stage.round(1) == [2, 0, 3] and stage.batches == 1
    assert stage.round(2) == [] and stage.batches == 1


def test_a_group_whose_state_was_replaced_meanwhile_has_nothing_to_write() -> None:
    stage = Stage(2)
    stage.apply(0, 0, 10)
    stage.apply(0, 1, 10)
    stage.drivers[GroupId(0)].applying.is_dirty = False
    assert stage.round(300) == [1]
    assert stage.round(700) == []


def test_logs_are_cut_in_time_whether_anything_has_changed_or_not() -> None:
    stage = Stage(2)
    stage.round(499)
    assert stage.cut == []
    stage.round(500)
    stage.round(999)
    assert stage.cut == [0, 1]
    stage.round(1000)
    assert stage.cut == [0, 1, 0, 1]
