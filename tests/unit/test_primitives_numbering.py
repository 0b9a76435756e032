"""Numbers of one session in one slot: what is kept, and that a restart does not show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_machine import MemoryRows

from primitives.errors import Code
from primitives.ids import PrimitiveId, Revision, SlotId
from primitives.numbering import Numbering, decode_numbering
from primitives.records import encode_answer

LONG = b"long" * 20
TARGET = (3, PrimitiveId(SlotId(3), Revision(9)), 0)


def _with_a_late_answer() -> Numbering:
    """Three answers, of which the first came last."""
    numbering = Numbering(5, 3)
    numbering.pending[1] = TARGET
    for sequence in (2, 3):
        numbering.last = sequence
        numbering.store(sequence, b"answer", TARGET)
    del numbering.pending[1]
    numbering.store(1, b"late", TARGET)
    return numbering


def _reloaded(numbering: Numbering) -> Numbering:
    rows = MemoryRows()
    numbering.flush(rows)
    return decode_numbering(rows, 5, 3)


def test_what_an_ended_session_drops_first_does_not_depend_on_a_restart() -> None:
    live, again = _with_a_late_answer(), _reloaded(_with_a_late_answer())
    for numbering in (live, again):
        assert numbering.drop(1) == 1
    assert sorted(live.stored()) == sorted(again.stored()) == [2, 3]


def test_the_floor_survives_a_restart_and_never_goes_back() -> None:
    numbering = _with_a_late_answer()
    numbering.acknowledge(2, (1,))
    numbering = _reloaded(numbering)
    assert numbering.floor == 2
    numbering.acknowledge(0, ())
    assert numbering.floor == 2
    numbering.acknowledge(1 << 60, (1,))
    assert numbering.floor == 3
    assert list(numbering.stored()) == [1]


@pytest.mark.parametrize("written", [False, True])
def test_rows_are_those_of_what_is_kept(written: bool) -> None:
    rows = MemoryRows()
    numbering = _with_a_late_answer()
    numbering.store(4, LONG, TARGET)
    numbering.last = 4
    if written:
        numbering.flush(rows)
    numbering.acknowledge(4, (4,))
    numbering.flush(rows)
    assert len(rows.rows) == 2
    numbering.acknowledge(4, ())
    numbering.flush(rows)
    assert len(rows.rows) == 1
    numbering.removed = True
    numbering.flush(rows)
    assert len(rows.rows) == 0


STEPS = st.lists(
    st.tuples(st.sampled_from(("answer", "long", "run", "wait", "grant", "withdraw", "acknowledge", "flush")),
              st.integers(0, 4), st.booleans()),
    max_size=40,
)  # fmt: skip


@given(STEPS)
def test_rows_do_not_depend_on_when_they_were_written_or_how_answers_are_kept_and_hold_all(
    steps: list[tuple[str, int, bool]],
) -> None:
    rows, rows_of_single = MemoryRows(), MemoryRows()
    numbering, single = Numbering(5, 3), Numbering(5, 3)
    for step, at, first in steps:
        open_ = sorted(numbering.pending)
        if step == "flush":
            numbering.flush(rows)
        for each in (numbering, single):
            if step == "acknowledge":
                each.acknowledge(each.last - at, tuple(each.pending) + ((1,) if first else ()))
            elif step == "wait":
                each.last += 1
                each.pending[each.last] = TARGET
            elif step in ("answer", "long"):
                each.last += 1
                each.store(each.last, LONG if step == "long" else b"short", TARGET if first else None)
            elif step == "run":
                if each is numbering:
                    each.store_run(each.last + 1, at + 1, 90, TARGET)
                else:
                    for more in range(at + 1):
                        each.store(each.last + 1 + more, encode_answer(Code.OK, 90 + more), TARGET)
                each.last += at + 1
            elif step == "grant" and open_:
                sequence = open_[at % len(open_)]
                each.store(sequence, LONG if first else b"granted", each.pending.pop(sequence))
            elif step == "withdraw" and each.held:
                each.replace(sorted(each.stored())[at % each.held], b"withdrawn")
        assert (numbering.stored(), numbering.held) == (single.stored(), single.held)
        for sequence in range(numbering.last + 2):
            assert numbering.find(sequence) == single.find(sequence) == single.stored().get(sequence)
    numbering.flush(rows)
    single.flush(rows_of_single)
    assert rows.rows == rows_of_single.rows
    again = decode_numbering(rows, 5, 3)
    assert (again.last, again.floor) == (numbering.last, numbering.floor)
    assert (again.stored(), again.pending) == (numbering.stored(), numbering.pending)
    fresh = MemoryRows()
    again.flush(rows)
    _unsaved(again).flush(fresh)
    assert fresh.rows == rows.rows


def test_a_run_is_acknowledged_from_its_beginning() -> None:
    numbering = Numbering(5, 3)
    numbering.store_run(1, 4, 70, TARGET)
    numbering.store_run(5, 2, 90, TARGET)
    numbering.last = 6
    numbering.acknowledge(2, ())
    left = {3: 72, 4: 73, 5: 90, 6: 91}
    assert numbering.stored() == {
        at: (encode_answer(Code.OK, revision), TARGET) for at, revision in left.items()
    }
    numbering.acknowledge(5, (4,))
    assert [at for at in range(8) if numbering.find(at)] == [4, 6]
    assert numbering.drop(1) == 1
    assert sorted(numbering.stored()) == [6]
    numbering.acknowledge(1 << 60, ())
    assert numbering.held == 0


def _unsaved(numbering: Numbering) -> Numbering:
    """The same, of which nothing was ever written."""
    same = Numbering(numbering.session, numbering.slot)
    same.last, same.floor = numbering.last, numbering.floor
    same.pending = numbering.pending
    for sequence, (answer, target) in numbering.stored().items():
        same.store(sequence, answer, target)
    return same
