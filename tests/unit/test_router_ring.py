"""The ring: even shares, and nothing moves that need not."""

from __future__ import annotations

from collections import Counter

import pytest

from primitives.ids import SLOTS, GroupId
from router.ring import preference, rebalance


def groups(count: int) -> list[GroupId]:
    return [GroupId(group) for group in range(1, count + 1)]


@pytest.mark.parametrize("count", [1, 2, 3, 16, 64, 1000])
def test_the_largest_share_is_at_most_one_slot_above_the_average(count: int) -> None:
    shares = Counter(rebalance([None] * SLOTS, groups(count)))
    assert len(shares) == count
    assert max(shares.values()) - min(shares.values()) <= 1
    if count == 16:
        assert max(shares.values()) / (SLOTS / 16) <= 1.1


def test_a_new_group_takes_its_quota_and_nothing_else_moves() -> None:
    table = rebalance([None] * SLOTS, groups(16))
    after = rebalance(table, groups(17))
    moved = [slot for slot in range(SLOTS) if table[slot] != after[slot]]
    assert {after[slot] for slot in moved} == {17}
    assert len(moved) == SLOTS // 17


def test_a_new_group_takes_what_it_prefers_most_from_groups_above_their_quotas() -> None:
    table = rebalance([None] * 16, groups(2))
    after = rebalance(table, groups(3))
    taken = [slot for slot in range(16) if after[slot] == 3]
    quota = {1: 6, 2: 5} if Counter(after)[GroupId(1)] == 6 else {1: 5, 2: 6}
    left = Counter(table)
    expected = []
    for slot in preference(3, 16):
        if len(expected) < 5 and left[table[slot]] > quota[table[slot]]:
            left[table[slot]] -= 1
            expected.append(slot)
    assert sorted(expected) == taken


def test_a_removed_group_gives_only_its_own_slots() -> None:
    table = rebalance([None] * SLOTS, groups(16))
    after = rebalance(table, [group for group in groups(16) if group != 5])
    assert all(table[slot] == 5 for slot in range(SLOTS) if table[slot] != after[slot])
    shares = Counter(after)
    assert GroupId(5) not in shares
    assert max(shares.values()) - min(shares.values()) <= 1


def test_an_even_table_stays_as_it_is() -> None:
    table = rebalance([None] * SLOTS, groups(7))
    assert rebalance(table, reversed(groups(7))) == table


def test_the_ring_is_the_same_on_every_machine() -> None:
    table = rebalance([None] * SLOTS, groups(16))
    assert table[:8] == rebalance([None] * SLOTS, reversed(groups(16)))[:8]
    assert sum(slot * group for slot, group in enumerate(table)) == CHECK


CHECK = 1142223932
"""Of the table for 16 groups. Another number means that nodes of two releases would found unlike clusters."""


def test_no_groups_or_one_named_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="no groups"):
        rebalance([None] * 8, [])
    with pytest.raises(ValueError, match="twice"):
        rebalance([None] * 8, [GroupId(1), GroupId(1)])


def test_a_groups_preference_names_each_slot_once() -> None:
    assert sorted(preference(3, SLOTS)) == list(range(SLOTS))
