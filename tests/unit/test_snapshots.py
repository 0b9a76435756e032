"""Snapshots between engines: what a replica lacks comes as state, in one step, whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from by_snapshot import GROUP, Engines

from primitives.errors import ProtocolError
from primitives.ids import NodeId
from raftgroup.types import Index, Membership, Message, MessageKind, ReplicaId, Term
from shards import snapshotwire
from shards.hashing import HashJob
from shards.snapshotwire import (
    SNAPSHOT_VERSION,
    End,
    Head,
    Reply,
    Taken,
    decode_end,
    decode_head,
    decode_reply,
    decode_rows,
    decode_snapshot,
    encode_end,
    encode_head,
    encode_reply,
    encode_row,
    encode_snapshot,
)
from shards.staging import Staging


def behind() -> Engines:
    """Node 3 was away while the others wrote, and is back; the others' logs were cut."""
    engines = Engines()
    engines.crash(3)
    engines.run(1500)
    engines.write(30)
    engines.run(200)
    engines.start(3)
    return engines


def test_a_replica_that_was_away_while_logs_were_cut_gets_the_state_and_goes_on() -> None:
    engines = behind()
    before = engines.up[NodeId(3)].groups[GROUP]
    engines.run(1000)
    after = engines.up[NodeId(3)].groups[GROUP]
    assert engines.up[NodeId(3)].snapshots.installed >= 1
    assert after is not before
    assert after.epoch > before.epoch
    assert len(after.applier.sessions) == 30
    engines.write(5)
    engines.run(300)
    assert engines.have_met()


def test_logs_do_not_grow_without_bound() -> None:
    engines = Engines()
    engines.write(200)
    engines.run(100)
    for disk in engines.disks.values():
        assert len(disk.live.log(GROUP).stored) <= 20


def test_a_snapshot_is_installed_in_one_write_and_a_crash_finds_the_former_state_or_the_new_one() -> None:
    """Node 3 crashes after so many rounds, with and without what it had not synced: the first part comes at
    about the 30th, the switch at about the 55th."""
    found: set[bool] = set()
    for kept in (False, True):
        for step in (29, 30, 45, 53, 54, 55, 56, 57, 60):
            engines = behind()
            for _ in range(step):
                engines.clock.now_ms += 5
                for node in (1, 2, 3):
                    engines.turn(node)
            engines.crash(3, kept=kept)
            image = engines.disks[NodeId(3)].live
            epoch, applied = image.replicas[GROUP].epoch, image.applied[GROUP][0]
            leader = engines.leader
            at = leader.groups[GROUP].applying.applied
            found.add(applied >= at - 1)
            rows = image.state(GROUP, epoch)
            if applied == at:
                assert rows.sum == engines.sums()[leader.node][1]
            assert len(rows.rows) > 100
            engines.start(3)
            engines.run(1500)
            assert engines.have_met(), (kept, step)
            live = engines.disks[NodeId(3)].live
            epochs = {of for group, of in live.rows if group == GROUP and live.rows[group, of].rows}
            assert epochs == {engines.up[NodeId(3)].groups[GROUP].epoch}
    assert found == {False, True}


def test_the_switch_drops_what_transfers_left_that_were_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store refused to drop it until then; a crash right behind the switch must not leave it for ever."""
    monkeypatch.setattr(Staging, "abandon", lambda self, batch: None)
    engines = behind()
    there, live = engines.up[NodeId(3)], engines.disks[NodeId(3)].live
    former = there.groups[GROUP].epoch
    while not live.rows.get((GROUP, former + 1)):
        engines.run(5)
    there.snapshots._abandon(GROUP)
    engines.run(3000)
    assert engines.have_met()
    live = engines.disks[NodeId(3)].live
    assert there.groups[GROUP].epoch == former + 2
    epochs = {of for group, of in live.rows if group == GROUP and live.rows[group, of].rows}
    assert epochs == {former + 2}


def test_parts_that_were_lost_with_their_connection_are_sent_again() -> None:
    engines = behind()
    leader = engines.leader.node
    engines.lost_sections = {(leader, NodeId(3))}
    for _ in range(12):
        engines.run(5)
    engines.lost_sections = {(NodeId(3), leader)}
    engines.run(20)
    engines.lost_sections.clear()
    engines.reconnect(leader, 3)
    engines.run(600)
    engines.write(1)
    engines.run(300)
    assert engines.have_met()


def test_a_transfer_that_gets_nowhere_is_given_up_and_its_cursor_let_go() -> None:
    engines = behind()
    leader = engines.leader
    engines.lost_sections = {(NodeId(3), leader.node)}
    engines.run(60)
    engines.lost_sections = {(leader.node, NodeId(3)), (NodeId(3), leader.node)}
    sent = leader.snapshots.describe(GROUP)
    engines.crash(3)
    engines.run(2500)
    assert leader.snapshots.is_idle, sent
    engines.lost_sections.clear()
    engines.start(3)
    engines.run(1500)
    assert engines.have_met()


@pytest.mark.parametrize("staged", [1, 2, 9])
def test_parts_of_a_sender_that_started_anew_do_not_go_on_with_what_its_former_boot_sent(staged: int) -> None:
    """The leader restarts in the middle of its first transfer, leads again, and begins a first transfer of a
    later state to the same receiver."""
    engines = behind()
    number = engines.leader.node
    receiver = engines.up[NodeId(3)]

    def expected() -> list[int]:
        return [one["parts"] for one in receiver.snapshots.describe(GROUP) if "parts" in one]

    while expected() != [staged]:
        engines.clock.now_ms += 5
        for node in (1, 2, 3):
            engines.turn(node)
    engines.lost_sections = {(number, NodeId(3))}
    engines.turn(3)
    engines.crash(number, kept=True)
    engines.start(number)
    engines.up[number].groups[GROUP].replica.campaign(force=True)
    engines.run(20)
    assert engines.leader.node == number
    engines.write(2)
    engines.lost_sections.clear()
    engines.reconnect(number, 3)
    engines.run(500)
    assert len(receiver.groups[GROUP].applier.sessions) == 32
    assert receiver.snapshots.installed == 1
    assert engines.have_met()
    assert not engines.notes


def test_a_snapshot_whose_receiver_is_not_connected_costs_no_round() -> None:
    engines = behind()
    leader = engines.leader
    for _ in range(400):
        engines.clock.now_ms += 1
        for node in (1, 2, 3):
            engines.turn(node)
        if leader.snapshots.describe(GROUP):
            break
    leader.peer_down(NodeId(3))
    engines.turn(leader.node)
    assert not leader.snapshots.is_idle
    assert max(leader.round().wake_in_ms for _ in range(3)) > 0


class Endless:
    """Rows without end, until they are to end."""

    ends = False

    def get(self, key: bytes) -> bytes | None:
        raise AssertionError

    def scan(
        self, start: bytes, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        while not self.ends:
            yield b"key", b"value"


def test_a_hash_of_the_state_that_was_replaced_is_gone_on_with_and_its_cursor_let_go() -> None:
    engines = behind()
    receiver = engines.up[NodeId(3)]
    driver, rows = receiver.groups[GROUP], Endless()
    driver.applying._hash_jobs.append(HashJob(b"n" * 16, 1, rows))
    receiver._hashing[GROUP] = driver
    engines.run(1000)
    assert receiver.snapshots.installed
    assert receiver.groups[GROUP].applying.is_hashing
    rows.ends = True
    engines.run(50)
    assert not receiver.groups[GROUP].applying.is_hashing


def test_a_replica_of_another_version_refuses_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = behind()
    encode = snapshotwire.encode_head
    monkeypatch.setattr("shards.sending.encode_head", lambda membership: encode(membership, 7))
    engines.run(500)
    assert engines.up[NodeId(3)].snapshots.installed == 0
    [here, there] = [note for note in engines.notes if "version 7" in note][:2]
    assert "run one release on all nodes" in here
    assert "version 7" in there
    assert any("refused" in what for what in engines.leader.snapshots.describe(GROUP))
    monkeypatch.undo()
    engines.run(3000)
    assert engines.have_met()


def test_a_snapshot_whose_membership_lacks_the_receiver_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = behind()
    encode = snapshotwire.encode_head
    others = Membership((ReplicaId(98), ReplicaId(99)))
    monkeypatch.setattr("shards.sending.encode_head", lambda membership: encode(others))
    engines.run(500)
    assert engines.up[NodeId(3)].snapshots.installed == 0
    assert any("is no member of the group" in note for note in engines.notes)


def test_a_part_that_is_not_what_the_hash_says_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = behind()
    encode = encode_end
    monkeypatch.setattr("shards.sending.encode_end", lambda rows, digest: encode(rows, b"x" * 16))
    engines.run(500)
    assert engines.up[NodeId(3)].snapshots.installed == 0
    assert any("not what its hash says" in note for note in engines.notes)
    monkeypatch.undo()
    engines.run(3000)
    assert engines.have_met()


def test_a_leader_keeps_what_comes_behind_a_snapshot_on_its_way() -> None:
    engines = behind()
    leader = engines.leader
    for _ in range(400):
        engines.clock.now_ms += 1
        for node in (1, 2, 3):
            engines.turn(node)
        if leader.snapshots.describe(GROUP):
            break
    [sending] = leader.snapshots.describe(GROUP)
    engines.lost_sections = {(NodeId(3), leader.node)}
    engines.write(20)
    engines.run(100)
    assert engines.disks[leader.node].live.log(GROUP).base <= sending["index"]


def test_every_part_comes_back_from_its_bytes() -> None:
    message = Message(
        MessageKind.SNAPSHOT, ReplicaId(4), ReplicaId(5), Term(6), index=Index(7), log_term=Term(8),
        context=9, hint=Index(10),
    )  # fmt: skip
    members = Membership((ReplicaId(5),), (ReplicaId(1),), (ReplicaId(2),), (ReplicaId(3),))
    rows = [(b"a", b""), (b"", b"b" * 300)]
    for part in (
        encode_head(members), b"\1" + b"".join(encode_row(*row) for row in rows), encode_end(2, b"d" * 16)
    ):  # fmt: skip
        group, found, same = decode_snapshot(encode_snapshot(GROUP, message, part)[5:])
        assert (group, same) == (GROUP, part)
        assert [getattr(found, name) for name in Message.__slots__] == [
            getattr(message, name) for name in Message.__slots__
        ]
    assert decode_head(encode_head(members)) == Head(SNAPSHOT_VERSION, members)
    assert decode_head(encode_head(members, 2)).version == 2
    assert list(decode_rows(b"\1" + b"".join(encode_row(*row) for row in rows))) == rows
    assert decode_end(encode_end(2, b"d" * 16)) == End(2, b"d" * 16)
    reply = Reply(GROUP, ReplicaId(5), 9, Taken.REFUSED, 3, "für")
    assert decode_reply(encode_reply(reply)[5:]) == reply


@pytest.mark.parametrize("size", [0, 1, 3, 16])
def test_bytes_that_are_no_part_are_refused(size: int) -> None:
    with pytest.raises(ProtocolError):
        decode_head(encode_head(Membership((ReplicaId(1),)))[:size])
    with pytest.raises(ProtocolError):
        decode_end(bytes(size))
    with pytest.raises(ProtocolError):
        decode_reply(bytes(size))
    with pytest.raises(ProtocolError):
        decode_snapshot(bytes(size))
    if size:
        with pytest.raises(ProtocolError):
            list(decode_rows(b"\1" + b"\xff" * size))
