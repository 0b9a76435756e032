"""The tree of blocks behind lists does what Python's list does, in few rows."""

from __future__ import annotations

from random import Random

import pytest
from local_group import MemoryRows

from primitives.machine import Table
from primitives.sequence import BLOCK_MAX, BLOCK_MIN, Sequence, Shape, items_of


def item(number: int) -> bytes:
    return number.to_bytes(10, "big")


class Counted(MemoryRows, Table):
    """Rows that count what is read and written."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.writes = 0

    def get(self, key: bytes) -> bytes | None:
        self.reads += 1
        return super().get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self.writes += 1
        super().put(key, value)

    def delete(self, key: bytes) -> None:
        self.writes += 1
        super().delete(key)


class Model:
    """A sequence beside a list; each change is saved and the next one begins from rows."""

    def __init__(self) -> None:
        self.rows = Counted()
        self.shape = Shape()
        self.model: list[bytes] = []
        self.made = 0

    def begin(self) -> Sequence:
        return Sequence(self.rows, b"p", self.shape)

    def end(self, sequence: Sequence) -> None:
        sequence.save(self.rows)
        self.shape = sequence.shape

    def insert(self, index: int, count: int = 1) -> None:
        sequence = self.begin()
        for at in range(index, index + count):
            self.made += 1
            sequence.insert(at, item(self.made))
            self.model.insert(at, item(self.made))
        self.end(sequence)

    def remove(self, index: int) -> None:
        sequence = self.begin()
        assert sequence.remove(index) == self.model.pop(index)
        self.end(sequence)

    def replace(self, index: int) -> None:
        sequence = self.begin()
        self.made += 1
        assert sequence.replace(index, item(self.made)) == self.model[index]
        self.model[index] = item(self.made)
        self.end(sequence)

    def check(self) -> None:
        assert self.shape.size == len(self.model)
        assert list(self.begin().walk(0)) == self.model
        kept = [found for _, row in self.rows.scan() for found in items_of(row)]
        assert sorted(kept) == sorted(self.model), "each item is in one block, and no block is forgotten"


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_done_it_holds_what_a_list_holds(seed: int) -> None:
    random = Random(seed)
    model = Model()
    model.check()
    grow = (0.75, 0.5, 0.9, 0.3, 0.6, 0.95)[seed]
    for step in range(900):
        size = len(model.model)
        kind = random.random()
        if (step % 300 < 180 and kind < grow) or not size:
            at = random.choice((0, size, size, random.randint(0, size)))
            model.insert(at, random.choice((1, 1, 1, 1, 130)))
        elif kind < 0.95:
            model.remove(random.choice((0, size - 1, random.randrange(size))))
        else:
            model.replace(random.randrange(size))
        if model.model:
            at = random.randrange(len(model.model))
            assert model.begin().get(at) == model.model[at]
        if step % 150 == 0:
            model.check()
            start = random.randint(0, len(model.model))
            assert list(model.begin().walk(start)) == model.model[start:]
    model.check()
    while model.model:
        model.remove(random.randrange(len(model.model)))
    model.check()
    assert len(list(model.rows.scan())) == 1, "one empty block is left"


def test_a_change_of_a_long_sequence_touches_few_rows() -> None:
    model = Model()
    while len(model.model) < 100_000:
        model.insert(len(model.model), 10_000)
    blocks = len(list(model.rows.scan()))
    assert blocks <= 100_000 / BLOCK_MAX * 1.05, "appending fills the blocks"
    random = Random(1)
    for _ in range(200):
        model.rows.reads = model.rows.writes = 0
        change = random.choice((model.remove, model.replace, model.insert))
        change(random.randrange(len(model.model)))
        assert model.rows.reads <= 8
        assert model.rows.writes <= 12
        model.rows.reads = 0
        index = random.randrange(len(model.model))
        assert model.begin().get(index) == model.model[index]
        assert model.rows.reads <= 4
    model.check()


def test_blocks_that_lose_their_items_are_joined() -> None:
    model = Model()
    model.insert(0, 4000)
    random = Random(2)
    while len(model.model) > 500:
        model.remove(random.randrange(len(model.model)))
    blocks = len(list(model.rows.scan()))
    assert blocks <= 500 / BLOCK_MIN * 1.1
    model.check()
