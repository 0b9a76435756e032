"""Questions for state hashes: one marker under way at a time, whoever asks and however often."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from primitives.codec import decode_value, pack
from primitives.errors import Code, ProtocolError
from primitives.ids import GroupId, NodeId
from primitives.records import encode_answer
from shards.core import Core
from shards.hashing import StateHash
from shards.markers import WAITING_MAX, Markers
from shards.ports import Origin
from shards.status import encode_status


class _Engine:
    """One node that alone keeps two groups."""

    def __init__(self) -> None:
        self.node = NodeId(1)
        self.boot_id = b"b" * 16
        self.settings = SimpleNamespace(hashes_timeout_ms=20_000)
        info = SimpleNamespace(replicas=((1, NodeId(1)),))
        self.shard_map = SimpleNamespace(groups={GroupId(0): info, GroupId(1): info})
        self.proposed: list[bytes] = []
        self.requests: list[int] = []
        self.answered: list[tuple[int, int, int, int]] = []

    def route(self, origin: Origin, group: GroupId, record: bytes) -> None:
        self.proposed.append(record)
        self.requests.append(origin.request)

    def answer_status(self, connection: int, request: int, hashes: list[Any], missing: list[Any]) -> None:
        self.answered.append((connection, request, len(hashes), len(missing)))

    def all_tell(self, markers: Markers, *groups: int, revision: int = 7) -> None:
        """The groups' replicas tell their hashes for the last marker."""
        nonce = self.proposed[-1][-28:]
        for group in groups:
            markers.hashed(GroupId(group), StateHash(nonce, revision, b"d" * 16, 3))


def _made() -> tuple[_Engine, Markers]:
    engine = _Engine()
    return engine, Markers(cast(Core, engine))


def test_who_asks_meanwhile_shares_the_next_marker() -> None:
    engine, markers = _made()
    markers.ask(0, 5, 1)
    for connection in (5, 6, 7):
        markers.ask(1, connection, 2)
    assert len(engine.proposed) == 2
    engine.all_tell(markers, 0, 1)
    markers.tick(50)
    assert engine.answered == [(5, 1, 2, 0)]
    assert len(engine.proposed) == 4
    engine.all_tell(markers, 0, 1)
    markers.tick(100)
    assert sorted(engine.answered[1:]) == [(5, 2, 2, 0), (6, 2, 2, 0), (7, 2, 2, 0)]
    markers.tick(150)
    assert len(engine.proposed) == 4


def test_a_replica_that_does_not_tell_is_named_and_holds_up_nobody_for_longer() -> None:
    engine, markers = _made()
    markers.ask(0, 5, 1)
    markers.ask(0, 5, 2)
    engine.all_tell(markers, 1)
    markers.tick(19_999)
    assert engine.answered == []
    markers.tick(20_000)
    assert engine.answered == [(5, 1, 1, 1)]
    engine.all_tell(markers, 0, 1)
    markers.tick(20_050)
    assert engine.answered[1:] == [(5, 2, 2, 0)]


def test_a_marker_that_a_group_did_not_take_is_proposed_again_and_one_that_it_took_is_not() -> None:
    engine, markers = _made()
    markers.ask(0, 5, 1)
    refused, taken = engine.requests
    markers.answered(refused, encode_answer(Code.NOT_LEADER, 0))
    markers.answered(taken, encode_answer(Code.OK, 7))
    markers.tick(50)
    markers.tick(100)
    assert engine.requests == [refused, taken, refused]
    assert engine.proposed[2] == engine.proposed[0]
    engine.all_tell(markers, 0, 1)
    markers.answered(refused, encode_answer(Code.LOST, 0))
    markers.tick(150)
    assert engine.answered == [(5, 1, 2, 0)]
    markers.answered(refused, encode_answer(Code.LOST, 0))  # of a question that is answered
    markers.tick(200)
    assert len(engine.requests) == 3


def test_of_two_markers_of_a_question_the_later_one_counts() -> None:
    engine, markers = _made()
    engine.shard_map.groups = {GroupId(1): SimpleNamespace(replicas=((1, NodeId(1)), (2, NodeId(2))))}
    markers.ask(0, 5, 1)
    nonce = engine.proposed[-1][-28:]
    engine.all_tell(markers, 1, revision=7)
    markers.on_section(pack([nonce, 1, 2, 9, b"e" * 16, 3]))
    markers.tick(50)
    assert engine.answered == []  # 7 and 9 are not to be compared
    engine.all_tell(markers, 1, revision=7)
    markers.tick(100)
    assert engine.answered == []
    engine.all_tell(markers, 1, revision=9)
    markers.tick(150)
    assert engine.answered == [(5, 1, 2, 0)]


def test_who_comes_up_and_has_not_told_is_asked_again() -> None:
    engine, markers = _made()
    engine.shard_map.groups = {GroupId(1): SimpleNamespace(replicas=((1, NodeId(1)), (2, NodeId(2))))}
    markers.ask(0, 5, 1)
    (first,) = engine.requests
    nonce = engine.proposed[-1][-28:]
    engine.all_tell(markers, 1, revision=7)
    markers.met(NodeId(3))  # It has no replica of the group.
    markers.tick(50)
    assert engine.requests == [first]
    markers.met(NodeId(2))
    markers.tick(100)
    assert engine.requests == [first, first]
    engine.all_tell(markers, 1, revision=9)
    markers.on_section(pack([nonce, 1, 2, 9, b"d" * 16, 3]))
    markers.met(NodeId(2))
    markers.tick(150)
    assert engine.answered == [(5, 1, 2, 0)]
    assert len(engine.requests) == 2


def test_a_client_that_asks_without_end_is_refused() -> None:
    engine, markers = _made()
    markers.ask(0, 5, 0)
    for request in range(WAITING_MAX):
        markers.ask(0, 5, 1 + request)
    with pytest.raises(ProtocolError):
        markers.ask(0, 5, 99)
    markers.ask(0, 6, 1)
    assert len(engine.proposed) == 2


@pytest.mark.parametrize(
    "told",
    [[], [b"", 1, 2, 3, b"d" * 16, 1], [b"n" * 27, 1, 2, 3, b"d" * 16, 1], [b"n" * 28, 1, 2, 3, "d", 1], [1]],
)
def test_a_hash_of_another_form_costs_its_peer_the_connection_and_stops_no_node(told: list[object]) -> None:
    _, markers = _made()
    for payload in (pack(told), b"\xff", b""):
        with pytest.raises(ProtocolError):
            markers.on_section(payload)


def test_hashes_that_do_not_fit_into_an_answer_are_left_out_and_counted() -> None:
    row = {"group": 1, "node": 1, "revision": 7, "hash": "ab" * 16, "rows": 5}
    status = {"node": 1, "groups": [], "hashes": [row] * 20_000, "hashes_missing": []}
    told = decode_value(encode_status(status))
    assert told["hashes_left_out"] == 20_000 - len(told["hashes"]) > 0
    assert told["hashes"] and told["hashes_missing"] == []
    few = {**status, "hashes": [row] * 3}
    assert decode_value(encode_status(few)) == few
