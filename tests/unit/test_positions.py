"""Positions: what they are compared by, and how they travel."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primitives.errors import BadPosition
from primitives.handle import Causal, Stale
from primitives.ids import PrimitiveId, Revision, SlotId
from primitives.position import WHOLE, Position, mark_of
from primitives.records import Read
from primitives.watch import Listing, StreamEvent, before

CLUSTER = b"c" * 16
SOME = PrimitiveId(SlotId(7), Revision(9))

MARKS = st.lists(
    st.builds(mark_of, st.integers(0, (1 << 63) - 1), st.integers(0, WHOLE)), min_size=1, max_size=20
)


@given(MARKS)
def test_a_position_survives_being_bytes_and_text(marks: list[int]) -> None:
    position = Position(CLUSTER, SOME, tuple(marks))
    assert Position.from_bytes(bytes(position)) == position
    assert Position.parse(str(position)) == position
    assert Position.parse(f" {position}\n") == position


@given(MARKS, st.data())
def test_the_merged_position_covers_both_and_is_the_least(marks: list[int], data: st.DataObject) -> None:
    others = data.draw(st.lists(st.integers(0, 1 << 70), min_size=len(marks), max_size=len(marks)))
    one, other = Position(CLUSTER, SOME, tuple(marks)), Position(CLUSTER, SOME, tuple(others))
    merged = one.merged(other)
    assert merged.covers(one)
    assert merged.covers(other)
    assert (merged == one) == one.covers(other)


def test_part_of_a_revision_is_before_the_whole_of_it() -> None:
    part, whole = (Position(CLUSTER, SOME, (mark,)) for mark in (mark_of(5, 3), mark_of(5)))
    assert whole.covers(part)
    assert not part.covers(whole)
    assert part.revision(0) == whole.revision(0) == 5


@pytest.mark.parametrize(
    "other",
    [
        Position.at(b"d" * 16, SOME, [1]),
        Position.at(CLUSTER, PrimitiveId(SlotId(7), Revision(10)), [1]),
        Position.at(CLUSTER, SOME, [1, 1]),
    ],
)
def test_positions_of_different_primitives_are_not_compared(other: Position) -> None:
    with pytest.raises(BadPosition, match="begin anew"):
        Position.at(CLUSTER, SOME, [1]).covers(other)


@pytest.mark.parametrize("text", ["", "x", "ä", "AAAA", "A" * 80, "!!!"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(BadPosition):
        Position.parse(text)


def test_a_flipped_bit_is_found() -> None:
    data = bytearray(bytes(Position.at(CLUSTER, SOME, [1, 2, 3])))
    for at in range(len(data)):
        data[at] ^= 4
        with pytest.raises(BadPosition):
            Position.from_bytes(bytes(data))
        data[at] ^= 4


def test_read_levels_take_what_they_are_made_of() -> None:
    position = Position.at(CLUSTER, SOME, [1])
    assert (Causal(position).level, Causal(position).position) == (Read.CAUSAL, position)
    assert (Stale(2.5).level, Stale(2.5).max_age) == (Read.STALE, 2.5)
    with pytest.raises(ValueError, match="max_age"):
        Stale(-1)
    with pytest.raises(TypeError, match="max_age"):
        Stale("1")  # type: ignore[arg-type]


@given(st.binary(min_size=1, max_size=6))
def test_the_key_before_another_is_before_it(key: bytes) -> None:
    assert before(key) < key


def test_an_event_is_told_once_its_key_is_listed() -> None:
    def event(key: bytes, partition: int = 0) -> StreamEvent:
        return StreamEvent(partition, 5, 0, 1, key)

    listing = Listing(b"", is_prefix=True)
    listing.begin([0, 1])
    assert not listing.has_listed(event(b"a"))
    assert not listing.has_listed(event(b""))
    assert listing.listed([(b"a", b""), (b"c", b"")], True) == [(b"a", b""), (b"c", b"")]
    assert [listing.has_listed(event(key)) for key in (b"a", b"b", b"c", b"d", b"")] == [1, 1, 1, 0, 1]
    assert not listing.has_listed(event(b"a", 1))
    listing.listed([], False)
    assert listing.has_listed(event(b"z"))
    assert not listing.has_listed(event(b"a", 1))


def test_a_listing_of_a_prefix_ends_behind_it() -> None:
    listing = Listing(b"ab", is_prefix=True)
    listing.begin([3])
    assert listing.after == before(b"ab") < b"ab"
    rows = [(b"aa\xff\xff", b""), (b"ab", b""), (b"abc", b"")]
    assert [key for key, _ in listing.listed(rows, True)] == [b"ab", b"abc"]
    assert listing.partition == 3
    listing.listed([(b"ac", b"")], True)
    assert listing.partition is None


def test_a_listing_of_a_key_ends_with_it() -> None:
    listing = Listing(b"ab", is_prefix=False)
    listing.begin([3])
    assert [key for key, _ in listing.listed([(b"ab", b""), (b"abc", b"")], True)] == [b"ab"]
    assert listing.partition is None
