"""What an applier does with entries beyond sessions' numbers: revisions, log time, slots, failures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from probe import Op, Probe, code_of, data_of, probed
from support_machine import SLOT, Drive, MemoryRows

from primitives.applier import INCARNATION_SHIFT, Applier, ApplierLimits
from primitives.errors import Code, InvariantViolation
from primitives.ids import CATALOG_ID, GROUP_SLOT, GroupId, PrimitiveId, Revision, SlotId
from primitives.layout import INTERNAL_ID, HostTable, host_prefix
from primitives.machine import OK, Context, Machine, Result, View
from primitives.records import (
    U64,
    BadRecord,
    Internal,
    Marker,
    Type,
    decode_answer,
    decode_record,
    encode_entry,
    encode_internal,
    encode_marker,
)

PROBE = Probe.TYPE


# -- revisions, log time -------------------------------------------------------------------------------------


def test_each_record_counts_one_revision_refused_or_not_and_queries_none() -> None:
    group, who, probe = probed()
    before = group.applier.revision
    group.entry(
        group.record(who, probe, Op.PUT, [b"k", b"v"], type=PROBE),
        group.record(who, probe, Op.PUT, [b"k", b"v"], type=PROBE, sequence=99),
        encode_marker(Marker(b"nonce")),
    )
    data_of(group, probe)
    assert group.applier.revision == before + 3
    assert group.last.markers == [(b"nonce", before + 3)]


def test_revisions_begin_with_the_incarnation() -> None:
    applier = Applier(GroupId(1), MemoryRows(), {})
    applier.initialize([SLOT], incarnation=3)
    assert applier.revision == 3 << INCARNATION_SHIFT


def test_log_time_comes_from_the_entry_and_never_goes_back() -> None:
    group = Drive({})
    for time_ms, expected_ms in ((5000, 5000), (4000, 5000), (6000, 6000)):
        group.applier.apply(encode_entry(time_ms, []))
        assert group.applier.log_time_ms == expected_ms
        group.reload()
        assert group.applier.log_time_ms == expected_ms


def test_records_decoded_by_the_proposer_and_here_come_to_the_same() -> None:
    groups = [probed() for _ in range(2)]
    for at, (group, who, probe) in enumerate(groups):
        record = group.record(who, probe, Op.PUT, [b"k", b"v"], type=PROBE)
        data = encode_entry(2000, [record])
        group.last = group.applier.apply(data, [decode_record(record)] if at else None)
    assert groups[0][0].last == groups[1][0].last
    assert groups[0][0].state() == groups[1][0].state()


def test_an_entry_with_a_bad_record_changes_nothing() -> None:
    group, who, probe = probed()
    before = group.applier.revision
    record = group.record(who, probe, Op.PUT, [b"k", b"v"], type=PROBE)
    for bad in (b"", b"\xff", b"\x01short", record[:60]):
        with pytest.raises(BadRecord):
            group.applier.apply(encode_entry(9000, [record, bad]))
    assert group.applier.revision == before
    assert group.applier.log_time_ms == group.now_ms


# -- slots, types, opening -----------------------------------------------------------------------------------


def test_the_slots_epoch_is_checked_when_applied_and_when_asked_lower_and_higher_alike() -> None:
    group, who, probe = probed()
    for slot, epoch in ((SLOT, 0), (SLOT, 2), (8, 1), (GROUP_SLOT, 0)):
        answer = group.command(
            who, probe, Op.PUT, [b"k", b"v"], type=PROBE, slot=slot, epoch=epoch, sequence=2
        )
        assert answer is not None
        assert answer.code == Code.WRONG_SLOT
        if slot != GROUP_SLOT:
            asked = group.query(probe, Op.GET, [b"k"], type=PROBE, slot=slot, epoch=epoch)
            assert asked.code == Code.WRONG_SLOT
    assert code_of(group, who, probe, Op.PUT, [b"k", b"v"]) == Code.OK
    assert group.applier.owns(SLOT, 1)
    assert not group.applier.owns(SLOT, 2)
    assert group.applier.owns(GROUP_SLOT, 0)
    assert not group.applier.owns(GROUP_SLOT, 1)


def test_ownership_survives_a_reload() -> None:
    group, _, _ = probed()
    version = group.applier.ownership_version
    group.reload()
    assert group.applier.owns(SLOT, 1)
    assert group.applier.ownership_version == version


def test_an_unknown_primitive_is_told_and_takes_the_number() -> None:
    group, who, _ = probed()
    unknown = PrimitiveId(SLOT, Revision(12345))
    record = group.record(who, unknown, Op.PUT, [b"k", b"v"], type=PROBE)
    answer = group.one(record)
    assert answer is not None
    assert answer.code == Code.UNKNOWN_PRIMITIVE
    assert group.one(record) == answer
    assert group.query(unknown, Op.GET, [b"k"], type=PROBE).code == Code.UNKNOWN_PRIMITIVE


def test_another_type_is_told_and_takes_the_number() -> None:
    group, who, probe = probed()
    answer = group.command(who, probe, Op.PUT, [b"k", b"v"], type=77)
    assert answer is not None
    assert answer.code == Code.TYPE_MISMATCH
    assert group.query(probe, Op.GET, [b"k"], type=77).code == Code.TYPE_MISMATCH
    assert code_of(group, who, probe, Op.PUT, [b"k", b"v"]) == Code.OK


def test_a_partition_opens_once_and_its_machine_begins() -> None:
    group, _, _ = probed()
    primitive = PrimitiveId(SlotId(3), Revision(50))
    assert not group.applier.knows(SLOT, primitive, 4)
    for _ in range(2):
        assert group.open(primitive, PROBE, 4).code == Code.OK
    assert group.applier.knows(SLOT, primitive, 4)
    assert not group.applier.knows(SLOT, primitive, 5)
    group.reload()
    assert group.applier.knows(SLOT, primitive, 4)
    assert group.query(primitive, Op.GET, [b"opened"], type=PROBE, partition=4).result == b"4"


def test_an_open_is_refused_after_a_deletion_in_the_slot_since_it_was_asked() -> None:
    group, _, _ = probed()
    group.flush()
    deleted = group.applier.revision
    group.rows.put(host_prefix(SLOT, HostTable.DELETED), U64.pack(deleted))
    group.reload()
    primitive = PrimitiveId(SlotId(3), Revision(50))
    assert group.open(primitive, PROBE, asked=deleted - 1).code == Code.UNKNOWN_PRIMITIVE
    assert not group.applier.knows(SLOT, primitive, 0)
    assert group.open(primitive, PROBE, asked=deleted).code == Code.OK


def test_opens_of_no_use_are_refused() -> None:
    group, _, _ = probed()
    primitive = PrimitiveId(SlotId(3), Revision(50))
    assert group.open(primitive, 99).code == Code.BAD_REQUEST
    assert group.open(primitive, Type.CATALOG).code == Code.BAD_REQUEST
    assert group.open(PrimitiveId(GROUP_SLOT, Revision(1)), PROBE).code == Code.BAD_REQUEST
    assert group.open(primitive, PROBE, slot=8).code == Code.WRONG_SLOT
    assert group.open(primitive, PROBE, config=b"raise").code == Code.MACHINE_FAILED
    assert not group.applier.knows(SLOT, primitive, 0)
    assert group.open(primitive, PROBE).code == Code.OK
    assert group.open(primitive, 99).code == Code.TYPE_MISMATCH


def test_each_owned_slot_has_a_catalog_and_the_group_one_for_all() -> None:
    group, _, _ = probed()
    assert group.applier.knows(SLOT, CATALOG_ID, 0)
    assert not group.applier.knows(SLOT, CATALOG_ID, 1)
    assert group.applier.knows(GROUP_SLOT, CATALOG_ID, 0)
    assert not group.applier.knows(GROUP_SLOT, CATALOG_ID, 1)


class System(Machine):
    """Notes what it is told."""

    TYPE = Type.SYSTEM
    NAME = "system"

    def apply(self, ctx: Context, op: int, args: list[Any], body: bytes) -> Result:
        assert (ctx.session, ctx.sequence, ctx.primitive, ctx.partition) == (0, 0, INTERNAL_ID, 0)
        if op == 9:
            raise ValueError
        ctx.table(0).put(b"told", body)
        return Code.OK, bytes(args[0])

    def query(self, view: View, op: int, args: list[Any], body: bytes) -> Result:
        return Code.OK, view.view(0).get(b"told") or b""


def test_internal_records_go_to_the_groups_machine_outside_any_session() -> None:
    group = Drive({Type.SYSTEM: System()})
    answer = group.one(encode_internal(Internal(Type.SYSTEM, 1, [b"back"], b"body")))
    assert answer == (Code.OK, group.applier.revision, b"back")
    told = group.query(INTERNAL_ID, 1, type=Type.SYSTEM, slot=GROUP_SLOT, epoch=0)
    assert told.result == b"body"
    failed = group.one(encode_internal(Internal(Type.SYSTEM, 9, [], b"")))
    assert failed is not None
    assert failed.code == Code.MACHINE_FAILED
    other = group.one(encode_internal(Internal(PROBE, 1, [], b"")))
    assert other is not None
    assert other.code == Code.BAD_REQUEST


def test_a_session_cannot_command_the_groups_own_machine() -> None:
    group = Drive({Type.SYSTEM: System()})
    who = group.session()
    for slot in (GROUP_SLOT, SLOT):
        answer = group.command(who, INTERNAL_ID, 1, [b""], type=Type.SYSTEM, slot=slot, epoch=slot == SLOT)
        assert answer is not None
        assert answer.code in (Code.WRONG_SLOT, Code.UNKNOWN_PRIMITIVE)


# -- failures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", [Op.RAISE, Op.LATE_RAISE])
@pytest.mark.parametrize("writes", [0, 1, 2, 3, 8])
def test_a_command_that_raises_leaves_nothing_but_its_error(op: int, writes: int) -> None:
    group, who, probe = probed()
    other = group.session("other")
    group.command(other, probe, Op.WAIT, type=PROBE)
    code_of(group, who, probe, Op.PUT, [b"a0", b"old", b"a2", b"old"])
    twin, twin_who, twin_probe = probed()
    twin.command(twin.session("other"), twin_probe, Op.WAIT, type=PROBE)
    code_of(twin, twin_who, twin_probe, Op.PUT, [b"a0", b"old", b"a2", b"old"])
    for each, asker, there, told in ((group, who, probe, op), (twin, twin_who, twin_probe, Op.RESULT)):
        args = [writes, "value"] if told == op else ["none"]
        answer = each.command(asker, there, told, args, type=PROBE)
        assert answer is not None
        assert answer.code == Code.MACHINE_FAILED
    assert group.late == {}
    assert group.applier.next_deadline_ms is None
    assert group.state() == twin.state()
    assert code_of(group, who, probe, Op.WAKE, [1]) == Code.OK
    assert len(group.late) == 1


def test_a_retry_of_a_failed_command_gets_its_failure() -> None:
    group, who, probe = probed()
    record = group.record(who, probe, Op.RAISE, [1, "value"], type=PROBE)
    assert group.one(record) == group.one(record)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("refused", Code.OVERFLOW), ("none", Code.MACHINE_FAILED), ("text", Code.MACHINE_FAILED),
        ("code", Code.MACHINE_FAILED), ("pending", Code.MACHINE_FAILED), ("three", Code.MACHINE_FAILED),
    ],
)  # fmt: skip
def test_a_refusal_or_a_result_of_no_use_undoes_what_was_written(name: str, code: int) -> None:
    group, who, probe = probed()
    assert code_of(group, who, probe, Op.RESULT, [name]) == code
    assert b"result" not in data_of(group, probe)


def test_an_unmet_condition_is_no_failure() -> None:
    group, who, probe = probed()
    assert code_of(group, who, probe, Op.RESULT, ["condition"]) == Code.CONDITION
    assert b"result=written" in data_of(group, probe)


@pytest.mark.parametrize(
    ("kind", "error"),
    [("memory", MemoryError), ("recursion", RecursionError), ("invariant", InvariantViolation)],
)
def test_what_must_stop_the_node_is_no_replicated_failure(kind: str, error: type[BaseException]) -> None:
    group, who, probe = probed()
    with pytest.raises(error):
        group.command(who, probe, Op.RAISE, [2, kind], type=PROBE)


class BrokenError(Exception):
    """What a store raises."""


class BrokenRows(MemoryRows):
    """Fails where it is told to."""

    broken = False

    def get(self, key: bytes) -> bytes | None:
        if self.broken and key.endswith(b"broken"):
            raise BrokenError
        return super().get(key)

    def scan(
        self, start: bytes, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        if self.broken:
            raise BrokenError
        return super().scan(start, end, reverse=reverse)


@pytest.mark.parametrize("op", [Op.SWALLOW, Op.WAKE])
def test_an_error_of_the_store_goes_on_whatever_the_machine_catches(op: int) -> None:
    rows = BrokenRows()
    group = Drive({PROBE: Probe()}, rows=rows)
    who = group.session()
    probe = group.create(who, "probe", PROBE)
    rows.broken = True
    with pytest.raises(BrokenError):
        group.command(who, probe, op, [b"broken"] if op == Op.SWALLOW else [1], type=PROBE)
    with pytest.raises(BrokenError):
        group.query(probe, Op.GET, [b"broken"], type=PROBE)


def test_a_command_touches_a_bounded_number_of_rows() -> None:
    group, who, probe = probed(limits=ApplierLimits(rows_a_command_max=10))
    assert code_of(group, who, probe, Op.WRITE, [10]) == Code.OK
    rows = data_of(group, probe)
    assert code_of(group, who, probe, Op.WRITE, [11]) == Code.MACHINE_FAILED
    assert data_of(group, probe) == rows
    for at in range(60):
        code_of(group, who, probe, Op.PUT, [b"row%d" % at, b""])
    assert len(data_of(group, probe).split(b",")) > 60


def test_a_query_that_writes_or_raises_fails_and_changes_nothing() -> None:
    group, _, probe = probed()
    rows = data_of(group, probe)
    assert group.query(probe, Op.PUT, type=PROBE).code == Code.MACHINE_FAILED
    assert group.query(probe, 99, type=PROBE).code == Code.MACHINE_FAILED
    assert data_of(group, probe) == rows


def test_an_answers_bytes_are_those_given_out() -> None:
    group, who, probe = probed()
    record = group.record(who, probe, Op.PUT, [b"k", b"v"], type=PROBE)
    applied = group.applier.apply(encode_entry(1000, [record, record]))
    assert applied.answers[0] == applied.answers[1]
    assert applied.answers[0] is not None
    assert decode_answer(applied.answers[0]).code == OK[0]
