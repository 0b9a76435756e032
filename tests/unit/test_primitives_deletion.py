"""Deletion of primitives as replicated state, and listings of what is there."""

from __future__ import annotations

import pytest
from local_group import Group, Session, create, slot_of

from primitives.catalog import DELETING_WAITERS_MAX, CatalogOp, decode_found, decode_listed
from primitives.codec import encode_key
from primitives.counter import Counter
from primitives.deleting import RETRY_MS
from primitives.election import Election
from primitives.errors import Code
from primitives.ids import CATALOG_ID, GROUP_SLOT, PrimitiveId, SlotId
from primitives.layout import HOST_ID, TARGET, HostTable, host_prefix
from primitives.lock import Lock
from primitives.map import Map
from primitives.records import (
    Answer,
    Delete,
    Deleted,
    Open,
    Type,
    decode_answer,
    encode_delete,
    encode_deleted,
    encode_open,
)
from primitives.watch import EventKind

PUT, GET = 1, 1
ACQUIRE = 1


def delete(session: Session, name: str, type: int) -> int:
    """Number of the command; its slot is the name's."""
    slot = slot_of("", name)
    return session.send(slot, CATALOG_ID, 0, Type.CATALOG, CatalogOp.DELETE, ["", name, type], keep=True)


def lookup(group: Group, name: str) -> Answer:
    slot = slot_of("", name)
    return group.query(slot, CATALOG_ID, 0, Type.CATALOG, CatalogOp.LOOKUP, ["", name])


def listed(group: Group, prefix: str = "", after: str = "", limit: int = 100, type: int = 0) -> Answer:
    args = ["", prefix, after, limit, type]
    return group.query(GROUP_SLOT, CATALOG_ID, 0, Type.CATALOG, CatalogOp.LIST, args)


def one(group: Group, record: bytes) -> Answer:
    (answer,) = group.apply(record)
    assert answer is not None
    return decode_answer(answer)


def opened(group: Group, session: Session, name: str, partitions: int) -> tuple[SlotId, PrimitiveId]:
    """A spread map with all partitions open, each in a slot of its own."""
    slot, primitive = create(session, name, Map.TYPE, partitions)
    for partition in range(partitions):
        record = Open(place(name, partition), primitive, partition, Map.TYPE, group.applier.revision, b"")
        assert one(group, encode_open(record)).code == Code.OK
    return slot, primitive


def place(name: str, partition: int) -> SlotId:
    return slot_of(name, partition)


def put(session: Session, slot: int, primitive: PrimitiveId, partition: int, key: str) -> Answer:
    at = session.send(slot, primitive, partition, Map.TYPE, PUT, [encode_key(key)], b"\x01")
    return session.answers[slot, at]


def rows_of(group: Group, slot: int, primitive: PrimitiveId, partition: int) -> list[bytes]:
    """Every row that is left of a partition: its own, its instance's, its history's, its holdings'."""
    target = TARGET.pack(slot, *primitive, partition)
    own = TARGET.pack(0, *primitive, partition)[2:]
    host = TARGET.pack(slot, *HOST_ID, 0)
    return [
        key for key in group.state() if key.startswith(target) or (key.startswith(host) and own in key[15:])
    ]


def test_a_pinned_primitive_goes_with_its_name_and_all_that_it_had() -> None:
    group = Group(flush_every=3)
    who = Session(group)
    slot, primitive = create(who, "few", Map.TYPE)
    for number in range(700):
        assert put(who, slot, primitive, 0, f"key{number}").code == Code.OK
    at = delete(who, "few", Map.TYPE)
    assert who.answers[slot, at].code == Code.OK
    assert put(who, slot, primitive, 0, "late").code == Code.UNKNOWN_PRIMITIVE
    assert lookup(group, "few").code == Code.CONDITION
    assert decode_listed(listed(group).result) == ([], "")
    group.settle()
    assert rows_of(group, slot, primitive, 0) == []
    assert who.answers[slot, delete(who, "few", Map.TYPE)].code == Code.CONDITION
    again = create(who, "few", Map.TYPE)[1]
    assert again.revision > primitive.revision
    assert group.query(slot, again, 0, Map.TYPE, GET, [encode_key("key1")]).code == Code.CONDITION


def test_deletions_do_not_depend_on_what_was_written_when() -> None:
    states = []
    for flush_every in (1, 4, 10_000):
        group = Group(flush_every=flush_every)
        who = Session(group)
        slot, primitive = create(who, "few", Map.TYPE)
        for number in range(600):
            put(who, slot, primitive, 0, f"key{number}")
        delete(who, "few", Map.TYPE)
        entries = group.settle()
        states.append((entries, group.applier.revision, group.state()))
    assert states[0] == states[1] == states[2]


def test_a_name_is_free_once_each_partition_is_deleted_and_the_caller_hears_it_then() -> None:
    group = Group()
    who, other, third = Session(group), Session(group), Session(group)
    slot, primitive = opened(group, who, "wide", 3)
    for partition in range(3):
        assert put(who, place("wide", partition), primitive, partition, "k").code == Code.OK
    first, second = delete(who, "wide", Map.TYPE), delete(other, "wide", Map.TYPE)
    assert (slot, first) not in who.answers
    found = decode_found(lookup(group, "wide").result)
    assert found.deleting
    assert found.partitions == 3
    by_id = group.query(slot, CATALOG_ID, 0, Type.CATALOG, CatalogOp.LOOKUP_ID, [primitive.revision])
    assert by_id.code == Code.CONDITION, "nothing of it opens any more"
    args = ["", "wide", Counter.TYPE, None, False]
    creation = third.send(slot, CATALOG_ID, 0, Type.CATALOG, CatalogOp.CREATE, args)
    assert (slot, creation) not in third.answers
    group.settle()
    assert group.applier.deletions == {primitive: 3}
    for partition in range(3):
        record = Delete(place("wide", partition), primitive, partition)
        assert one(group, encode_delete(record)).code == Code.OK
        assert put(who, record.slot, primitive, partition, "late").code == Code.UNKNOWN_PRIMITIVE
    group.apply(encode_deleted(Deleted(slot, primitive.revision)))
    assert who.answers[slot, first].code == Code.OK
    assert other.answers[slot, second].code == Code.CONDITION
    made = decode_found(third.answers[slot, creation].result)
    assert (made.type, made.deleting) == (Counter.TYPE, False)
    assert made.revision > primitive.revision
    group.settle()
    for partition in range(3):
        assert rows_of(group, place("wide", partition), primitive, partition) == []
    group.apply(encode_deleted(Deleted(slot, primitive.revision)))
    assert decode_found(lookup(group, "wide").result) == made, "a repeated end does nothing"


def test_a_deletion_is_told_to_whoever_leads_until_it_is_over() -> None:
    group = Group()
    who = Session(group)
    slot, primitive = opened(group, who, "wide", 2)
    delete(who, "wide", Map.TYPE)
    group.settle()
    for _ in range(3):
        assert group.applier.deletions.pop(primitive) == 2
        group.settle()
        assert not group.applier.deletions
        group.advance(RETRY_MS)
    group.apply(encode_deleted(Deleted(slot, primitive.revision)))
    group.applier.deletions.clear()
    group.advance(RETRY_MS)
    assert not group.applier.deletions
    assert group.applier.next_deadline_ms is None or group.applier.next_deadline_ms > group.now_ms + RETRY_MS


def test_an_opening_that_was_asked_for_before_the_deletion_is_refused() -> None:
    group = Group()
    who = Session(group)
    _, primitive = create(who, "wide", Map.TYPE, 2)
    asked = group.applier.revision
    slot = place("wide", 0)
    assert one(group, encode_delete(Delete(slot, primitive, 0))).code == Code.OK
    late = Open(slot, primitive, 0, Map.TYPE, asked, b"")
    assert one(group, encode_open(late)).code == Code.UNKNOWN_PRIMITIVE
    assert one(group, encode_delete(Delete(SlotId(99), primitive, 0))).code == Code.WRONG_SLOT
    assert one(group, encode_delete(Delete(slot, CATALOG_ID, 0))).code == Code.BAD_REQUEST


def test_those_who_wait_for_a_deleted_primitive_are_answered_and_holdings_are_void() -> None:
    group = Group()
    sessions = [Session(group) for _ in range(400)]
    slot, primitive = create(sessions[0], "guard", Lock.TYPE)
    numbers = [one.send(slot, primitive, 0, Lock.TYPE, ACQUIRE, [], keep=True) for one in sessions]
    assert sessions[0].answers[slot, numbers[0]].code == Code.OK
    assert (slot, numbers[1]) not in sessions[1].answers
    delete(sessions[0], "guard", Lock.TYPE)
    group.settle()
    for session, number in list(zip(sessions, numbers, strict=True))[1:]:
        assert session.answers[slot, number].code == Code.UNKNOWN_PRIMITIVE
    assert rows_of(group, slot, primitive, 0) == []
    sessions[0].expire()
    group.settle()
    holdings = host_prefix(slot, HostTable.HOLDING)
    assert not [key for key in group.state() if key.startswith(holdings)]


def test_whoever_watches_a_primitive_is_told_that_it_is_deleted() -> None:
    group = Group()
    who = Session(group)
    slot, primitive = create(who, "few", Map.TYPE)
    target = TARGET.pack(slot, *primitive, 0)
    group.applier.watched.add(target)
    events = []
    apply = group.applier.apply
    group.applier.apply = lambda *args: _kept(apply(*args), events)  # type: ignore[method-assign]
    put(who, slot, primitive, 0, "k")
    delete(who, "few", Map.TYPE)
    assert [(target_, row[0]) for target_, _, row in events] == [
        (target, EventKind.PUT), (target, EventKind.DELETED),
    ]  # fmt: skip


def _kept(applied: object, events: list[tuple[bytes, bytes, bytes]]) -> object:
    events.extend(applied.events)  # type: ignore[attr-defined]
    return applied


def test_a_name_of_another_type_is_refused_and_both_types_are_named() -> None:
    group = Group()
    who = Session(group)
    slot, _ = create(who, "few", Map.TYPE)
    refused = who.answers[slot, delete(who, "few", Counter.TYPE)]
    assert (refused.code, refused.result) == (Code.TYPE_MISMATCH, b"'few' exists as a map, not as a counter")
    args = ["", "few", Lock.TYPE, 0, False]
    at = who.send(slot, CATALOG_ID, 0, Type.CATALOG, CatalogOp.CREATE, args)
    assert who.answers[slot, at].result == b"'few' exists as a map, not as a lock"
    args = ["", "few", Election.TYPE, 0, False]
    at = who.send(slot, CATALOG_ID, 0, Type.CATALOG, CatalogOp.CREATE, args)
    assert who.answers[slot, at].result == b"'few' exists as a map, not as an election"


def test_no_more_than_a_bounded_number_wait_for_a_deletion_and_all_are_answered() -> None:
    group = Group()
    who = Session(group)
    slot, primitive = opened(group, who, "wide", 1)
    numbers = [delete(who, "wide", Map.TYPE) for _ in range(DELETING_WAITERS_MAX + 1)]
    assert who.answers[slot, numbers[-1]].code == Code.OVERLOADED
    assert who.withdraw(slot, numbers[1]).code == Code.OK
    group.apply(encode_deleted(Deleted(slot, primitive.revision)))
    codes = [who.answers[slot, number].code for number in numbers]
    assert codes[:3] == [Code.OK, Code.WITHDRAWN, Code.CONDITION]
    assert set(codes[2:-1]) == {Code.CONDITION}
    assert lookup(group, "wide").code == Code.CONDITION


@pytest.mark.parametrize("args", [[], ["", "a"], ["", "a\n", 16], ["", "a", "map"], ["", 7, 16]])
def test_a_deletion_that_makes_no_sense_is_refused(args: list[object]) -> None:
    group = Group()
    who = Session(group)
    at = who.send(1, CATALOG_ID, 0, Type.CATALOG, CatalogOp.DELETE, args)
    assert who.answers[1, at].code == Code.BAD_REQUEST


def test_names_of_a_group_are_listed_in_pages_by_prefix_and_type() -> None:
    group = Group()
    who = Session(group)
    for name in ("b/2", "a", "b/1", "c", "b/3"):
        create(who, name, Map.TYPE)
    slot, primitive = create(who, "b/c", Counter.TYPE, 4)
    seen: list[str] = []
    after, calls = "", 0
    while calls == 0 or after:
        page, after = decode_listed(listed(group, "b/", after, 2).result)
        assert len(page) <= 2
        seen += [found.name for found in page]
        calls += 1
    assert seen == ["b/1", "b/2", "b/3", "b/c"]
    everything, _ = decode_listed(listed(group).result)
    assert [found.name for found in everything] == ["a", "b/1", "b/2", "b/3", "b/c", "c"]
    counters, _ = decode_listed(listed(group, type=Counter.TYPE).result)
    assert counters == [("b/c", slot, primitive.revision, Counter.TYPE, 4)]
    assert listed(group, limit=0).code == Code.BAD_REQUEST
