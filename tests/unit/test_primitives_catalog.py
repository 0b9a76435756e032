"""Names: one type and configuration each, pinned ones open at once, ids found again."""

from __future__ import annotations

from typing import Any

import pytest
from probe import Op, Probe
from support_machine import SLOT, Drive, Who

from primitives.catalog import CatalogOp, Found, create_arguments, decode_found
from primitives.errors import Code
from primitives.ids import CATALOG_ID, PrimitiveId, SlotId
from primitives.limits import PARTITIONS_DEFAULT, PARTITIONS_MAX
from primitives.records import Answer, Delete, Deleted, Type, encode_delete, encode_deleted
from primitives.registry import TYPES, handle, machines, names

PROBE = Probe.TYPE


def _create(
    group: Drive, who: Who, namespace: Any, name: Any, type: Any, partitions: Any, config: bytes | None = None
) -> Answer:
    args, body = create_arguments(namespace, name, type, partitions, config)
    answer = group.command(who, CATALOG_ID, CatalogOp.CREATE, args, body, type=Type.CATALOG)
    assert answer is not None
    return answer


def _ask(group: Drive, op: int, *args: Any) -> Answer:
    return group.query(CATALOG_ID, op, list(args), type=Type.CATALOG)


def _group() -> tuple[Drive, Who]:
    group = Drive({PROBE: Probe(), 201: Probe()})
    return group, group.session()


def test_an_id_is_the_names_slot_and_the_revision_of_the_creation() -> None:
    group, who = _group()
    answer = _create(group, who, "", "a", PROBE, 0)
    assert decode_found(answer.result) == Found(answer.revision, PROBE, 0, b"")


@pytest.mark.parametrize("config", [None, b"asked"])
def test_a_second_creation_finds_the_first(config: bytes | None) -> None:
    group, who = _group()
    first = _create(group, who, "", "a", PROBE, 4, config=b"asked")
    second = _create(group, group.session("other"), "", "a", PROBE, 4, config=config)
    assert second.code == Code.OK
    assert second.result == first.result


def test_an_opener_without_options_takes_what_is_there() -> None:
    group, who = _group()
    first = _create(group, who, "", "a", PROBE, 4, config=b"asked")
    assert _create(group, who, "", "a", PROBE, None).result == first.result
    assert _create(group, who, "", "a", PROBE, 0).result == first.result


def test_another_type_or_configuration_is_an_error_and_changes_nothing() -> None:
    group, who = _group()
    first = _create(group, who, "", "a", PROBE, 4, config=b"asked")
    assert _create(group, who, "", "a", 201, 4).code == Code.TYPE_MISMATCH
    assert _create(group, who, "", "a", PROBE, 4, config=b"other").code == Code.CONFIG_MISMATCH
    assert _create(group, who, "", "a", PROBE, 5, config=b"asked").code == Code.CONFIG_MISMATCH
    assert _create(group, who, "", "a", PROBE, None, config=b"asked").code == Code.CONFIG_MISMATCH
    assert _ask(group, CatalogOp.LOOKUP, "", "a").result == first.result


def test_without_a_number_a_primitive_gets_the_usual_partitions() -> None:
    group, who = _group()
    assert decode_found(_create(group, who, "", "a", PROBE, None).result).partitions == PARTITIONS_DEFAULT


def test_a_pinned_primitive_opens_with_its_name_and_a_spread_one_does_not() -> None:
    group, who = _group()
    pinned = PrimitiveId(SLOT, _create(group, who, "", "pinned", PROBE, 0).revision)
    spread = PrimitiveId(SLOT, _create(group, who, "", "spread", PROBE, 4).revision)
    assert group.applier.knows(SLOT, pinned, 0)
    assert not group.applier.knows(SLOT, pinned, 1)
    assert not group.applier.knows(SLOT, spread, 0)
    assert group.query(pinned, Op.GET, [b"opened"], type=PROBE).result == b"0"


def test_a_creation_whose_machine_fails_leaves_no_name() -> None:
    group, who = _group()
    answer = _create(group, who, "", "a", PROBE, 0, config=b"raise")
    assert answer.code == Code.MACHINE_FAILED
    assert _ask(group, CatalogOp.LOOKUP, "", "a").code == Code.CONDITION
    assert not group.applier.knows(SLOT, PrimitiveId(SLOT, answer.revision), 0)
    assert _create(group, who, "", "a", PROBE, 0).code == Code.OK


def test_names_and_ids_are_looked_up_across_a_reload() -> None:
    group, who = _group()
    created = _create(group, who, "space", "a", PROBE, 0, config=b"c")
    group.reload()
    assert _ask(group, CatalogOp.LOOKUP, "space", "a").result == created.result
    assert _ask(group, CatalogOp.LOOKUP_ID, created.revision).result == created.result
    assert _ask(group, CatalogOp.LOOKUP, "", "a").code == Code.CONDITION
    assert _ask(group, CatalogOp.LOOKUP_ID, created.revision + 1).code == Code.CONDITION


@pytest.mark.parametrize(
    "args",
    [
        ["", "", PROBE, 0], ["", "a\n", PROBE, 0], ["a\0b", "c", PROBE, 0], ["", "e\u0301", PROBE, 0],
        ["", "a" * 513, PROBE, 0], ["", b"a", PROBE, 0], ["", "a", PROBE, -1],
        ["", "a", PROBE, PARTITIONS_MAX + 1], ["", "a", PROBE, True], ["", "a", 99, 0], ["", "a", 99, 4],
        ["", "a", Type.CATALOG, 0], ["", "a", None, 0], [None, "a", PROBE, 0],
    ],
)  # fmt: skip
def test_a_creation_that_makes_no_sense_is_refused(args: list[Any]) -> None:
    group, who = _group()
    assert _create(group, who, *args).code == Code.BAD_REQUEST


def test_a_configuration_is_bounded() -> None:
    group, who = _group()
    assert _create(group, who, "", "a", PROBE, 0, config=b"x" * 20_000).code == Code.TOO_LARGE


def test_questions_that_make_no_sense_are_refused() -> None:
    group, _ = _group()
    for op, *args in ((99,), (CatalogOp.LOOKUP, "a"), (CatalogOp.LOOKUP, 1, 2), (CatalogOp.LOOKUP_ID, "a"),
                      (CatalogOp.LOOKUP_ID, -1), (CatalogOp.LIST, "", "", None, 1, 0),
                      (CatalogOp.LIST, "", "", "", 0, 0)):  # fmt: skip
        assert _ask(group, op, *args).code == Code.BAD_REQUEST


def test_each_registered_type_has_both_halves_under_one_number_and_name() -> None:
    built = machines()
    assert set(names()) | {Type.CATALOG} == set(built)
    for entry in TYPES:
        machine = built[handle(entry.name).TYPE]
        assert machine.NAME == handle(entry.name).NAME == entry.name
        assert machine.TYPE > Type.SYSTEM


def test_a_machine_that_fails_for_whoever_waits_for_a_name_keeps_neither_the_name_nor_the_others() -> None:
    group = Drive({Probe.TYPE: Probe()})
    who = group.session()
    primitive = group.create(who, "wide", Probe.TYPE, partitions=1)
    args = ["", "wide", Probe.TYPE]
    assert group.command(who, CATALOG_ID, CatalogOp.DELETE, args, type=Type.CATALOG) is None
    deletion = who.sequences[SLOT]
    for config in (b"raise", b"raise", b"fine", b"other"):
        create, body = create_arguments("", "wide", Probe.TYPE, 0, config)
        answer = group.command(
            who, CATALOG_ID, CatalogOp.CREATE, create, body, type=Type.CATALOG, acknowledged=0
        )
        assert answer is None
    group.one(encode_delete(Delete(SlotId(SLOT), primitive, 0)))
    ended = group.one(encode_deleted(Deleted(SlotId(SLOT), primitive.revision)))
    assert ended is not None
    assert ended.code == Code.OK
    codes = [group.late[who.number, SLOT, deletion + number].code for number in range(5)]
    failed = Code.MACHINE_FAILED
    assert codes == [Code.OK, failed, failed, Code.OK, Code.CONFIG_MISMATCH]
    again = group.one(encode_deleted(Deleted(SlotId(SLOT), primitive.revision)))
    assert again is not None
    assert again.code == Code.OK
    made = decode_found(group.late[who.number, SLOT, deletion + 3].result)
    group.flush()
    group.reload()
    assert group.create(who, "wide", Probe.TYPE).revision == made.revision
