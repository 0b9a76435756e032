"""Which group should own which slots: consistent hashing with quotas.

Each group has an order of preference over all slots, drawn from a hash of its id, and a quota: the slots
divided evenly. A group above its quota gives, a group below takes: in turns, each takes the slot it prefers
most among those that nobody owns or whose owner is still above its quota. So the largest share is at most one
slot above the average, and nothing moves that need not.

The result depends on the arguments only, on every machine alike.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from math import gcd
from typing import Final

from xxhash import xxh3_64_intdigest

from primitives.errors import InvariantViolation
from primitives.ids import GroupId

_SEED: Final = struct.Struct(">IB")


def preference(group: int, slots: int) -> Iterator[int]:
    """All slots, 0 to ``slots - 1``, each once, in the order in which ``group`` takes them: it begins at some
    slot and goes on in steps, both drawn from its id (as Maglev's lookup tables are filled)."""
    at = xxh3_64_intdigest(_SEED.pack(group, 0)) % slots
    step = xxh3_64_intdigest(_SEED.pack(group, 1)) % slots
    while gcd(step, slots) != 1:
        step += 1
    for _ in range(slots):
        yield at
        at = (at + step) % slots


def quotas(groups: Iterable[GroupId], slots: int, owned: dict[GroupId, int]) -> dict[GroupId, int]:
    """The share of each group; they add up to ``slots``. Those who have most already (``owned``) get the odd
    ones, so that as little as possible moves."""
    order = sorted(groups, key=lambda group: (-owned.get(group, 0), group))
    share, rest = divmod(slots, len(order))
    return {group: share + (at < rest) for at, group in enumerate(order)}


def rebalance(table: Sequence[int | None], groups: Iterable[GroupId]) -> list[GroupId]:
    """The owner of each slot, once ``groups`` (ids, at least one) share the slots of ``table`` evenly.

    ``table`` has the present owner of each slot, None for one without; owners that are not in ``groups`` lose
    what they have. Raises ValueError for no groups or for one named twice.
    """
    members = list(groups)
    if not members:
        raise ValueError("no groups to own the slots")
    owned = dict.fromkeys(members, 0)
    if len(owned) != len(members):
        raise ValueError("a group is named twice")
    owners: list[GroupId | None] = []
    for owner in table:
        known = GroupId(owner) if owner is not None and owner in owned else None
        owners.append(known)
        if known is not None:
            owned[known] += 1
    quota = quotas(members, len(table), owned)
    _take_turns(owners, {group: owned[group] - quota[group] for group in members})
    result = [owner for owner in owners if owner is not None]
    if len(result) != len(table):
        raise InvariantViolation("a slot is left without an owner")
    return result


def _take_turns(owners: list[GroupId | None], excess: dict[GroupId, int]) -> None:
    """Moves slots in ``owners`` until no group is below its quota; ``excess`` is how far each is above."""
    slots = len(owners)
    takers = {group: preference(group, slots) for group in sorted(excess) if excess[group] < 0}
    while takers:
        for group, wishes in list(takers.items()):
            for slot in wishes:
                owner = owners[slot]
                if owner is None or excess[owner] > 0:
                    break
            else:
                raise InvariantViolation(f"nothing is left for group {group} to take")
            if owner is not None:
                excess[owner] -= 1
            owners[slot] = group
            excess[group] += 1
            if not excess[group]:
                del takers[group]
