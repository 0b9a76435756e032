"""Partitions that a group does not know yet: who waits for them, and what their name's slot said.

A partition that does not know a primitive's id asks the id's own slot, linearizably, and then logs that it
opens, with the revision it had when it asked; the entry is refused if a deletion was logged meanwhile.
Until that is settled everything for the slot waits, so that the numbers of its sessions stay in order.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from primitives.ids import PrimitiveId
from shards.ports import Origin

DEAD_KEPT_MAX: Final = 1024
ATTEMPTS_MAX: Final = 60
"""Of one question, a tick apart: about three seconds."""
PARKED_MAX: Final = 8192


class Question(NamedTuple):
    """What is asked about a slot's unknown primitive."""

    slot: int
    primitive: PrimitiveId
    partition: int
    asked: int
    """This group's revision when it asked."""


class Openings:
    """The unknown partitions of one group, while this replica leads it."""

    __slots__ = ("_asking", "_attempts", "_dead", "_parked", "_parked_count", "questions")

    def __init__(self) -> None:
        self._parked: dict[int, list[tuple[Origin, bytes]]] = {}
        self._asking: dict[int, Question] = {}
        self._attempts: dict[int, int] = {}
        self._dead: dict[PrimitiveId, None] = {}
        self._parked_count = 0
        self.questions: list[Question] = []
        """To be asked; the engine takes them."""

    @property
    def parked(self) -> dict[int, list[tuple[Origin, bytes]]]:
        """What waits, by slot. Read only."""
        return self._parked

    def is_dead(self, primitive: PrimitiveId) -> bool:
        """Whether the name's slot said that the id is gone; ids never come back."""
        return primitive in self._dead

    def park(self, slot: int, origin: Origin, data: bytes) -> bool:
        """Keeps an operation until its slot is settled. False when too much waits already."""
        if self._parked_count >= PARKED_MAX:
            return False
        self._parked.setdefault(slot, []).append((origin, data))
        self._parked_count += 1
        return True

    def ask(self, question: Question) -> None:
        """Asks about a slot, unless that is under way."""
        if question.slot not in self._asking:
            self._asking[question.slot] = question
            self._attempts[question.slot] = 0
            self.questions.append(question)

    def asking(self, slot: int) -> Question | None:
        """What is asked about ``slot``."""
        return self._asking.get(slot)

    def again(self, slot: int, asked: int) -> bool:
        """The question had no answer: asks again, with the present revision. False after too many."""
        question = self._asking.get(slot)
        if question is None:
            return True
        self._attempts[slot] += 1
        if self._attempts[slot] > ATTEMPTS_MAX:
            return False
        question = question._replace(asked=asked)
        self._asking[slot] = question
        self.questions.append(question)
        return True

    def gone(self, primitive: PrimitiveId) -> None:
        """The name's slot does not know the id: it was deleted."""
        if len(self._dead) >= DEAD_KEPT_MAX:
            del self._dead[next(iter(self._dead))]
        self._dead[primitive] = None

    def release(self, slot: int) -> list[tuple[Origin, bytes]]:
        """The slot is settled: what waited for it, in the order it came."""
        self._asking.pop(slot, None)
        self._attempts.pop(slot, None)
        waited = self._parked.pop(slot, [])
        self._parked_count -= len(waited)
        return waited

    def clear(self) -> list[tuple[Origin, bytes]]:
        """Leadership went: everything that waited."""
        waited = [item for slot in list(self._parked) for item in self.release(slot)]
        self._asking.clear()
        self.questions.clear()
        return waited
