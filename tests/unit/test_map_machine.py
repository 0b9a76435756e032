"""The map's machine in a real applier, command by command."""

from __future__ import annotations

from typing import Any

import pytest
from local_group import Group, Session, create

from primitives.codec import encode_value
from primitives.entries import HEADER, SLICE_ROWS
from primitives.errors import Code
from primitives.layout import HostTable, host_prefix
from primitives.limits import INT_MAX, INT_MIN, KEY_BYTES_MAX, PAGE_BYTES_MAX, TTL_MS_MAX, VALUE_BYTES_MAX
from primitives.many import PUT_MANY_MAX
from primitives.mapops import Ask, Flag, MapMachine, Op
from primitives.pages import decode_page, decode_series
from primitives.records import Answer

TYPE = MapMachine.TYPE
HISTORY = host_prefix(0, HostTable.HISTORY)[2:]
"""What keys of histories have behind the slot."""


class OnePartition:
    """A pinned map in a group, spoken to in bytes."""

    def __init__(self) -> None:
        self.group = Group(flush_every=3)
        self.session = Session(self.group)
        self.slot, self.primitive = create(self.session, "m", TYPE)

    def do(self, op: int, args: list[Any], body: bytes = b"") -> Answer:
        at = self.session.send(self.slot, self.primitive, 0, TYPE, op, args, body)
        return self.session.answers[self.slot, at]

    def ask(self, op: int, args: list[Any]) -> Answer:
        return self.group.query(self.slot, self.primitive, 0, TYPE, op, args)

    def get(self, key: bytes) -> bytes | None:
        answer = self.ask(Ask.GET, [key])
        return answer.result[HEADER.size :] if answer.code == Code.OK else None

    def size(self) -> int:
        return int.from_bytes(self.ask(Ask.SIZE, []).result, "big")

    def keys(self) -> list[bytes]:
        rows, more = decode_page(self.ask(Ask.PAGE, [b"", 1000, False]).result)
        assert not more
        return [key for key, _ in rows]

    def rows(self) -> int:
        """Rows of the map itself, cleared ones included, and of the group's timers, that of the history's age
        among them; without the history."""
        return sum(not key.startswith(HISTORY, 2) for key in self.group.state())


@pytest.fixture
def m() -> OnePartition:
    return OnePartition()


def test_an_entry_answers_its_revisions_and_value(m: OnePartition) -> None:
    first = m.do(Op.PUT, [b"k"], b"one")
    second = m.do(Op.PUT, [b"k"], b"two")
    answer = m.ask(Ask.GET, [b"k"])
    assert HEADER.unpack_from(answer.result) == (second.revision, first.revision, 0)
    assert second.revision > first.revision
    assert m.get(b"k") == b"two"
    assert m.size() == 1


def test_conditions_decide_on_what_is_there(m: OnePartition) -> None:
    assert m.do(Op.PUT, [b"k", 0, Flag.IF_REVISION, 7], b"v").code == Code.CONDITION
    put = m.do(Op.PUT, [b"k", 0, Flag.IF_ABSENT, 0], b"v")
    assert put.code == Code.OK
    assert m.do(Op.PUT, [b"k", 0, Flag.IF_ABSENT, 0], b"w").code == Code.CONDITION
    assert m.do(Op.PUT, [b"k", 0, Flag.IF_REVISION, put.revision - 1], b"w").code == Code.CONDITION
    again = m.do(Op.PUT, [b"k", 0, Flag.IF_REVISION, put.revision], b"w")
    assert again.code == Code.OK
    assert m.do(Op.COMPARE_AND_SET, [b"k", 0, 1], b"vx").code == Code.CONDITION
    assert m.do(Op.COMPARE_AND_SET, [b"k", 0, 1], b"wx").code == Code.OK
    assert m.do(Op.REMOVE, [b"k", Flag.IF_REVISION, again.revision]).code == Code.CONDITION
    assert m.do(Op.REMOVE, [b"k", Flag.IF_VALUE, 0], b"w").code == Code.CONDITION
    assert m.get(b"k") == b"x"
    assert m.do(Op.REMOVE, [b"k", Flag.IF_VALUE, 0], b"x").code == Code.OK
    assert m.do(Op.REMOVE, [b"k"]).code == Code.CONDITION
    assert m.do(Op.COMPARE_AND_SET, [b"k", 0, 1], b"xy").code == Code.CONDITION
    assert m.size() == 0


def test_the_former_entry_comes_where_asked_for_without_its_timer(m: OnePartition) -> None:
    assert m.do(Op.PUT, [b"k", 50, Flag.PREVIOUS, 0], b"v").result == b""
    shown = m.ask(Ask.GET, [b"k"]).result
    assert m.do(Op.PUT, [b"k", 0, Flag.PREVIOUS, 0], b"w").result == shown
    assert HEADER.unpack_from(shown)[2] == m.group.now_ms + 51
    assert shown[HEADER.size :] == b"v"
    assert m.do(Op.REMOVE, [b"k", Flag.PREVIOUS, 0]).result[HEADER.size :] == b"w"


def test_an_entry_lives_at_least_as_long_as_asked_and_then_expires(m: OnePartition) -> None:
    m.do(Op.PUT, [b"k", 100, 0, 0], b"v")
    m.group.advance(100)
    assert m.get(b"k") == b"v"
    m.group.now_ms += 1
    m.do(Op.PUT, [b"other"], b"v")
    assert m.get(b"k") == b"v", "what has expired is visible until its expiry is applied"
    m.group.settle()
    assert m.get(b"k") is None
    assert m.size() == 1


def test_an_entry_put_again_without_a_time_to_live_stays(m: OnePartition) -> None:
    before = m.rows()
    m.do(Op.PUT, [b"k", 100, 0, 0], b"v")
    m.do(Op.PUT, [b"k"], b"w")
    m.group.advance(10_000)
    assert m.get(b"k") == b"w"
    m.do(Op.REMOVE, [b"k"])
    assert m.rows() <= before + 2, "no timer is left but the history's"


def test_an_entry_put_again_lives_from_then_on(m: OnePartition) -> None:
    m.do(Op.PUT, [b"k", 100, 0, 0], b"v")
    m.group.advance(90)
    m.do(Op.COMPARE_AND_SET, [b"k", 100, 1], b"vw")
    m.group.advance(90)
    assert m.get(b"k") == b"w"
    m.group.advance(11)
    assert m.get(b"k") is None


def test_an_entry_removed_and_put_again_is_not_expired_by_the_first_ones_timer(m: OnePartition) -> None:
    m.do(Op.PUT, [b"k", 100, 0, 0], b"v")
    m.do(Op.REMOVE, [b"k"])
    m.do(Op.PUT, [b"k"], b"w")
    m.group.advance(1_000)
    assert m.get(b"k") == b"w"


def test_an_increment_keeps_the_expiry(m: OnePartition) -> None:
    m.do(Op.PUT, [b"k", 100, 0, 0], encode_value(1))
    assert m.do(Op.INCREMENT, [b"k", 4]).result == encode_value(5)
    assert m.get(b"k") == encode_value(5)
    m.group.advance(101)
    assert m.get(b"k") is None


@pytest.mark.parametrize(
    "number", [0, 23, 24, 255, 256, 65535, 65536, 2**32, INT_MAX - 1, -1, -24, -25, -257, INT_MIN]
)
def test_increments_store_integers_as_values_are_encoded(m: OnePartition, number: int) -> None:
    assert m.do(Op.INCREMENT, [b"k", number]).result == encode_value(number)
    assert m.do(Op.INCREMENT, [b"k", 1]).result == encode_value(number + 1)


def test_an_increment_beyond_64_bits_or_of_another_value_changes_nothing(m: OnePartition) -> None:
    m.do(Op.INCREMENT, [b"k", INT_MAX])
    assert m.do(Op.INCREMENT, [b"k", 1]).code == Code.OVERFLOW
    assert m.get(b"k") == encode_value(INT_MAX)
    for value in ("7", 7.0, None, True, [7], b"7"):
        m.do(Op.PUT, [b"x"], encode_value(value))
        assert m.do(Op.INCREMENT, [b"x", 1]).code == Code.CONDITION
        assert m.get(b"x") == encode_value(value)


def test_a_cleared_map_is_empty_at_once_and_its_rows_go_in_slices(m: OnePartition) -> None:
    empty = m.rows()
    count = 2 * SLICE_ROWS + 10
    for n in range(count):
        m.do(Op.PUT, [b"%d" % n, 60_000 * (n % 2), 0, 0], b"v")
    m.do(Op.CLEAR, [])
    assert (m.size(), m.keys(), m.get(b"1")) == (0, [], None)
    assert m.rows() > empty + count
    m.do(Op.PUT, [b"1"], b"new")
    assert m.do(Op.CLEAR, []).code == Code.OK
    m.do(Op.PUT, [b"2", 0, Flag.IF_ABSENT, 0], b"new")
    assert m.group.settle() == 3, "each slice is a command of its own"
    assert m.keys() == [b"2"]
    assert m.rows() == empty + 3, "the entry, the count and the timer of the history are left"
    m.group.advance(120_000)
    assert m.get(b"2") == b"new"


def test_clearing_an_empty_map_arms_nothing(m: OnePartition) -> None:
    m.do(Op.CLEAR, [])
    assert m.group.settle() == 0


def test_cleared_entries_that_expire_before_their_slice_leave_new_ones_alone(m: OnePartition) -> None:
    m.do(Op.PUT, [b"k", 10, 0, 0], b"old")
    m.group.now_ms += 100
    m.do(Op.CLEAR, [])
    m.do(Op.PUT, [b"k"], b"new")
    m.group.settle()
    assert (m.get(b"k"), m.size()) == (b"new", 1)
    m.do(Op.REMOVE, [b"k"])
    assert m.size() == 0


def test_pages_come_in_the_order_of_keys_and_go_on_behind_the_last(m: OnePartition) -> None:
    names = [*sorted(b"%05d" % n for n in range(25)), b"x", b"x\x00", b"x\xff", b"\xff" * 1000]
    for name in reversed(names):
        m.do(Op.PUT, [name, 1000 * (len(name) % 2), 0, 0], name)
    seen: list[bytes] = []
    after, more = b"", True
    while more:
        rows, more = decode_page(m.ask(Ask.PAGE, [after, 4, True]).result)
        assert 0 < len(rows) <= 4
        assert all(content[HEADER.size :] == key for key, content in rows)
        seen += [key for key, _ in rows]
        after = seen[-1]
    assert seen == names


def test_a_page_holds_as_many_bytes_as_it_may_but_always_one_entry(m: OnePartition) -> None:
    big = bytes(PAGE_BYTES_MAX * 2 // 3)
    for key in (b"a", b"b"):
        m.do(Op.PUT, [key], big)
    m.do(Op.PUT, [b"c"], bytes(VALUE_BYTES_MAX))
    rows, more = decode_page(m.ask(Ask.PAGE, [b"", 10, True]).result)
    assert ([key for key, _ in rows], more) == ([b"a"], True)
    rows, more = decode_page(m.ask(Ask.PAGE, [b"b", 10, True]).result)
    assert ([key for key, _ in rows], more) == ([b"c"], False)
    rows, more = decode_page(m.ask(Ask.PAGE, [b"", 10, False]).result)
    assert (len(rows), more) == (3, False)
    assert len(decode_series(m.ask(Ask.GET_MANY, [b"a", b"b", b"c"]).result)) == 1
    assert [row is None for row in decode_series(m.ask(Ask.GET_MANY, [b"x", b"a", b"y", b"b"]).result)] == [
        True, False, True,
    ]  # fmt: skip


def test_many_puts_take_effect_as_one_command_or_not_at_all(m: OnePartition) -> None:
    assert m.do(Op.PUT_MANY, [0, b"a", 1, b"b", 2, b"a", 1], b"1223").code == Code.OK
    assert (m.get(b"a"), m.get(b"b"), m.size()) == (b"3", b"22", 2)
    assert m.do(Op.PUT_MANY, [0, b"c", 1, b"d", 2], b"1").code == Code.BAD_REQUEST
    assert m.size() == 2
    args: list[Any] = [50]
    for n in range(PUT_MANY_MAX):
        args += (b"%d" % n, 1)
    assert m.do(Op.PUT_MANY, args, bytes(PUT_MANY_MAX)).code == Code.OK
    assert m.do(Op.PUT_MANY, args, bytes(PUT_MANY_MAX)).code == Code.OK
    assert m.size() == PUT_MANY_MAX + 2
    assert m.do(Op.PUT_MANY, [*args, b"x", 1], bytes(PUT_MANY_MAX + 1)).code == Code.TOO_LARGE
    m.group.advance(51)
    assert m.size() == 2


BAD_KEYS: list[Any] = [None, 7, "k", b"", bytes(KEY_BYTES_MAX + 2), [b"k"], {}]
BAD_COMMANDS: list[tuple[int, list[Any], bytes]] = [
    (0, [], b""), (99, [b"k"], b"v"), (255, [], b""),
    *[(Op.PUT, [key], b"v") for key in BAD_KEYS], *[(Op.REMOVE, [key], b"") for key in BAD_KEYS],
    *[(Op.INCREMENT, [key, 1], b"") for key in BAD_KEYS],
    *[(Op.COMPARE_AND_SET, [key, 0, 1], b"vw") for key in BAD_KEYS],
    *[(Op.PUT_MANY, [0, key, 1], b"v") for key in BAD_KEYS],
    (Op.PUT, [], b"v"), (Op.PUT, [b"k", 0], b"v"), (Op.PUT, [b"k"], b""), (Op.PUT, [b"k", 0, 0, 0, 0], b"v"),
    (Op.PUT, [b"k", -1, 0, 0], b"v"), (Op.PUT, [b"k", 1.0, 0, 0], b"v"), (Op.PUT, [b"k", True, 0, 0], b"v"),
    (Op.PUT, [b"k", TTL_MS_MAX + 1, 0, 0], b"v"), (Op.PUT, [b"k", 0, 32, 0], b"v"),
    (Op.PUT, [b"k", 1, 16, 0], b"v"),
    (Op.PUT, [b"k", 0, 2, -1], b"v"), (Op.PUT, [b"k", 0, 2, 2**63], b"v"), (Op.PUT, [b"k", 0, 2, None], b"v"),
    (Op.REMOVE, [], b""), (Op.REMOVE, [b"k", 2], b""), (Op.REMOVE, [b"k", "2", 0], b""),
    (Op.REMOVE, [b"k", 2, b""], b""), (Op.INCREMENT, [b"k"], b""), (Op.INCREMENT, [b"k", 2**63], b""),
    (Op.INCREMENT, [b"k", 1.5], b""), (Op.INCREMENT, [b"k", 1], b"v"), (Op.CLEAR, [1], b""),
    (Op.CLEAR, [], b"v"), (Op.COMPARE_AND_SET, [b"k", 0, 0], b"v"), (Op.COMPARE_AND_SET, [b"k", 0, 1], b"v"),
    (Op.COMPARE_AND_SET, [b"k", 0, 9], b"vw"), (Op.COMPARE_AND_SET, [b"k", 0], b"vw"),
    (Op.PUT_MANY, [], b""), (Op.PUT_MANY, [0, b"k"], b"v"), (Op.PUT_MANY, [0, b"k", -1], b"v"),
    (Op.PUT_MANY, [0, b"k", 0], b""), (Op.PUT_MANY, [0, b"k", 1, b"j", None], b"v"),
    (Op.PUT_MANY, [None, b"k", 1], b"v"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "args", "body"), BAD_COMMANDS)
def test_a_malformed_command_is_refused_and_changes_nothing(
    m: OnePartition, op: int, args: list[Any], body: bytes
) -> None:
    m.do(Op.PUT, [b"k"], encode_value(1))
    answer = m.do(op, args, body)
    assert (answer.code, bool(answer.result.decode())) == (Code.BAD_REQUEST, True)
    assert (m.keys(), m.get(b"k")) == ([b"k"], encode_value(1))


BAD_QUERIES: list[tuple[int, list[Any]]] = [
    (0, []), (99, [b"k"]), *[(Ask.GET, [key]) for key in BAD_KEYS], (Ask.GET, []), (Ask.GET, [b"k", b"k"]),
    (Ask.CONTAINS, []), (Ask.SIZE, [1]), (Ask.PAGE, []), (Ask.PAGE, [b"", 0, True]),
    (Ask.PAGE, [b"", 1001, True]), (Ask.PAGE, [b"", 1, 1]), (Ask.PAGE, ["", 1, True]),
    (Ask.PAGE, [bytes(2000), 1, True]), (Ask.GET_MANY, []), (Ask.GET_MANY, [b"k", None]),
    (Ask.GET_MANY, [b"k"] * 1001),
]  # fmt: skip


@pytest.mark.parametrize(("op", "args"), BAD_QUERIES)
def test_a_malformed_query_is_refused(m: OnePartition, op: int, args: list[Any]) -> None:
    answer = m.ask(op, args)
    assert (answer.code, bool(answer.result.decode())) == (Code.BAD_REQUEST, True)


def test_values_over_the_limit_are_refused(m: OnePartition) -> None:
    assert m.do(Op.PUT, [b"k"], bytes(VALUE_BYTES_MAX)).code == Code.OK
    assert m.do(Op.PUT, [b"k"], bytes(VALUE_BYTES_MAX + 1)).code == Code.TOO_LARGE
    assert m.do(Op.COMPARE_AND_SET, [b"k", 0, 5], bytes(VALUE_BYTES_MAX + 1)).code == Code.TOO_LARGE
    assert len(m.get(b"k") or b"") == VALUE_BYTES_MAX
