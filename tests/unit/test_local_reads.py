"""Queries that any replica may answer: served as fresh as they ask for, or refused."""

from __future__ import annotations

from typing import Any

import pytest
from test_group_waiters import GROUP, NODE, Led

from primitives.catalog import CatalogOp
from primitives.errors import Code
from primitives.ids import CATALOG_ID, NodeId, SlotId
from primitives.records import Query, Read, Type, decode_answer, encode_query, is_near
from raftgroup.types import Index, Role
from router.frames import HEADER_BYTES, decode_answers
from shards.localreads import ROUND_MS, WAIT_MS, WAITING_MAX, LocalReads, Verdict
from shards.peerwire import SectionKind, decode_read_ask, decode_read_reply, sections
from shards.ports import Origin
from shards.reads import Proof, Reads

LEADER = NodeId(2)


def question(read: int, bound: int = 0) -> Query:
    return Query(
        SlotId(1), 1, CATALOG_ID, 0, Type.CATALOG, CatalogOp.LOOKUP, read, bound, ["", "nothing"], b""
    )


def origin(request: int) -> Origin:
    return Origin(NODE, 5, request)


def verdicts(
    local: LocalReads, now_ms: int, *, applied: int = 0, revision: int = 0, leads: bool = False
) -> dict[int, Verdict]:
    due = local.due(now_ms, Index(applied), revision, leads=leads)
    return {one.origin.request: verdict for one, verdict in due}


def test_a_sequential_query_is_served_at_the_revision_that_its_client_has_seen() -> None:
    local = LocalReads()
    local.add(origin(1), question(Read.SEQUENTIAL, 7))
    local.add(origin(2), question(Read.CAUSAL, 8))
    assert verdicts(local, 0, revision=6) == {}
    assert verdicts(local, 10, revision=7) == {1: Verdict.SERVE}
    assert verdicts(local, 20, revision=9) == {2: Verdict.SERVE}
    assert not local.has_waiting


def test_what_is_not_applied_in_time_is_refused() -> None:
    local = LocalReads()
    local.add(origin(1), question(Read.SEQUENTIAL, 7))
    assert verdicts(local, 1000) == {}
    assert verdicts(local, 1000 + WAIT_MS - 1) == {}
    assert verdicts(local, 1000 + WAIT_MS) == {1: Verdict.BEHIND}
    local.add(origin(2), question(Read.SEQUENTIAL, 7))
    assert verdicts(local, 5000, leads=True) == {2: Verdict.BEHIND}, "a leader has another way"


def test_a_states_age_counts_from_the_beginning_of_the_round_and_once_it_is_applied() -> None:
    local = LocalReads()
    local.add(origin(1), question(Read.STALE, 100))
    assert verdicts(local, 1000, applied=5) == {}
    number = local.begin(1000)
    assert number is not None
    local.proven(number, Index(9))
    assert verdicts(local, 1150, applied=8) == {}, "not applied"
    assert verdicts(local, 1160, applied=9) == {1: Verdict.SERVE}
    local.add(origin(2), question(Read.STALE, 100))
    assert verdicts(local, 1098, applied=9) == {2: Verdict.SERVE}
    local.add(origin(3), question(Read.STALE, 100))
    assert verdicts(local, 1100, applied=9) == {}, "though the answer may have come at 1160"
    assert local.begin(1100) == number + 1
    assert verdicts(local, 1100 + WAIT_MS, applied=9) == {3: Verdict.UNPROVEN}


def test_one_round_serves_all_who_wait_and_an_earlier_one_serves_nobody_who_came_later() -> None:
    local = LocalReads()
    local.number_from(1 << 40)
    for request in range(5):
        local.add(origin(request), question(Read.STALE, 0))
    assert verdicts(local, 1000) == {}
    number = local.begin(1000)
    assert number == (1 << 40) + 1
    assert local.begin(1000) is None
    local.add(origin(9), question(Read.STALE, 0))
    assert verdicts(local, 1001) == {}
    assert local.begin(1001) is None
    local.proven(number, Index(0))
    assert set(verdicts(local, 1002)) == set(range(5))
    assert local.begin(1002) == number + 1
    local.proven(number, Index(0))
    assert verdicts(local, 1003) == {}, "an answer to the round before proves nothing for this one"
    local.proven(number + 1, Index(0))
    assert verdicts(local, 1004) == {9: Verdict.SERVE}


def test_a_round_that_nobody_answers_is_followed_by_others_and_late_answers_count_from_their_own() -> None:
    local = LocalReads()
    local.add(origin(1), question(Read.STALE, 0))
    assert verdicts(local, 1000) == {}
    first = local.begin(1000)
    local.add(origin(2), question(Read.STALE, 0))
    assert verdicts(local, 1050) == {}
    assert local.begin(1000 + ROUND_MS - 1) is None
    second = local.begin(1000 + ROUND_MS)
    assert first is not None
    assert second is not None
    local.proven(first, Index(0))
    assert verdicts(local, 1000 + ROUND_MS) == {1: Verdict.SERVE}
    local.proven(first, Index(0))
    assert verdicts(local, 1000 + ROUND_MS) == {}
    local.proven(second, Index(0))
    assert verdicts(local, 1000 + ROUND_MS) == {2: Verdict.SERVE}


def test_no_more_than_a_bounded_number_of_queries_wait() -> None:
    local = LocalReads()
    assert all(local.add(origin(number), question(Read.SEQUENTIAL, 1)) for number in range(WAITING_MAX))
    assert not local.add(origin(0), question(Read.SEQUENTIAL, 1))


def test_a_leader_proves_with_a_round_that_begins_after_the_question() -> None:
    contexts = iter(range(1, 9))
    replica: Any = type("Leading", (), {"read": lambda self: next(contexts)})()
    reads = Reads()
    reads.begin(replica)
    reads.prove(Proof(LEADER, 7))
    assert reads.confirmed(0, Index(3)) == []
    reads.begin(replica)
    assert reads.confirmed(1, Index(4)) == [Proof(LEADER, 7)]
    assert reads.confirmed(2, Index(4)) == []
    reads.prove(Proof(LEADER, 8))
    reads.begin(replica)
    assert reads.clear() == []
    assert reads.confirmed(9, Index(5)) == [], "deposed: who asked asks the next leader"


# --- Through a group's driver ------------------------------------------------------------------------------


class Asked(Led):
    """A replica that gets queries."""

    def __init__(self, *, leads: bool = False, learner: bool = False) -> None:
        super().__init__()
        replica = self.driver.replica
        replica.role = Role.LEADER if leads else Role.FOLLOWER
        replica.id = 1
        replica.leader = 1 if leads else 2
        replica.membership = self.driver.replica.membership = type(
            "Members", (), {"learners": (1,) if learner else ()}
        )()
        self.driver.nodes[2] = LEADER

    def ask(self, query: Query) -> None:
        self.driver.submit(origin(1), encode_query(query), self.out)

    def serve(self, now_ms: int) -> list[int]:
        """Codes of the answers."""
        self.driver.serve(now_ms, self.out)
        effects = self.out.take()
        self.peers = effects.peers
        frames = effects.clients.get(5, [])
        answers = [answer for frame in frames for answer in decode_answers(frame[HEADER_BYTES:])]
        return [decode_answer(data).code for _, data in answers]


def test_a_follower_serves_what_it_may_and_sends_on_the_rest() -> None:
    asked = Asked()
    asked.ask(question(Read.SEQUENTIAL, asked.driver.applier.revision))
    assert asked.serve(0) == [Code.CONDITION]
    asked.ask(question(Read.LINEARIZABLE))
    assert asked.serve(0) == [Code.NOT_LEADER]
    asked.ask(question(Read.SEQUENTIAL, asked.driver.applier.revision + 1))
    assert asked.serve(10) == []
    assert asked.serve(10 + WAIT_MS) == [Code.NOT_LEADER]
    asked.ask(question(Read.SEQUENTIAL)._replace(slot=SlotId(60), epoch=9))
    assert asked.serve(1000) == [Code.NOT_LEADER], "the leader will say whose the slot is"
    asked.ask(question(9))
    assert asked.serve(1000) == [Code.BAD_REQUEST]


def test_a_learner_refuses() -> None:
    asked = Asked(learner=True)
    asked.ask(question(Read.SEQUENTIAL))
    assert asked.serve(0) == [Code.NOT_LEADER]


def test_a_follower_asks_its_leader_for_a_stale_query_and_refuses_without_an_answer() -> None:
    asked = Asked()
    asked.ask(question(Read.STALE, 50))
    assert asked.serve(1000) == []
    [(_, data)] = asked.peers[LEADER]
    [(kind, payload)] = sections(data)
    assert kind == SectionKind.READ_ASK
    group, number = decode_read_ask(payload)
    assert group == GROUP
    asked.driver.local.proven(number, Index(0))
    assert asked.serve(1005) == [Code.CONDITION]
    asked.ask(question(Read.STALE, 0))
    assert asked.serve(1010) == []
    assert asked.serve(1010 + WAIT_MS) == [Code.UNAVAILABLE]


def test_a_leader_refuses_a_position_that_is_ahead_of_the_group() -> None:
    asked = Asked(leads=True)
    asked.ask(question(Read.CAUSAL, 1 << 50))
    assert asked.serve(0) == []
    asked.driver.replica.read = lambda: 1
    asked.driver._reads.begin(asked.driver.replica)
    asked.driver._reads.confirmed(1, Index(0))
    assert asked.serve(1) == [Code.BAD_REQUEST]


@pytest.mark.parametrize("payload", [b"", b"\0" * 11, b"\0" * 13, b"\0" * 19])
def test_read_sections_of_other_lengths_are_refused(payload: bytes) -> None:
    for decode in (decode_read_ask, decode_read_reply):
        with pytest.raises(Exception, match="read index"):
            decode(payload)


def test_near_queries_are_told_by_one_byte() -> None:
    assert not is_near(encode_query(question(Read.LINEARIZABLE)))
    assert all(is_near(encode_query(question(read))) for read in (Read.SEQUENTIAL, Read.CAUSAL, Read.STALE))
    assert not is_near(b"")
    assert not is_near(b"\x10")
