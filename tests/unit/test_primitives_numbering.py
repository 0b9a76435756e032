"""Numbers of one session in one slot: what is kept, and that a restart does not show."""

from __future__ import annotations

import pytest
from support_machine import MemoryRows

from primitives.ids import PrimitiveId, Revision, SlotId
from primitives.numbering import Numbering, decode_numbering

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
    assert sorted(live.stored) == sorted(again.stored) == [2, 3]


def test_the_floor_survives_a_restart_and_never_goes_back() -> None:
    numbering = _with_a_late_answer()
    numbering.acknowledge(2, (1,))
    numbering = _reloaded(numbering)
    assert numbering.floor == 2
    numbering.acknowledge(0, ())
    assert numbering.floor == 2
    numbering.acknowledge(1 << 60, (1,))
    assert numbering.floor == 3
    assert list(numbering.stored) == [1]


@pytest.mark.parametrize("written", [False, True])
def test_rows_are_those_of_what_is_kept(written: bool) -> None:
    rows = MemoryRows()
    numbering = _with_a_late_answer()
    if written:
        numbering.flush(rows)
    numbering.acknowledge(3, (1,))
    numbering.flush(rows)
    assert len(rows.rows) == 2
    numbering.acknowledge(3, ())
    numbering.removed = True
    numbering.flush(rows)
    assert len(rows.rows) == 0
