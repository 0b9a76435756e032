"""Tables: what is seen depends on what was written, never on where it is kept."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sortedcontainers import SortedDict
from support_machine import MemoryRows

from primitives.history import HISTORY_LIMITS, Histories, History
from primitives.ids import PrimitiveId, Revision, SlotId
from primitives.layout import after, table_prefix
from primitives.tables import RowsExceeded, Tables
from primitives.timers import Timers

PREFIX = table_prefix(1, PrimitiveId(SlotId(1), Revision(1)), 0, 0xFF)
KEYS = st.binary(max_size=2)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.binary(max_size=3)),
        st.tuples(st.just("delete"), KEYS),
        st.tuples(st.just("get"), KEYS),
        st.tuples(st.just("scan"), KEYS, st.none() | KEYS, st.booleans()),
        st.tuples(st.just("flush")),
        st.tuples(st.just("begin")),
        st.tuples(st.just("rollback")),
    ),
    max_size=40,
)


def _tables(rows: MemoryRows, rows_max: int = 1000, cache: int = 1000) -> Tables:
    return Tables(rows, rows_a_command_max=rows_max, cache_bytes_max=cache)


def _model_scan(model: Any, start: bytes, end: bytes | None, reverse: bool) -> list[tuple[bytes, bytes]]:
    rows = [(key, model[key]) for key in model if key >= start and (end is None or key < end)]
    return rows[::-1] if reverse else rows


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_a_table_is_a_sorted_dict_with_a_savepoint(steps: list[Any]) -> None:
    rows = MemoryRows()
    rows.put(PREFIX[:-1] + b"\xfe" + b"a", b"before")
    rows.put(after(PREFIX) or b"", b"behind")
    tables = _tables(rows)
    table = tables.table(PREFIX)
    model: SortedDict[bytes, bytes] = SortedDict()
    saved = model.copy()
    for step, *args in steps:
        if step == "put":
            table.put(*args)
            model[args[0]] = args[1]
        elif step == "delete":
            table.delete(*args)
            model.pop(args[0], None)
        elif step == "get":
            assert table.get(*args) == model.get(args[0])
        elif step == "scan":
            start, end, reverse = args
            assert list(table.scan(start, end, reverse=reverse)) == _model_scan(model, start, end, reverse)
        elif step == "flush":
            tables.flush(rows)
            assert tables.bytes == 0
            saved = model.copy()
        elif step == "begin":
            tables.begin()
            saved = model.copy()
        else:
            tables.rollback()
            model = saved.copy()
    assert list(table.scan()) == list(model.items())
    tables.flush(rows)
    assert len(rows.rows) == len(model) + 2


_MARKS = [b"%02d" % number for number in range(20)]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_what_is_swept_is_gone_and_what_is_kept_stays_wherever_the_rows_are(data: st.DataObject) -> None:
    rows = MemoryRows()
    rows.put(PREFIX[:-1] + b"\xfe" + b"05", b"before")
    rows.put((after(PREFIX) or b"") + b"05", b"behind")
    tables = _tables(rows)
    table = tables.host_table(PREFIX)
    model: SortedDict[bytes, bytes] = SortedDict()
    for mark in _MARKS:
        table.add(mark, b"row " + mark)
        model[mark] = b"row " + mark
        if data.draw(st.booleans()):
            tables.flush(rows)
    while len(model) > 1 and data.draw(st.booleans()):
        first = data.draw(st.integers(0, len(model) - 2))
        last = data.draw(st.integers(first + 1, len(model) - 1))
        span = list(model)[first : last + 1]
        kept = {mark: model[mark] for mark in data.draw(st.sets(st.sampled_from(span[1:-1] or span[:1])))}
        gone = [mark for mark in data.draw(st.permutations(span)) if mark not in kept]
        if not gone:
            continue
        tables.begin()
        table.sweep(gone, {mark: row for mark, row in kept.items() if min(gone) < mark < max(gone)})
        assert tables.written() == len(gone)
        for mark in gone:
            del model[mark]
        if model and data.draw(st.booleans()):
            mark = data.draw(st.sampled_from(list(model)))
            table.delete(mark)
            del model[mark]
        if data.draw(st.booleans()):
            tables.flush(rows)
        assert [table.get(mark) for mark in _MARKS] == [model.get(mark) for mark in _MARKS]
        assert list(table.scan()) == list(table.appended(b"")) == list(model.items())
    tables.flush(rows)
    assert [table.get(mark) for mark in _MARKS] == [model.get(mark) for mark in _MARKS]
    assert [(key[len(PREFIX) :], row) for key, row in rows.rows.items()][1:-1] == list(model.items())
    assert len(rows.rows) == len(model) + 2


def test_what_is_swept_is_told_the_store_as_one_range(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = MemoryRows()
    tables = _tables(rows)
    table = tables.host_table(PREFIX)
    for mark in _MARKS:
        table.add(mark, mark)
    tables.flush(rows)
    deleted: list[bytes] = []
    monkeypatch.setattr(rows, "delete", deleted.append)
    table.sweep(_MARKS[:5] + _MARKS[6:10], {_MARKS[5]: _MARKS[5]})
    tables.flush(rows)
    assert not deleted
    assert [key[len(PREFIX) :] for key in rows.rows] == [_MARKS[5], *_MARKS[10:]]


@pytest.mark.parametrize(("size", "is_range"), [(800, True), (1000, False)])
def test_values_that_stay_are_not_written_again_if_they_are_large(size: int, is_range: bool) -> None:
    rows = MemoryRows()
    tables = _tables(rows)
    history = History(tables.host_table(PREFIX), b"", None)
    histories = Histories(tables, Timers(tables, 0), HISTORY_LIMITS, 1000)
    for mark in _MARKS:
        history.table.add(mark, b"v" * size)
    tables.flush(rows)
    kept = dict.fromkeys(_MARKS[5:7], b"v" * size)
    histories.drop(history, (), [mark for mark in _MARKS if mark not in kept], kept)
    assert history.table.has_swept is is_range
    tables.flush(rows)
    assert [key[len(PREFIX) :] for key in rows.rows] == list(kept)


def test_a_sweep_counts_against_the_rows_of_a_command() -> None:
    tables = _tables(MemoryRows(), rows_max=1)
    table = tables.host_table(PREFIX)
    tables.begin()
    with pytest.raises(RowsExceeded):
        table.sweep(_MARKS[:9], {})


@settings(max_examples=200, deadline=None)
@given(st.lists(KEYS), st.lists(KEYS), st.lists(st.tuples(KEYS, st.none() | st.just(b"new")), max_size=6),
       st.booleans())  # fmt: skip
def test_a_scan_sees_what_is_changed_ahead_of_it_wherever_rows_are_kept(
    stored: list[bytes], overlaid: list[bytes], changes: list[tuple[bytes, bytes | None]], reverse: bool
) -> None:
    def run(flush_at: int) -> list[tuple[bytes, bytes]]:
        rows = MemoryRows()
        tables = _tables(rows)
        table = tables.table(PREFIX)
        for at, key in enumerate([*stored, *overlaid]):
            if at == flush_at:
                tables.flush(rows)
            table.put(key, b"old")
        if flush_at < 0:
            tables.flush(rows)
        left = list(changes)
        seen = []
        for row in table.scan(reverse=reverse):
            seen.append(row)
            if left:
                key, value = left.pop()
                if value is None:
                    table.delete(key)
                else:
                    table.put(key, value)
        return seen

    expected = run(10**6)
    assert run(-1) == expected
    assert run(len(stored)) == expected


def test_rows_are_bytes() -> None:
    table = _tables(MemoryRows()).table(PREFIX)
    wrong: Any = "text"
    for key, value in ((wrong, b""), (b"", wrong)):
        with pytest.raises(TypeError):
            table.put(key, value)
    with pytest.raises(TypeError):
        table.delete(wrong)
    assert list(table.scan()) == []


def test_writes_and_scans_of_a_command_are_bounded_and_begin_anew_with_the_next() -> None:
    tables = _tables(MemoryRows(), rows_max=5)
    table = tables.table(PREFIX)
    for start in (0, 5, 10, 15, 20):
        tables.begin()
        for at in range(start, start + 5):
            table.put(b"%d" % at, b"")
        with pytest.raises(RowsExceeded):
            table.put(b"more", b"")
        with pytest.raises(RowsExceeded):
            table.delete(b"more")
        assert isinstance(tables.failure, RowsExceeded)
    tables.begin()
    with pytest.raises(RowsExceeded):
        list(table.scan())
    tables.begin_query()
    assert len(list(table.scan())) == 25


def test_the_cache_is_bounded_and_serves_repeated_reads() -> None:
    rows = MemoryRows()
    tables = _tables(rows, cache=4000)
    table = tables.table(PREFIX)
    for _ in range(3):
        assert table.get(b"absent") is None
    assert rows.reads == 1
    for at in range(1000):
        assert table.get(b"%d" % at) is None
    reads = rows.reads
    assert table.get(b"999") is None
    assert rows.reads == reads
    assert table.get(b"absent") is None
    assert rows.reads == reads + 1


def test_the_cache_is_bounded_over_all_tables() -> None:
    rows = MemoryRows()
    tables = _tables(rows, cache=4000)
    quiet = tables.table(b"quiet")
    assert quiet.get(b"k") is None
    for number in range(40):
        tables.table(b"%d" % number).put(b"k", b"v")
        tables.flush(rows)
        assert tables.cache_bytes * 2 <= 4000
    reads = rows.reads
    assert quiet.get(b"k") is None
    assert rows.reads == reads + 1


def test_what_is_flushed_replaces_what_the_cache_had() -> None:
    rows = MemoryRows()
    tables = _tables(rows, cache=4000)
    table = tables.table(PREFIX)
    for value in (b"1", b"2"):
        table.get(b"k")
        table.put(b"k", value)
        tables.flush(rows)
        assert table.get(b"k") == value
    table.delete(b"k")
    tables.flush(rows)
    assert table.get(b"k") is None


@pytest.mark.parametrize(
    ("prefix", "beyond"),
    [(b"a", b"b"), (b"a\xff", b"b"), (b"\xff\xff", None), (b"", None), (b"\x00", b"\x01")],
)
def test_the_end_of_a_prefix_is_the_least_key_beyond_it(prefix: bytes, beyond: bytes | None) -> None:
    assert after(prefix) == beyond
