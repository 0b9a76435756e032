"""Administrators' requests at a node: done by the group's leader, or refused with a text, in time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from test_group_waiters import NODE, SESSION_ID, Led

from primitives.codec import decode_value, encode_value, pack, unpack
from primitives.errors import Code, ProtocolError
from primitives.ids import GroupId, NodeId
from primitives.records import encode_answer
from raftgroup.types import Role, Term
from router.frames import HEADER_BYTES, FrameKind, decode_control
from shards.admin import ADMIN, REQUESTS_A_TICK_MAX, WAIT_MS, Administration
from shards.core import Core
from shards.forwarding import Forwarding
from shards.peerwire import SectionKind, sections

OTHER = NodeId(2)
CLIENT = 5


class Stage(Led):
    """A node with a replica of group 1, and administrators."""

    def __init__(self, *, leads: bool = True) -> None:
        super().__init__()
        self.transfers: list[int] = []
        self.lagging: set[int] = set()
        """Replicas that lack too much to lead."""
        self.driver._led_term = Term(3) if leads else Term(0)
        replica: Any = self.driver.replica
        replica.id = 1
        replica.role = Role.LEADER if leads else Role.FOLLOWER
        replica.leader = 1 if leads else 2
        replica.membership = SimpleNamespace(incoming=(1, 2), learners=())
        replica.transfer = self.transfers.append
        replica.is_up_to_date = lambda member, entries: member not in self.lagging
        replica.is_handing_over = True
        self.driver.nodes[2] = OTHER
        forwarding = Forwarding(bytes(16))
        forwarding.up[OTHER] = b"boot"
        self.engine = SimpleNamespace(
            node=NODE, boot_id=bytes(16), groups={GroupId(1): self.driver}, out=self.out,
            forwarding=forwarding,
            shard_map=SimpleNamespace(groups={1: None, 7: SimpleNamespace(replicas=((9, OTHER),))}),
            touch=lambda driver: None,
        )  # fmt: skip
        self.admin = Administration(cast(Core, self.engine))

    def ask(self, *request: Any, now_ms: int = 0) -> None:
        self.admin.frame(now_ms, CLIENT, list(request))

    def told(self) -> list[tuple[int, int, str, Any]]:
        """Request, code, text and value of each reply to the client."""
        effects = self.out.take()
        self.peers = [
            (node, kind, unpack(payload))
            for node, sent in effects.peers.items() for _, data in sent for kind, payload in sections(data)
        ]  # fmt: skip
        replies = []
        for frame in effects.clients.get(CLIENT, []):
            assert frame[4] == FrameKind.ADMIN_REPLY
            items, blob = decode_control(frame[HEADER_BYTES:])
            replies.append((*items, decode_value(blob) if blob else None))
        return replies


@pytest.mark.parametrize(
    "request_", [[], [1], ["1", "group"], [-1, "group"], [1 << 64, "group"], [1, 2], [True, "group"]]
)
def test_a_frame_of_another_form_costs_its_client_the_connection(request_: list[Any]) -> None:
    with pytest.raises(ProtocolError):
        Stage().ask(*request_)


def test_requests_that_make_no_sense_are_refused_with_a_text() -> None:
    stage = Stage()
    wrong: list[list[Any]] = [
        ["dance", 1], ["group"], ["group", "1"], ["group", 99], ["group-transfer", 1], ["sessions", 1],
        ["group-transfer", 1, 9], ["session", 1, "id"], ["session-end", 1], ["sessions", 1, None],
    ]  # fmt: skip
    for number, request in enumerate(wrong):
        stage.ask(number, *request)
    told = stage.told()
    assert [reply[:2] for reply in told] == [(number, Code.BAD_REQUEST) for number in range(len(wrong))]
    assert all(text for _, _, text, _ in told)


def test_a_leader_tells_of_sessions_in_pages_and_hands_over() -> None:
    stage = Stage()
    _, number = stage.commit(1, 3, proposed_in=3)
    stage.driver.leases.arrived(400, number)
    stage.ask(1, "sessions", 1, 0, now_ms=1000)
    stage.ask(2, "session", 1, SESSION_ID, now_ms=1000)
    stage.ask(3, "session", 1, b"nobody", now_ms=1000)
    stage.ask(4, "group-transfer", 1, 2)
    stage.ask(5, "group-transfer", 1, 1)
    page, one, none, handed, stays = stage.told()
    session = page[3]["sessions"][0]
    assert (session["number"], session["heard_ms_ago"], session["holdings"]) == (number, 600, 0)
    assert page[3]["behind"] is None
    assert one[3] == [session]
    assert (none[3], handed[3], stays[3]) == ([], True, False)
    assert stage.transfers == [2]


def test_a_replica_that_lacks_much_is_not_handed_the_leadership_and_writes_go_on() -> None:
    stage = Stage()
    stage.lagging.add(2)
    stage.ask(1, "group-transfer", 1, 2)
    ((request, code, text, _),) = stage.told()
    assert (request, code) == (1, Code.UNAVAILABLE)
    assert "node 2 lacks" in text
    assert "again" in text
    assert stage.transfers == []


def test_the_end_of_a_session_is_answered_when_it_is_logged() -> None:
    stage = Stage()
    stage.ask(1, "session-end", 1, SESSION_ID)
    assert stage.told() == [(1, Code.OK, "", False)]
    _, number = stage.commit(1, 3, proposed_in=3)
    for request in (2, 3):
        stage.ask(request, "session-end", 1, SESSION_ID)
    assert stage.told() == []
    origins = [origin for _, _, origin in stage.driver._proposals]
    assert [origin.connection for origin in origins] == [ADMIN, ADMIN]
    stage.admin.answered(origins[0].request, encode_answer(Code.OK, 9))
    stage.admin.answered(origins[1].request, encode_answer(Code.LOST, 0))
    (ended, lost) = stage.told()
    assert ended == (2, Code.OK, "", True)
    assert lost[:2] == (3, Code.UNAVAILABLE)
    assert number


def test_a_request_is_passed_on_and_its_reply_back_and_given_up_in_time() -> None:
    stage = Stage(leads=False)
    stage.ask(1, "group", 1)
    stage.ask(2, "group", 7)
    assert stage.told() == []
    assert [(node, kind, rest[1:]) for node, kind, rest in stage.peers] == [
        (OTHER, SectionKind.ADMIN, ["group", 1]), (OTHER, SectionKind.ADMIN, ["group", 7]),
    ]  # fmt: skip
    stage.admin.replied(pack([stage.peers[0][2][0], Code.OK, "", encode_value({"group": 1})]))
    assert stage.told() == [(1, Code.OK, "", {"group": 1})]
    stage.admin.tick(WAIT_MS)
    assert [reply[:2] for reply in stage.told()] == [(2, Code.UNAVAILABLE)]
    stage.engine.forwarding.up.clear()
    stage.ask(3, "group", 1)
    assert [reply[:2] for reply in stage.told()] == [(3, Code.UNAVAILABLE)]


def test_a_node_does_what_others_pass_on_and_refuses_what_it_does_not_lead() -> None:
    stage = Stage()
    stage.admin.section(0, OTHER, pack([7, "session", 1, b"nobody"]))
    stage.admin.section(0, OTHER, pack([8, "session", 99, b"nobody"]))
    stage.admin.section(0, OTHER, pack([9, "dance", 1]))
    assert stage.told() == []
    assert [(node, kind) for node, kind, _ in stage.peers] == [(OTHER, SectionKind.ADMIN_REPLY)] * 3
    assert [rest[:2] for _, _, rest in stage.peers] == [
        [7, Code.OK], [8, Code.UNAVAILABLE], [9, Code.BAD_REQUEST],
    ]  # fmt: skip


@pytest.mark.parametrize("told", [b"", b"\xff", pack([]), pack([1]), pack(["1", "group", 1])])
def test_sections_of_another_form_are_a_peers_mistake(told: bytes) -> None:
    stage = Stage()
    with pytest.raises(ProtocolError):
        stage.admin.section(0, OTHER, told)
    with pytest.raises(ProtocolError):
        stage.admin.replied(told)


def test_too_many_requests_at_once_are_refused_until_the_next_tick() -> None:
    stage = Stage()
    for number in range(REQUESTS_A_TICK_MAX + 1):
        stage.ask(number, "session", 1, b"nobody")
    codes = [code for _, code, _, _ in stage.told()]
    assert codes == [Code.OK] * REQUESTS_A_TICK_MAX + [Code.OVERLOADED]
    stage.admin.tick(50)
    stage.ask(9, "session", 1, b"nobody")
    assert [code for _, code, _, _ in stage.told()] == [Code.OK]
