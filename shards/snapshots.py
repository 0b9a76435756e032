"""Snapshots of a node's groups: sent to followers whose log ends before ours begins, and received.

**Sending.** A leader that learns of such a follower has the group's overlay written, and takes a cursor in
the same step; the parts go at the lowest priority, paced for the whole node, a bounded number ahead of their
acknowledgements. A transfer that gets nowhere is given up, which lets the cursor go, and begun anew later.

**Receiving.** Parts are staged, one a round, under an epoch of their own (see ``staging``). Once all are
there, one write switches the epoch, the membership, the applied index and where the log begins, and drops the
rows of the former epoch; the log goes too, unless it holds the snapshot's very last entry. Sessions and
stored answers are rows like all others. From that write on the former replica and its applier do nothing
more, and new ones are made from the store, as at a start. That the state is there is told once the write is
synced. A crash finds the former state, or the new one.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

from primitives.errors import ProtocolError
from primitives.ids import GroupId, NodeId
from raftgroup.membership import members_of
from raftgroup.types import HardState, Index, Message, ReplicaId, Term
from shards import snapshotwire
from shards.group import GroupDriver, SyncWait
from shards.outbox import Outbox
from shards.ports import Priority, ReplicaIdentity, Store, StoredReplica
from shards.sending import Sending
from shards.settings import EngineSettings
from shards.snapshotwire import Reply, Taken, decode_head, encode_reply
from shards.staging import Staging
from shards.writer import Writer


class Host(Protocol):
    """What snapshots need of the engine."""

    @property
    def boot_id(self) -> bytes:
        """Tells this start of the node from all others."""

    @property
    def groups(self) -> dict[GroupId, GroupDriver]:
        """The replicas here."""

    @property
    def settings(self) -> EngineSettings:
        """Timing and bounds."""

    @property
    def out(self) -> Outbox:
        """Where this round's effects go."""

    def boot_of(self, node: NodeId) -> bytes | None:
        """The boot id of a peer that is up."""

    def touch(self, driver: GroupDriver) -> None:
        """The group has something to do."""

    def reopen(self, stored: StoredReplica, former: GroupDriver) -> GroupDriver:
        """Makes a replica anew, from what the store has."""


class _Installing(NamedTuple):
    """A snapshot whose switch is handed to the store."""

    round_number: int
    staging: Staging
    stored: StoredReplica
    former: GroupDriver


_Key = tuple[GroupId, ReplicaId]
_TRANSFER_MAX: Final = (1 << 64) - 1


class Snapshots:
    """Every transfer of one node, in both directions."""

    def __init__(self, engine: Host, store: Store, writer: Writer) -> None:
        self._engine: Final = engine
        self._store: Final = store
        self._writer: Final = writer
        self._transfers = int.from_bytes(engine.boot_id[:8], "big")
        """The number of the last transfer. A receiver may still have parts of one that a former boot began,
        and must not take those of another one for their continuation."""
        self._wanted: dict[_Key, NodeId] = {}
        """Followers whose snapshot is taken as soon as the overlay is written."""
        self._sending: dict[_Key, Sending] = {}
        self._retry_ms: dict[_Key, int] = {}
        """Followers for which a transfer came to nothing, and when to try again."""
        self._refused: dict[_Key, str] = {}
        self._part_at_ms = 0
        self._staging: dict[GroupId, Staging] = {}
        self._abandoned: list[Staging] = []
        self._epochs: dict[GroupId, int] = {}
        self._written: dict[GroupId, _Installing] = {}
        """Switches that the store has refused so far."""
        self._unsynced: list[_Installing] = []
        self.sent = self.installed = 0
        """Transfers that came to their end, since the start."""

    # --- What the engine asks -----------------------------------------------------------------------

    def opened(self, stored: StoredReplica) -> None:
        """A replica was made or loaded: the numbers of epochs used for it are known."""
        self._epochs[stored.identity.group] = max(stored.epoch, stored.epoch_used)

    def clean(self, replicas: list[StoredReplica]) -> None:
        """At the start: deletes what is left of snapshots that a former process did not get to install."""
        batch = self._writer.batch()
        for stored in replicas:
            for epoch in range(stored.epoch + 1, stored.epoch_used + 1):
                batch.drop_state(stored.identity.group, epoch)
        self._writer.write(batch, [])

    @property
    def wants_flush(self) -> bool:
        """Whether a snapshot is to be taken as soon as the overlays are written."""
        return bool(self._wanted)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not (self._wanted or self._sending or self._staging or self._abandoned)

    def sends_to(self, node: NodeId) -> bool:
        """Whether that node is being sent a snapshot, or about to be."""
        return node in self._wanted.values() or any(one.node == node for one in self._sending.values())

    def wake_in_ms(self, now_ms: int) -> int:
        """When there is something to do next, by the clock alone."""
        staged = any(one.has_parts or one.is_whole for one in self._staging.values())
        if self._abandoned or self._wanted or staged:
            return 0
        if any(self._may_send(one) for one in self._sending.values()):
            return max(self._part_at_ms - now_ms, 0)
        return self._engine.settings.snapshot_silence_ms

    def describe(self, group: GroupId) -> list[dict[str, Any]]:
        """What is under way for a group, and what was refused, for people."""
        found: list[dict[str, Any]] = [
            {"to": one.node, "index": one.index, "bytes": one.sent_bytes}
            for (of_group, _), one in self._sending.items() if of_group == group
        ]  # fmt: skip
        staging = self._staging.get(group)
        if staging is not None:
            found.append({"from": staging.node, "index": staging.index, "parts": staging.expected})
        found.extend({"refused": why} for (of_group, _), why in self._refused.items() if of_group == group)
        return found

    # --- Sending ------------------------------------------------------------------------------------

    def tick(self, now_ms: int) -> None:
        """Looks for followers that need a snapshot, and gives up what gets nowhere."""
        for group, driver in self._engine.groups.items():
            for member in driver.replica.lacking:
                self._want(now_ms, group, member, driver.nodes.get(member))
        silence_ms = self._engine.settings.snapshot_silence_ms
        for key, sending in list(self._sending.items()):
            if not self._engine.groups[key[0]].replica.awaits_snapshot(key[1]):
                del self._sending[key]  # It has caught up, or another leads.
            elif now_ms - sending.heard_ms > silence_ms:
                self._fail(now_ms, key, 0)
        for group, staging in list(self._staging.items()):
            if now_ms - staging.heard_ms > 2 * silence_ms:
                self._abandon(group)

    def _want(self, now_ms: int, group: GroupId, member: ReplicaId, node: NodeId | None) -> None:
        key = (group, member)
        full = len(self._wanted) + len(self._sending) >= self._engine.settings.snapshots_sent_max
        if key in self._wanted or full or node is None or not self._engine.boot_of(node):
            return
        if now_ms >= self._retry_ms.get(key, now_ms):
            self._wanted[key] = node

    def peer_up(self, now_ms: int, node: NodeId, boot_id: bytes) -> None:
        """A peer is connected, perhaps again: what it may not have got is sent again, unless it has started
        since and forgotten all of it."""
        for key, sending in list(self._sending.items()):
            driver = self._engine.groups[key[0]]
            if sending.node == node and sending.boot_id != boot_id:
                self._fail(now_ms, key, 0)
            elif sending.node == node and driver.leads:
                sending.send_again(driver.replica.term, self._engine.out)

    def _begin(self, now_ms: int) -> None:
        """Takes the snapshots that were waited for: everything applied is written at this moment."""
        for key, node in list(self._wanted.items()):
            group, member = key
            driver = self._engine.groups[group]
            if driver.applying.is_dirty:
                continue
            del self._wanted[key]
            boot_id = self._engine.boot_of(node)
            if boot_id is None or member not in driver.replica.lacking:
                continue
            index = driver.applying.applied
            view = self._store.state_snapshot(group, driver.epoch)
            term = self._store.log(group).term(index)
            self._transfers = (self._transfers + 1) & _TRANSFER_MAX
            self._sending[key] = Sending(
                group, driver.replica.id, member, (node, boot_id), self._transfers, (term, index),
                driver.replica.membership, view, now_ms,
            )  # fmt: skip
            driver.replica.snapshot_sending(member, index)

    def _pump(self, now_ms: int) -> None:
        """Sends one part, if it is time for one; the transfers take turns."""
        settings, out = self._engine.settings, self._engine.out
        for key, sending in list(self._sending.items()):
            driver = self._engine.groups[key[0]]
            if not driver.leads:
                del self._sending[key]
            elif now_ms >= self._part_at_ms and self._may_send(sending):
                size = sending.send(driver.replica.term, settings.snapshot_part_bytes, out)
                self._part_at_ms = now_ms + size * 1000 // settings.snapshot_bytes_a_second
                self._sending[key] = self._sending.pop(key)
                break

    def _may_send(self, sending: Sending) -> bool:
        """Whether the receiver is connected, and has room."""
        window_bytes = self._engine.settings.snapshot_window_bytes
        return self._engine.boot_of(sending.node) is not None and sending.may_send(window_bytes)

    def on_reply(self, now_ms: int, node: NodeId, reply: Reply) -> None:
        """What the receiver of a transfer says."""
        key = (reply.group, reply.replica)
        sending = self._sending.get(key)
        if sending is None or sending.transfer != reply.transfer or sending.node != node:
            return
        driver = self._engine.groups[reply.group]
        if reply.taken == Taken.GOING_ON:
            sending.acknowledged(reply.number, now_ms)
        elif reply.taken == Taken.INSTALLED:
            del self._sending[key]
            self._retry_ms.pop(key, None)
            self._refused.pop(key, None)
            self.sent += 1
            driver.replica.snapshot_installed(reply.replica, sending.index)
            self._engine.touch(driver)
        else:
            settings = self._engine.settings
            if reply.taken == Taken.REFUSED:
                self._refused[key] = reply.text
                self._engine.out.effects.notes.append(
                    f"node {node} does not take a snapshot of group {reply.group}: {reply.text}"
                )
                self._fail(now_ms, key, settings.snapshot_silence_ms)
            else:
                self._fail(now_ms, key, settings.snapshot_retry_ms)

    def _fail(self, now_ms: int, key: _Key, wait_ms: int) -> None:
        del self._sending[key]
        self._retry_ms[key] = now_ms + wait_ms
        self._engine.groups[key[0]].replica.snapshot_failed(key[1])

    # --- Receiving ----------------------------------------------------------------------------------

    def on_part(self, now_ms: int, node: NodeId, driver: GroupDriver, message: Message, part: bytes) -> None:
        """A part arrived, whose message the replica has taken. Raises :class:`ProtocolError`."""
        group, number = driver.group, message.hint
        if message.term < driver.replica.term or driver.is_halted:
            return
        staging = self._staging.get(group)
        if staging is not None and staging.is_of(node, message):
            if not staging.take(number, part, now_ms):
                self._reply(message, node, group, Taken.GOING_ON, staging.expected)
        elif message.index <= driver.replica.commit:
            self._reply(message, node, group, Taken.INSTALLED)
        elif number:
            self._reply(message, node, group, Taken.UNKNOWN)
        elif staging is not None and staging.sender_term > message.term:
            return
        else:
            self._stage_from(now_ms, node, driver, message, part)

    def _stage_from(
        self, now_ms: int, node: NodeId, driver: GroupDriver, message: Message, part: bytes
    ) -> None:
        """Begins to receive, or says why not."""
        group, known = driver.group, snapshotwire.SNAPSHOT_VERSION
        self._abandon(group)
        version, membership = decode_head(part)
        if version != known:
            text = (
                f"it is of version {version}, and the release that runs here takes version {known};"
                " run one release on all nodes"
            )
            self._engine.out.effects.notes.append(f"a snapshot of group {group} is refused: {text}")
            self._reply(message, node, group, Taken.REFUSED, text=text)
        elif message.receiver not in members_of(membership):
            text = f"replica {message.receiver} is no member of the group as of then"
            self._reply(message, node, group, Taken.REFUSED, text=text)
        elif len(self._staging) >= self._engine.settings.snapshots_received_max:
            self._reply(message, node, group, Taken.BUSY)
        else:
            self._epochs[group] += 1
            self._staging[group] = Staging(group, node, message, membership, self._epochs[group], now_ms)
            self._reply(message, node, group, Taken.GOING_ON, 1)

    def _reply(
        self, message: Message, node: NodeId, group: GroupId, taken: int, number: int = 0, text: str = ""
    ) -> None:
        reply = Reply(group, message.receiver, message.context, taken, number, text)
        self._engine.out.peer(node, Priority.LOG, encode_reply(reply))

    def _tell(self, staging: Staging, taken: int, number: int = 0, text: str = "") -> None:
        reply = Reply(staging.group, staging.replica, staging.transfer, taken, number, text)
        self._engine.out.peer(staging.node, Priority.LOG, encode_reply(reply))

    def _abandon(self, group: GroupId) -> None:
        staging = self._staging.pop(group, None)
        if staging is not None:
            self._abandoned.append(staging)

    def _stage(self) -> None:
        """Stages one part; the transfers take turns."""
        for group, staging in list(self._staging.items()):
            if staging.index <= self._engine.groups[group].replica.commit:
                self._tell(staging, Taken.INSTALLED)
                self._abandon(group)
            elif staging.has_parts:
                self._staging[group] = self._staging.pop(group)
                batch = self._writer.batch()
                try:
                    staging.stage(batch)
                except ProtocolError as error:
                    self._tell(staging, Taken.REFUSED, text=str(error))
                    self._abandon(group)
                    return
                self._writer.write(batch, [])
                self._tell(staging, Taken.GOING_ON, staging.expected)
                break
            elif staging.is_whole:
                self._install(staging)
                break

    def _install(self, staging: Staging) -> None:
        """Hands the switch to the store: all of it is one write."""
        group, index, term = staging.group, staging.index, staging.term
        former = self._engine.groups[group]
        del self._staging[group]
        if former.leads:  # It has all that was committed, and is about to find that out.
            self._abandoned.append(staging)
            return
        replica = former.replica
        log = self._store.log(group)
        keep = log.first_index() - 1 <= index <= log.last_index() and log.term(index) == term
        stored = StoredReplica(
            ReplicaIdentity(group, replica.id), staging.membership,
            HardState(replica.term, replica.vote, index), index, staging.epoch, staging.epoch,
        )  # fmt: skip
        batch = self._writer.batch()
        for epoch in range(former.epoch, staging.epoch):  # Also of transfers given up.
            batch.drop_state(group, epoch)
        batch.switch(stored)
        batch.cut_log(group, index, term, keep=keep)
        former.halt()
        # Somebody must wait for the sync, or none is asked for.
        round_number = self._writer.next_round
        self._writer.write(batch, [SyncWait(former, (), Term(0), Index(0))])
        self._written[group] = _Installing(round_number, staging, stored, former)

    def take_over(self) -> None:
        """Makes replicas anew whose switch is in the store by now. Before anything else reads of them."""
        for group, installing in list(self._written.items()) if self._written else ():
            if installing.round_number <= self._writer.written:
                del self._written[group]
                self._engine.reopen(installing.stored, installing.former)
                self._unsynced.append(installing)

    def synced(self) -> None:
        """A sync is done: tells of the switches that it covers."""
        if not self._unsynced:
            return
        waiting = [one for one in self._unsynced if one.round_number > self._writer.synced_round]
        for installing in self._unsynced:
            if installing.round_number <= self._writer.synced_round:
                stored, staging = installing.stored, installing.staging
                self._engine.groups[staging.group].replica.synced(stored.hard_state.term, stored.applied)
                self.installed += 1
                self._tell(staging, Taken.INSTALLED)
        self._unsynced = waiting

    # --- The round ----------------------------------------------------------------------------------

    def round(self, now_ms: int) -> None:
        """Does a bounded part of what is under way. The store takes writes, and every overlay whose writing
        was asked for is written."""
        if self._wanted:
            self._begin(now_ms)
        if self._sending:
            self._pump(now_ms)
        if self._staging:
            self._stage()
        if self._abandoned and not self._writer.is_stalled:
            batch = self._writer.batch()
            for staging in self._abandoned:
                staging.abandon(batch)
            self._abandoned.clear()
            self._writer.write(batch, [])
        if self._written and not self._writer.is_stalled:
            self.take_over()
