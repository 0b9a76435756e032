"""Founding: one set of stores at most ever forms, and whoever is not in it is told so."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest

from primitives.errors import InvariantViolation, ProtocolError
from router.frames import HEADER_BYTES
from shards.founding import (
    Founder,
    ListMismatch,
    Started,
    Statement,
    decode_statement,
    encode_statement,
    judge,
)
from shards.ports import StoreDamaged


class Record:
    """A store's memory of its founding: durable at once."""

    def __init__(self, store_id: bytes) -> None:
        self.store_id = store_id
        self.founding: dict[str, bytes] | None = None

    def record_founding(self, stores: Mapping[str, bytes]) -> None:
        if self.founding is not None and self.founding != dict(stores):
            raise InvariantViolation("recorded twice")
        self.founding = dict(stores)


class Crash(Exception):
    """The process ends here."""


class CrashingRecord(Record):
    """Ends the process before or after the set is durable."""

    after = False

    def record_founding(self, stores: Mapping[str, bytes]) -> None:
        if self.after:
            super().record_founding(stores)
        raise Crash


class Node:
    """A node of a cluster being founded: its store outlives its process."""

    def __init__(
        self, name: str, names: str = "abc", *, groups: int = 4, together: bool = False,
        record: Record | None = None, age_ms: int = 0,
    ) -> None:  # fmt: skip
        cluster = tuple((each, f"{each}:1") for each in names)
        self.started = Started(
            name, f"{name}:2", f"{name}:1", cluster, groups, len(names), together, f"/data/{name}"
        )
        self.record = record or Record(store(name))
        self.formed = False
        self.age_ms = age_ms
        self.start()

    def start(self) -> None:
        self.founder = Founder(self.started, self.record, formed=self.formed)
        self.settle()

    def settle(self) -> None:
        self.formed = self.formed or self.founder.formed

    @property
    def statement(self) -> Statement:
        return self.founder.statement(self.age_ms)

    def hear(self, other: Node) -> str:
        """What this node says to the other's statement; empty when they go on."""
        verdict = self.founder.hear(other.statement, self.age_ms)
        self.settle()
        return verdict.text


def store(name: str, life: int = 0) -> bytes:
    return f"{name}{life}".encode().ljust(16, b".")


def a_cluster(names: str = "abc") -> list[Node]:
    return [Node(name, names) for name in names]


def talk(*nodes: Node) -> None:
    """All tell each other all until nothing changes."""
    while True:
        before = [node.founder.changes for node in nodes]
        for one in nodes:
            for other in nodes:
                if one is not other:
                    assert one.hear(other) == ""
        if before == [node.founder.changes for node in nodes]:
            return


def wiped(node: Node, life: int = 1) -> Node:
    return Node(node.started.name, "".join(name for name, _ in node.started.cluster),
                record=Record(store(node.started.name, life)))  # fmt: skip


def test_three_nodes_form_of_the_set_of_their_stores() -> None:
    nodes = a_cluster()
    talk(*nodes)
    for node in nodes:
        assert node.formed
        founding = node.founder.founding()
        assert [(info.id, info.name, info.store_id) for info in founding.nodes] == [
            (1, "a", store("a")), (2, "b", store("b")), (3, "c", store("c")),
        ]  # fmt: skip
        assert [info.client_address for info in founding.nodes] == ["a:2", "b:2", "c:2"]
        assert [info.peer_address for info in founding.nodes] == ["a:1", "b:1", "c:1"]
        assert (founding.groups, founding.replicas) == (4, 3)


def test_a_single_node_forms_alone() -> None:
    node = Node("a", "a")
    assert node.formed
    assert node.record.founding == {"a": store("a")}


def test_nothing_is_recorded_before_every_listed_node_was_heard() -> None:
    a, b, _ = a_cluster()
    talk(a, b)
    assert a.record.founding is None
    assert not a.formed


def test_nothing_forms_before_all_have_told_the_same_set() -> None:
    a, b, c = a_cluster()
    a.hear(b)
    a.hear(c)
    assert a.record.founding is not None
    assert not a.formed
    b.hear(a)
    c.hear(a)
    a.hear(b)
    assert not a.formed
    a.hear(c)
    assert a.formed


def test_a_set_is_durable_before_it_is_told() -> None:
    record = CrashingRecord(store("a"))
    a, (_, b, c) = Node("a", record=record), a_cluster()
    a.hear(b)
    with pytest.raises(Crash):
        a.hear(c)
    assert a.statement.told == ()
    assert a.founder.changes == 0


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("crashing", [0, 1, 2])
def test_a_crash_while_recording_delays_founding_only(crashing: int, after: bool) -> None:
    nodes = a_cluster()
    record = CrashingRecord(store("abc"[crashing]))
    record.after = after
    nodes[crashing] = Node("abc"[crashing], record=record)
    with pytest.raises(Crash):
        talk(*nodes)
    kept = Record(record.store_id)
    kept.founding = record.founding
    nodes[crashing] = Node("abc"[crashing], record=kept)
    talk(*nodes)
    assert all(node.formed for node in nodes)
    assert len({tuple(sorted(node.record.founding or {})) for node in nodes}) == 1


def test_a_node_that_told_and_comes_back_late_takes_part_in_what_formed() -> None:
    a, b, c = a_cluster()
    a.hear(b), a.hear(c), b.hear(a), b.hear(c), c.hear(a)
    a.hear(b), a.hear(c)
    assert a.formed
    assert not c.formed
    c.start()  # c died before it heard; a alone knows that it formed.
    assert not c.formed
    assert c.hear(a) == ""
    assert c.formed
    assert [info.client_address for info in c.founder.founding().nodes] == ["a:2", "b:2", "c:2"]


def test_a_wiped_node_is_refused_by_whoever_formed_and_told_how_to_come_back() -> None:
    a, b, c = a_cluster()
    talk(a, b, c)
    again = wiped(c)
    refused = a.founder.judge(again.statement, 0)
    leaves = again.founder.judge(a.statement, 0)
    assert (refused.they_go, refused.i_go) == (True, False)
    assert (leaves.they_go, leaves.i_go) == (False, True)
    assert "wiped or replaced" in leaves.text
    assert "`quorate member add c`" in leaves.text
    assert "`quorate serve --name c --data /data/c --join a:1`" in leaves.text
    assert "\n" not in leaves.text + refused.text


def test_a_node_wiped_while_founding_is_refused_once_its_old_store_was_recorded() -> None:
    a, b, c = a_cluster()
    a.hear(b), a.hear(c)
    again = wiped(c)
    assert "wiped" in a.hear(again)
    verdict = again.founder.judge(a.statement, 0)
    assert verdict.i_go
    # Its old store never told the set, so it can never form; and no other set can, since a told that one.
    b.hear(a)
    assert not a.formed
    assert not b.formed


def test_a_node_wiped_before_anybody_recorded_takes_part_with_its_new_store() -> None:
    a, b, c = a_cluster()
    a.hear(c), b.hear(c)
    a.founder.lost("c")
    b.founder.lost("c")
    again = wiped(c)
    talk(a, b, again)
    assert again.formed
    assert (a.record.founding or {})["c"] == store("c", 1)


def test_a_store_of_a_peer_that_went_away_is_not_recorded() -> None:
    a, b, c = a_cluster()
    a.hear(c)
    a.founder.lost("c")
    a.hear(b)
    assert a.record.founding is None


def test_a_set_that_another_told_is_taken_over() -> None:
    a, b, c = a_cluster()
    a.hear(b), a.hear(c)
    b.hear(a)  # b never heard c itself.
    assert b.record.founding == a.record.founding


def test_two_sets_told_are_known_to_form_never() -> None:
    a, b, c = a_cluster()
    a.hear(b), a.hear(c)
    b.hear(wiped(c)), b.hear(Node("a"))  # As a was before it recorded.
    verdict = a.founder.judge(b.statement, 0)
    assert verdict.i_go
    assert verdict.they_go
    assert "start again" in verdict.text
    assert verdict == b.founder.judge(a.statement, 0)


@pytest.mark.parametrize("other", [
    Node("b", "ab"), Node("b", groups=5), Node("b", groups=8, together=True),
    Node("b", record=Record(store("b")), age_ms=1),
])  # fmt: skip
def test_founders_that_were_started_differently_do_not_found_together(other: Node) -> None:
    a = Node("a", groups=8)
    text = a.hear(other)
    assert "must agree" in text
    assert other.hear(a) == text
    assert a.record.founding is None


def test_of_two_that_disagree_the_younger_one_gives_way() -> None:
    old, young = Node("a", age_ms=5000), Node("b", groups=5, age_ms=20)
    assert old.founder.judge(young.statement, 5000).they_go
    verdict = young.founder.judge(old.statement, 20)
    assert verdict.i_go
    assert verdict.text == "the founding nodes must agree: a has --groups 4, b has --groups 5"


def test_a_node_that_recorded_does_not_give_way_to_an_older_one_that_did_not() -> None:
    a, b, c = a_cluster()
    a.hear(b), a.hear(c)
    older = Node("b", groups=5, age_ms=9999)
    assert a.founder.judge(older.statement, 0).they_go
    assert older.founder.judge(a.statement, 9999).i_go


def test_a_formed_node_gives_way_to_nobody() -> None:
    nodes = a_cluster()
    talk(*nodes)
    for other in (Node("c", "abcd", age_ms=10**9), Node("b", groups=5), Node("d", "abd"), wiped(nodes[1])):
        verdict = nodes[0].founder.judge(other.statement, 0)
        assert verdict.they_go
        assert not verdict.i_go
        assert other.founder.judge(nodes[0].statement, other.age_ms).i_go


def test_a_node_that_no_list_names_is_told_which_nodes_there_are() -> None:
    nodes = a_cluster()
    talk(*nodes)
    assert "d is not one of the nodes that founded the cluster (a, b, c)" in nodes[0].hear(Node("d", "abcd"))


def test_two_clusters_that_were_founded_apart_do_not_mix_and_both_go_on() -> None:
    one, two = a_cluster(), [wiped(node, 7) for node in a_cluster()]
    talk(*one)
    talk(*two)
    verdict = one[0].founder.judge(two[1].statement, 0)
    assert verdict.text
    assert not verdict.i_go
    assert not verdict.they_go


def test_a_formed_node_restarted_with_another_list_says_so() -> None:
    nodes = a_cluster()
    talk(*nodes)
    with pytest.raises(ListMismatch, match="was founded with nodes a, b, c; --cluster lists a, b"):
        Founder(Node("a", "ab").started, nodes[0].record, formed=True)


def test_a_replica_of_group_0_without_a_founding_record_is_damage() -> None:
    with pytest.raises(StoreDamaged):
        Founder(Node("a").started, Record(store("a")), formed=True)


def test_a_statement_comes_back_from_the_wire() -> None:
    nodes = a_cluster()
    assert round_trip(nodes[0].statement) == nodes[0].statement
    talk(*nodes)
    assert round_trip(nodes[0].statement) == nodes[0].statement
    together = Node("a", together=True).statement
    assert together.together
    assert round_trip(together) == together


def round_trip(statement: Statement) -> Statement:
    return decode_statement(encode_statement(statement)[HEADER_BYTES:])


def test_a_statement_of_another_form_is_a_protocol_error() -> None:
    good = Node("a").statement
    changes: list[dict[str, Any]] = [
        {"age_ms": "x"}, {"told": (("a", b"short"),)}, {"store_id": b""}, {"clients": (("a", 1),)},
        {"cluster": (("b", "b:1"), ("a", "a:1"))}, {"told": (("a", store("a")),)}, {"formed": 1},
        {"together": 1},
    ]  # fmt: skip
    for change in changes:
        with pytest.raises(ProtocolError):
            round_trip(good._replace(**change))
    with pytest.raises(ProtocolError):
        decode_statement(b"\xff")


@pytest.mark.parametrize("seed", range(150))
def test_whatever_is_wiped_or_crashes_at_most_one_set_forms(seed: int) -> None:
    """Nodes tell each other statements, old ones too, crash and are wiped."""
    dice = random.Random(seed)
    names = "abc" if seed % 2 else "ab"
    nodes = {name: Node(name, names) for name in names}
    lives = dict.fromkeys(names, 0)
    formed: set[tuple[tuple[str, bytes], ...]] = set()
    said: list[Statement] = []
    wipes = dice.randrange(3)
    for step in range(200):
        one, other = dice.sample(list(names), 2)
        happens = dice.random()
        if happens < 0.04 and step < 100 and wipes:
            wipes -= 1
            lives[one] += 1
            nodes[one] = wiped(nodes[one], lives[one])
        elif happens < 0.1:
            nodes[one].start()
        elif happens < 0.2:
            nodes[one].founder.lost(other)
        elif happens < 0.3 and said:
            late = dice.choice(said)
            if late.name != one:
                nodes[one].founder.hear(late, 0)
                nodes[one].settle()
        else:
            said.append(nodes[other].statement)
            mine, theirs = nodes[one].statement, nodes[other].statement
            there = judge(theirs, mine, "DIR")
            here = judge(mine, theirs, "DIR")
            assert (here.i_go, here.they_go) == (there.they_go, there.i_go)
            assert (here.accepted, bool(here.text)) == (there.accepted, bool(there.text))
            nodes[one].hear(nodes[other])
        formed |= {node.founder.told for node in nodes.values() if node.formed}
    for first in formed:
        for second in formed:
            assert first == second or not set(first) & set(second)
    if not any(lives.values()):
        talk(*nodes.values())
        assert all(node.formed for node in nodes.values())
