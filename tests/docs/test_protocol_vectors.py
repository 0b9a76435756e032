"""The bytes that the protocol's page shows are those that the code makes and reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from primitives.codec import encode_key, encode_value
from primitives.errors import Code
from primitives.ids import PrimitiveId, Revision, SlotId
from primitives.mapops import MapMachine, Op
from primitives.records import (
    Burst,
    Command,
    Register,
    decode_command,
    decode_record,
    encode_answer,
    encode_burst,
    encode_burst_answer,
    encode_command,
    encode_register,
    encode_run_answer,
)
from router.connection import decode_hello, encode_hello
from router.frames import (
    HEADER_BYTES,
    KIND_NAMES,
    AnswerReader,
    decode_answers,
    decode_requests,
    encode_answers,
    encode_requests,
)

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
VECTORS = {
    name: bytes.fromhex(text)
    for name, text in re.findall(r"<!-- vector: (\w+) -->\n```\n([0-9a-f\n]+)```", PAGE)
}
SESSION_ID = bytes(range(16))
PUT = Command(
    session_id=SESSION_ID, number=42, slot=SlotId(1234), epoch=1, sequence=7, acknowledged=6,
    primitive=PrimitiveId(SlotId(1200), Revision(17)), partition=5, type=MapMachine.TYPE, op=Op.PUT,
    exceptions=(4,), args=[encode_key("alice")], body=encode_value({"age": 3}),
)  # fmt: skip
BURST = Burst(*PUT[:-2], args=[PUT.args, [encode_key("bob")]], bodies=[PUT.body, encode_value({"age": 4})])
ANSWERS = [encode_answer(Code.OK, 99), encode_answer(Code.OK, 100)]
SHOWN = [ANSWERS[0], encode_answer(Code.BAD_REQUEST, 100, b"not so")]


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("hello", encode_hello("vector")),
        ("register", encode_register(Register(SESSION_ID, 1, 10_000))),
        ("put", encode_requests([(2, 3, encode_command(PUT))])),
        ("answer", encode_answers([(2, encode_answer(Code.OK, 99))])),
        ("burst", encode_requests([(2, 3, encode_burst(BURST))])),
        ("run_answer", encode_answers([(2, encode_run_answer(2, 99))])),
        ("burst_answer", encode_answers([(2, encode_burst_answer(SHOWN))])),
    ],
)
def test_vector_on_the_page_is_what_the_code_makes(name: str, made: bytes) -> None:
    assert VECTORS[name].hex() == made.hex()


def test_vectors_are_read_as_the_page_says() -> None:
    assert decode_hello(VECTORS["hello"][HEADER_BYTES:]) == "vector"
    assert decode_record(VECTORS["register"]) == Register(SESSION_ID, 1, 10_000)
    [(request, group, record)] = decode_requests(VECTORS["put"][HEADER_BYTES:])
    assert (request, group, decode_command(record)) == (2, 3, PUT)
    [(request, group, record)] = decode_requests(VECTORS["burst"][HEADER_BYTES:])
    assert (request, group, decode_record(record)) == (2, 3, BURST)
    for name, answers in (("run_answer", ANSWERS), ("burst_answer", SHOWN)):
        reader = AnswerReader(VECTORS[name][HEADER_BYTES:])
        for at, answer in enumerate(answers):
            assert reader.next()
            assert (reader.request, encode_answer(*reader.answer())) == (2 + at, answer)
        assert not reader.next()
    assert list(decode_answers(VECTORS["answer"][HEADER_BYTES:])) == [(2, encode_answer(Code.OK, 99))]


def test_every_kind_of_frame_and_every_code_is_on_the_page() -> None:
    for number, name in KIND_NAMES.items():
        assert f"| {number} | {name} |" in PAGE
    unseen = {"PENDING", "COMPACTED"}  # Never on the wire; of watches.
    for name in {name for name in vars(Code) if not name.startswith("_")} - unseen:
        assert re.search(rf"\b{name}\b", PAGE), name
