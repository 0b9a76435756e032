"""The peer protocol's bytes: what is encoded comes back, and nothing else gets through."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primitives.errors import InvariantViolation, ProtocolError
from primitives.ids import GroupId, NodeId
from primitives.limits import PEER_FRAME_BYTES_MAX
from primitives.records import encode_answer
from raftgroup.types import Entry, EntryKind, Index, Message, MessageKind, ReplicaId, Term
from shards.outbox import Outbox
from shards.peerwire import (
    SectionKind,
    are_alike,
    decode_answer_section,
    decode_beats,
    decode_forward_section,
    decode_raft,
    encode_answer_section,
    encode_beat,
    encode_forward_section,
    encode_raft,
    frame,
    readdressed,
    section,
    sections,
)

u64 = st.integers(0, 2**64 - 1)
FIELDS = (
    "kind", "sender", "receiver", "term", "index", "log_term", "commit", "reject", "hint", "context", "clock",
)  # fmt: skip


def only_section(data: bytes) -> tuple[int, bytes]:
    [found] = sections(data)
    return found


def an_append(*datas: bytes, previous: int = 7) -> Message:
    entries = [
        Entry(Term(3), Index(previous + 1 + at), EntryKind.NORMAL, data) for at, data in enumerate(datas)
    ]
    return Message(
        MessageKind.APPEND, ReplicaId(1), ReplicaId(2), Term(3), index=Index(previous), entries=entries
    )


def altered(message: Message, name: str, value: Any) -> Message:
    """A copy of a message with another value of one field."""
    fields = {field: getattr(message, field) for field in (*FIELDS, "entries")} | {name: value}
    return Message(**fields)


@given(
    kind=st.integers(MessageKind.PRE_VOTE, MessageKind.SNAPSHOT), sender=u64, receiver=u64, term=u64,
    index=u64, log_term=u64, commit=u64, reject=st.booleans(), hint=u64, context=u64, clock=u64,
    group=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_every_field_of_a_message_comes_back(group: int, **fields: int) -> None:
    kind, sender, receiver, term = (fields.pop(name) for name in ("kind", "sender", "receiver", "term"))
    message = Message(kind, ReplicaId(sender), ReplicaId(receiver), Term(term), **fields)  # type: ignore[arg-type]  # ints stand for their NewTypes
    section_kind, payload = only_section(encode_raft(GroupId(group), message))
    found_group, found = decode_raft(payload)
    assert (section_kind, found_group) == (SectionKind.RAFT, group)
    for name in FIELDS:
        assert getattr(found, name) == getattr(message, name), name
    assert found.entries == ()


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=20), st.integers(0, 2**40))
def test_entries_come_back_with_their_stored_records(datas: list[bytes], previous: int) -> None:
    message = an_append(*datas, previous=previous)
    _, payload = only_section(encode_raft(GroupId(5), message))
    _, found = decode_raft(payload)
    assert [(e.term, e.index, e.kind, e.data) for e in found.entries] == [
        (e.term, e.index, e.kind, e.data) for e in message.entries
    ]
    assert [e.record for e in found.entries] == [e.record for e in message.entries]
    assert all(e.record for e in found.entries)


def test_an_entry_is_encoded_once_for_all_its_receivers() -> None:
    message = an_append(b"one")
    first = encode_raft(GroupId(1), message)
    record = message.entries[0].record
    assert encode_raft(GroupId(1), message) == first
    assert message.entries[0].record is record


@given(st.lists(st.binary(max_size=9), max_size=3), u64)
def test_a_message_for_another_receiver_is_the_same_but_for_that(datas: list[bytes], receiver: int) -> None:
    sent = an_append(*datas)
    other = altered(sent, "receiver", receiver)
    assert are_alike(sent, other)
    assert readdressed(encode_raft(GroupId(5), sent), ReplicaId(receiver)) == encode_raft(GroupId(5), other)


@pytest.mark.parametrize("name", [*(name for name in FIELDS if name != "receiver"), "entries"])
def test_messages_that_differ_in_more_than_the_receiver_are_not_alike(name: str) -> None:
    sent = an_append(b"a", b"b")
    others: list[Any] = [an_append(b"a", b"b").entries, sent.entries[:1]] if name == "entries" else [99]
    for other in others:
        assert not are_alike(sent, altered(sent, name, other))
        assert not are_alike(altered(sent, name, other), sent)


def test_what_goes_to_several_followers_is_for_each_what_it_would_be_alone() -> None:
    out = Outbox(NodeId(9), 64)
    sent = an_append(b"a")
    messages = [
        (2, 5, sent), (3, 5, altered(sent, "receiver", 3)), (2, 6, sent), (3, 6, altered(sent, "commit", 4)),
        (2, 6, an_append()), (3, 6, altered(an_append(), "receiver", 3)),
    ]  # fmt: skip
    for node, group, message in messages:
        out.raft(NodeId(node), GroupId(group), message)
    peers = out.take_peers()
    for node in (2, 3):
        assert [data for _, data in peers[NodeId(node)]] == [
            encode_raft(GroupId(group), message) for to, group, message in messages if to == node
        ]


def test_any_single_bit_that_flips_in_a_record_is_refused() -> None:
    payload = only_section(encode_raft(GroupId(1), an_append(b"abcdef")))[1]
    start = len(payload) - len(b"abcdef") - 21
    for bit in range(8 * start, 8 * len(payload)):
        wrong = bytearray(payload)
        wrong[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProtocolError):
            decode_raft(bytes(wrong))


def test_a_message_cut_anywhere_or_extended_is_refused() -> None:
    for message in (an_append(b"abc", b"de"), an_append()):
        payload = only_section(encode_raft(GroupId(1), message))[1]
        for size in range(len(payload)):
            with pytest.raises(ProtocolError):
                decode_raft(payload[:size])
        with pytest.raises(ProtocolError):
            decode_raft(payload + b"\0")


def test_entries_that_do_not_follow_the_previous_index_are_refused() -> None:
    message = an_append(b"a", b"b")
    gap = Message(
        MessageKind.APPEND, ReplicaId(1), ReplicaId(2), Term(3), index=Index(6), entries=message.entries
    )
    with pytest.raises(ProtocolError, match="entry 8 where 7"):
        decode_raft(only_section(encode_raft(GroupId(1), gap))[1])


def test_entries_in_another_message_than_an_append_are_refused() -> None:
    message = Message(
        MessageKind.HEARTBEAT, ReplicaId(1), ReplicaId(2), Term(3), index=Index(7),
        entries=an_append(b"a").entries,
    )  # fmt: skip
    with pytest.raises(ProtocolError, match="entries in"):
        decode_raft(only_section(encode_raft(GroupId(1), message))[1])


@pytest.mark.parametrize(("at", "value"), [(4, 0), (4, 11), (5, 2)])
def test_unknown_kinds_and_flags_are_refused(at: int, value: int) -> None:
    payload = bytearray(only_section(encode_raft(GroupId(1), an_append()))[1])
    payload[at] = value
    with pytest.raises(ProtocolError, match="unknown kind"):
        decode_raft(bytes(payload))


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=10))
def test_sections_of_a_frame_come_back_in_order(parts: list[tuple[int, bytes]]) -> None:
    payload = b"".join(section(kind, data) for kind, data in parts)
    assert list(sections(payload)) == parts


def test_a_section_that_runs_beyond_its_frame_is_refused_after_those_before_it() -> None:
    whole = section(9, b"first")
    for rest in (b"\1", section(9, b"second")[:-1]):
        found = sections(whole + rest)
        assert next(found) == (9, b"first")
        with pytest.raises(ProtocolError):
            next(found)


@given(st.binary(max_size=200))
def test_garbage_raises_nothing_but_protocol_errors(data: bytes) -> None:
    decoders: list[Callable[[bytes], object]] = [
        decode_raft, decode_forward_section, decode_answer_section, lambda payload: list(sections(payload)),
    ]  # fmt: skip
    for decode in decoders:
        try:
            decode(data)
        except ProtocolError:
            continue


@given(st.integers(-(2**63), 2**63 - 1), u64, st.integers(0, 2**32 - 1), st.binary(max_size=50))
def test_operations_passed_on_and_their_answers_come_back(
    connection: int, request_id: int, group: int, data: bytes
) -> None:
    kind, payload = only_section(encode_forward_section(connection, request_id, GroupId(group), data))
    assert kind == SectionKind.FORWARD
    assert decode_forward_section(payload) == (connection, request_id, group, data)
    answer = encode_answer(0, 7, data)
    kind, payload = only_section(encode_answer_section(connection, request_id, answer))
    assert kind == SectionKind.ANSWER
    assert decode_answer_section(payload) == (connection, request_id, answer)


def test_our_own_oversized_frame_is_an_invariant_violation() -> None:
    assert frame(4, b"xy") == struct.pack(">IBBH", 2, 4, 0, 0) + b"xy"
    with pytest.raises(InvariantViolation):
        frame(4, bytes(PEER_FRAME_BYTES_MAX + 1))


def test_heartbeats_of_many_groups_in_one_section_keep_each_its_own_term_and_commit() -> None:
    kinds = (MessageKind.HEARTBEAT, MessageKind.HEARTBEAT_REPLY)
    sent = [
        (
            GroupId(group),
            Message(
                kinds[group % 2], ReplicaId(group + 1), ReplicaId(group + 2), Term(7 * group + 1),
                commit=Index(1000 + group), context=group, clock=group * group,
            ),
        )
        for group in range(200)
    ]  # fmt: skip
    found = list(decode_beats(b"".join(encode_beat(group, message) for group, message in sent)))
    assert [group for group, _ in found] == list(range(200))
    for (_, before), (_, after) in zip(sent, found, strict=True):
        for field in ("kind", "sender", "receiver", "term", "index", "commit", "context", "clock", "reject"):
            assert getattr(after, field) == getattr(before, field)


@pytest.mark.parametrize("cut", [1, 40])
def test_heartbeats_that_are_cut_off_or_no_heartbeats_are_a_mistake(cut: int) -> None:
    beat = encode_beat(GroupId(1), Message(MessageKind.HEARTBEAT, ReplicaId(1), ReplicaId(2), Term(3)))
    with pytest.raises(ProtocolError):
        list(decode_beats(beat[:-cut]))
    vote = encode_beat(GroupId(1), Message(MessageKind.VOTE, ReplicaId(1), ReplicaId(2), Term(3)))
    with pytest.raises(ProtocolError):
        list(decode_beats(beat + vote))
