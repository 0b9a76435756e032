"""Questions of this node's groups to the slots of primitives' names, and their answers."""

from __future__ import annotations

from typing import Final

from primitives.catalog import decode_found, lookup_id_query
from primitives.errors import Code
from primitives.ids import GroupId
from primitives.records import decode_answer, encode_query
from shards.core import Core
from shards.group import GroupDriver
from shards.outbox import OPENED
from shards.ports import Origin

ASKED: Final = OPENED - 1
"""Connection number of a question; the request is the asking group and slot."""


class Questions:
    """Carries questions from groups that must open a partition to the groups that know its primitive."""

    __slots__ = ("_again", "_engine")

    def __init__(self, engine: Core) -> None:
        self._engine = engine
        self._again: list[tuple[GroupId, int]] = []

    def take(self, driver: GroupDriver) -> None:
        """Sends what a group wants to ask."""
        engine = self._engine
        shard_map = engine.shard_map
        questions, driver.openings.questions = driver.openings.questions, []
        for question in questions:
            origin = Origin(engine.node, ASKED, driver.group << 16 | question.slot)
            if shard_map is None:
                self._again.append((driver.group, question.slot))
                continue
            slot = question.primitive.slot
            query = lookup_id_query(slot, shard_map.epoch(slot), question.primitive.revision)
            engine.route(origin, shard_map.group(slot), encode_query(query))

    def answered(self, origin: Origin, answer: bytes) -> None:
        """An answer came for :data:`ASKED` or :data:`OPENED`."""
        group, slot = GroupId(origin.request >> 16), origin.request & 0xFFFF
        driver = self._engine.groups.get(group)
        if driver is None or not driver.leads:
            return
        out = self._engine.out
        code, _, result = decode_answer(answer)
        if origin.connection == OPENED and code in (Code.OK, Code.CONDITION, Code.UNKNOWN_PRIMITIVE):
            driver.opened(slot, out)
        elif origin.connection == ASKED and code in (Code.OK, Code.CONDITION):
            if code == Code.OK:
                found = decode_found(result)
                driver.learned(slot, (found.type, found.config), out)
            else:
                driver.learned(slot, None, out)
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
