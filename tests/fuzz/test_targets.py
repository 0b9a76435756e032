"""Arbitrary bytes lead to a value or to the documented error: kept inputs, and what is made at random."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.target import INPUT_BYTES_MAX
from tests.fuzz.targets import CORPUS, TARGETS, corpus

NAMES = sorted(TARGETS)
KEPT = sorted(CORPUS.glob("*/*"))
EXAMPLES = 150
SLOW = {"commands": 40, "node-frames": 40, "node-sections": 40, "shard-map": 40}
"""Targets with more to do for each input."""
INPUT_SECONDS_MAX = 2.0


def mutated(examples: list[bytes], random: Random) -> bytes:
    """An example with some bytes changed, cut, repeated or taken from another one."""
    data = bytearray(random.choice(examples))
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randint(0, len(data))
        kind = random.randrange(5)
        if kind == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << random.randrange(8)
        elif kind == 1:
            data[at : at + random.randint(0, 9)] = random.randbytes(random.randint(0, 9))
        elif kind == 2:
            del data[at : at + random.randint(1, 20)]
        elif kind == 3:
            other = random.choice(examples)
            begin = random.randint(0, len(other))
            data[at:at] = other[begin : begin + random.randint(1, 60)]
        else:
            data[at : at + 1] = bytes((random.choice((0, 1, 0x7F, 0x80, 0xFF)),))
    return bytes(data[:INPUT_BYTES_MAX])


@pytest.mark.parametrize("name", NAMES)
def test_arbitrary_bytes_lead_to_a_value_or_to_the_documented_error(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=SLOW.get(name, EXAMPLES), deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=400))
    def run(data: bytes) -> None:
        target.run(data)

    run()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_nearly_right_leads_to_a_value_or_to_the_documented_error(name: str) -> None:
    target = TARGETS[name]
    examples = [*target.examples, *(path.read_bytes() for path in corpus(name))]
    for seed in range(SLOW.get(name, EXAMPLES)):
        data = mutated(examples, Random(seed))
        try:
            target.run(data)
        except BaseException as error:
            error.add_note(f"the input: {data!r}")
            raise


@pytest.mark.parametrize("name", NAMES)
def test_what_the_product_makes_itself_is_taken(name: str) -> None:
    for data in TARGETS[name].examples:
        TARGETS[name].run(data)


@pytest.mark.parametrize("path", KEPT, ids=[f"{path.parent.name}-{path.name}" for path in KEPT])
def test_kept_inputs_hold(path: Path) -> None:
    began = time.process_time()
    TARGETS[path.parent.name].run(path.read_bytes())
    assert time.process_time() - began < INPUT_SECONDS_MAX


def test_kept_inputs_are_of_targets_and_few() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= set(NAMES)
    assert len(list(CORPUS.glob("*/*"))) <= 300
