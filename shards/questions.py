"""Questions of this node's groups to the slots of primitives' names, and their answers."""

from __future__ import annotations

from typing import Final

from primitives.catalog import decode_found, lookup_id_query
from primitives.errors import Code
from primitives.ids import GroupId
from primitives.records import decode_answer, encode_query
from shards.core import Core
from shards.group import GroupDriver
from shards.opening import Question
from shards.outbox import OPENED
from shards.ports import Origin

ASKED: Final = OPENED - 1
"""Connection number of a question; the request is a number of this node's."""


class Questions:
    """Carries questions from groups that must open a partition to the groups that know its primitive."""

    __slots__ = ("_again", "_asked", "_engine", "_next")

    def __init__(self, engine: Core) -> None:
        self._engine = engine
        self._again: list[tuple[GroupId, int]] = []
        self._asked: dict[int, tuple[GroupId, Question]] = {}
        """What is under way, by number: each is answered, be it that its fate is unknown."""
        self._next = 0

    def take(self, driver: GroupDriver) -> None:
        """Sends what a group wants to ask."""
        engine = self._engine
        shard_map = engine.shard_map
        questions, driver.openings.questions = driver.openings.questions, []
        for question in questions:
            if shard_map is None:
                self._again.append((driver.group, question.slot))
                continue
            self._next += 1
            self._asked[self._next] = driver.group, question
            origin = Origin(engine.node, ASKED, self._next)
            slot = question.primitive.slot
            query = lookup_id_query(slot, shard_map.epoch(slot), question.primitive.revision)
            engine.route(origin, shard_map.group(slot), encode_query(query))

    def answered(self, origin: Origin, answer: bytes) -> None:
        """An answer came for :data:`ASKED` or :data:`OPENED`."""
        if origin.connection == OPENED:
            self._opened(GroupId(origin.request >> 16), origin.request & 0xFFFF, answer)
            return
        asked = self._asked.pop(origin.request, None)
        if asked is None:
            return
        group, question = asked
        driver = self._engine.groups.get(group)
        if driver is None or not driver.leads or driver.openings.asking(question.slot) != question:
            return  # Leadership went meanwhile: if it is back, something else may be asked about the slot.
        code, _, result = decode_answer(answer)
        if code == Code.OK:
            found = decode_found(result)
            driver.learned(question.slot, (found.type, found.config), self._engine.out)
        elif code == Code.CONDITION:
            driver.learned(question.slot, None, self._engine.out)
        else:
            self._again.append((group, question.slot))
        self._engine.touch(driver)

    def _opened(self, group: GroupId, slot: int, answer: bytes) -> None:
        driver = self._engine.groups.get(group)
        if driver is None or not driver.leads:
            return
        if answer[0] in (Code.OK, Code.CONDITION, Code.UNKNOWN_PRIMITIVE):
            driver.opened(slot, self._engine.out)
        else:
            self._again.append((group, slot))
        self._engine.touch(driver)

    def tick(self) -> None:
        """Asks again what had no answer."""
        again, self._again = self._again, []
        for group, slot in again:
            driver = self._engine.groups.get(group)
            if driver is not None and driver.leads:
                driver.unanswered(slot, self._engine.out)
                self.take(driver)
