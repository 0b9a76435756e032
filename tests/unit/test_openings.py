"""Partitions that open: what is learned of one primitive is not taken for word of another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from test_group_waiters import Led

from primitives.catalog import Found, encode_found
from primitives.errors import Code
from primitives.ids import NodeId, PrimitiveId, Revision, SlotId
from primitives.lock import LockMachine
from primitives.mapops import MapMachine
from primitives.records import Command, Open, encode_answer, encode_command
from shards.core import Core
from shards.ports import Origin
from shards.questions import Questions

NODE, SLOT = NodeId(1), SlotId(1)


class Stage:
    """A leading group, and the questions that its node asks."""

    def __init__(self) -> None:
        led = Led()
        self.driver, self.out = led.driver, led.out
        self.asked: list[Origin] = []
        shard_map = SimpleNamespace(epoch=lambda slot: 1, group=lambda slot: 9)
        self.questions = Questions(cast(Core, SimpleNamespace(
            node=NODE, out=self.out, shard_map=shard_map, groups={self.driver.group: self.driver},
            touch=lambda driver: None, route=lambda origin, group, record: self.asked.append(origin),
        )))  # fmt: skip

    def use(self, revision: int, type: int) -> PrimitiveId:
        """A command for a primitive that is not open here; it is asked about."""
        primitive = PrimitiveId(SlotId(5), Revision(revision))
        command = Command(b"s" * 16, 1, SLOT, 1, 1, 0, primitive, 0, type, 1, (), [], b"")
        self.driver.submit(Origin(NODE, 3, revision), encode_command(command), self.out)
        self.questions.take(self.driver)
        return primitive

    def opening(self) -> list[tuple[PrimitiveId, int]]:
        """Primitives, with their types, that are to be opened."""
        return [(record.primitive, record.type) for _, record, _ in self.driver._proposals
                if isinstance(record, Open)]  # fmt: skip


@pytest.mark.parametrize("exists", [False, True])
def test_an_answer_about_a_primitive_asked_for_in_a_former_leadership_is_not_taken_for_another(
    exists: bool,
) -> None:
    """Both live in one slot. Leadership goes, and comes back, before the first one's name answers."""
    stage = Stage()
    stage.use(70, LockMachine.TYPE)
    stage.driver._deposed(stage.out)
    second = stage.use(80, MapMachine.TYPE)
    of_former, of_present = stage.asked
    found = encode_found(Found(Revision(70), LockMachine.TYPE, 4, b"its own"))
    stage.questions.answered(of_former, encode_answer(Code.OK if exists else Code.CONDITION, 90, found))
    assert not stage.driver.openings.is_dead(second)
    assert not stage.opening()
    found = encode_found(Found(Revision(80), MapMachine.TYPE, 4, b""))
    stage.questions.answered(of_present, encode_answer(Code.OK, 91, found))
    assert stage.opening() == [(second, MapMachine.TYPE)]


def test_a_question_without_an_answer_is_asked_again() -> None:
    stage = Stage()
    primitive = stage.use(70, LockMachine.TYPE)
    for code in (Code.LOST, Code.UNAVAILABLE, Code.NOT_LEADER):
        stage.questions.answered(stage.asked.pop(), encode_answer(code, 0))
        assert not stage.asked
        stage.questions.tick()
    found = encode_found(Found(Revision(70), LockMachine.TYPE, 4, b""))
    stage.questions.answered(stage.asked.pop(), encode_answer(Code.OK, 91, found))
    assert stage.opening() == [(primitive, LockMachine.TYPE)]
