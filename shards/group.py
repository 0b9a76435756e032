"""One replica on a node: its consensus, its state machine, and whoever waits for either.

The driver is synchronous and owned by the engine. In a round it takes what arrived (:meth:`submit`,
:meth:`step`, :meth:`tick`), hands out what to write and send (:meth:`advance`), applies what is committed
(:meth:`apply`) and serves what was asked (:meth:`serve`). A waiter is kept by the index and term of its
entry and resolved exactly once: answered, or told that its fate is unknown.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final

from primitives.applier import Applier
from primitives.errors import Code
from primitives.ids import SLOTS, GroupId, NodeId, Revision, SlotId
from primitives.records import (
    U32,
    BadRecord,
    Burst,
    Command,
    Expire,
    Fire,
    Kind,
    Open,
    Query,
    Read,
    Record,
    Type,
    decode_burst,
    decode_command,
    decode_query,
    decode_record,
    encode_answer,
    encode_expire,
    encode_fire,
    encode_open,
    is_near,
)
from raftgroup.membership import encode_membership, left
from raftgroup.replica import Replica
from raftgroup.types import EntryKind, Index, Message, MessageKind, ReplicaId, Role, Term
from shards.applying import Applying
from shards.leases import LeaderLeases
from shards.localreads import AHEAD, UNPROVEN, LocalReads, Verdict
from shards.logcut import LogCut
from shards.logtime import LogTime, last_log_time_ms
from shards.opening import Openings, Question
from shards.outbox import NOBODY, OPENED, Outbox
from shards.peerwire import encode_read_ask, encode_read_reply
from shards.ports import Batch, LogReader, Origin, Priority, Store, StoredReplica
from shards.proposals import Proposals
from shards.reads import Asked, Confirm, Proof, Reads
from shards.resting import at_rest
from shards.settings import EngineSettings

FIRE_COUNT: Final = 100
TRANSFER_LAG_ENTRIES: Final = 256
"""A replica that lacks more than this is not handed a leadership: writes would wait for it to catch up."""


class GroupDriver:
    """A replica of one group, with its applier and its waiters."""

    def __init__(
        self, node: NodeId, stored: StoredReplica, replica: Replica, applier: Applier, store: Store,
        nodes: dict[ReplicaId, NodeId], former: GroupDriver | None = None,
    ) -> None:  # fmt: skip
        """``former``: the driver whose state a snapshot has replaced; who waits there now waits here."""
        self.group: Final[GroupId] = stored.identity.group
        self.epoch: Final = stored.epoch
        self.replica: Final = replica
        self.applier: Final = applier
        self.nodes = nodes
        self.openings: Final = Openings()
        self.leases: Final = LeaderLeases()
        self.local: Final[LocalReads] = LocalReads() if former is None else former.local
        self.preferred_until_ms = 0
        self.applying: Final = Applying(stored, applier, self.leases, store)
        if former is not None:
            self.applying.inherit(former.applying)
        self.is_halted = False
        """Whether another driver takes this one's place: it does nothing more."""
        self._node = node
        self.log: Final[LogReader] = store.log(self.group)
        self._written: Index = self.log.last_index()
        self._log_time = LogTime()
        self._log_cut = LogCut(self.group, self.log, self.applying)
        self._led_term = Term(0)
        self._proposals = Proposals()
        self._reads = Reads()

    # --- What arrives -------------------------------------------------------------------------------

    @property
    def leads(self) -> bool:
        """Whether this replica believes that it leads."""
        return self.replica.role == Role.LEADER

    @property
    def leader_node(self) -> NodeId | None:
        """The node of the leader that this replica knows."""
        return self.nodes.get(self.replica.leader)

    def submit(self, origin: Origin, data: bytes, out: Outbox) -> None:
        """Takes a record for the log, or a query; answers at once if it cannot be served here."""
        if self.replica.role != Role.LEADER and not is_near(data):
            out.answer(origin, self.not_leader())
            return
        try:
            kind = data[0] if data else 0
            if kind == Kind.COMMAND:
                self._submit_command(origin, data, decode_command(data), out)
            elif kind == Kind.BURST:
                self._submit_command(origin, data, decode_burst(data), out)
            elif kind == Kind.QUERY:
                self._submit_query(origin, data, out)
            else:
                self.propose(data, decode_record(data), origin, out)
        except BadRecord as error:
            out.answer(origin, encode_answer(Code.BAD_REQUEST, 0, str(error).encode()))

    def _submit_command(self, origin: Origin, data: bytes, command: Command | Burst, out: Outbox) -> None:
        slot = command.slot
        if slot >= SLOTS or not self.applier.owns(slot, command.epoch):
            out.answer(origin, encode_answer(Code.WRONG_SLOT, 0))
        elif self.openings.parked and slot in self.openings.parked:
            self._park(origin, data, slot, out)
        elif self._is_unknown(command) and not self.openings.is_dead(command.primitive):
            self._park(origin, data, slot, out)
            self.openings.ask(Question(slot, command.primitive, command.partition, self.applier.revision))
        else:
            self.propose(data, command, origin, out)

    def _submit_query(self, origin: Origin, data: bytes, out: Outbox) -> None:
        query = decode_query(data)
        if query.read > Read.STALE:
            raise BadRecord("a query of an unknown freshness")
        slot = query.slot
        if self.replica.role != Role.LEADER:
            self._submit_near(origin, query, out)
        elif not self.applier.owns(slot, query.epoch):
            out.answer(origin, encode_answer(Code.WRONG_SLOT, 0))
        elif self._is_unknown(query) and not self.openings.is_dead(query.primitive):
            self._park(origin, data, slot, out)
            self.openings.ask(Question(slot, query.primitive, query.partition, self.applier.revision))
        elif query.read:
            self._submit_near(origin, query, out)
        else:
            self._reads.add((origin, query))

    def _submit_near(self, origin: Origin, query: Query, out: Outbox) -> None:
        """Takes a query that any voter may answer. What a learner has may be nothing yet."""
        learns = self.replica.id in self.replica.membership.learners
        if learns or self.is_halted or not self.local.add(origin, query):
            out.answer(origin, self.not_leader())

    def _is_unknown(self, asked: Command | Burst | Query) -> bool:
        return asked.type > Type.SYSTEM and not self.applier.knows(
            asked.slot, asked.primitive, asked.partition
        )

    def _park(self, origin: Origin, data: bytes, slot: int, out: Outbox) -> None:
        if not self.openings.park(slot, origin, data):
            text = b"too many calls wait for a partition to open"
            out.answer(origin, encode_answer(Code.OVERLOADED, 0, text))

    def propose(self, data: bytes, record: Record, origin: Origin, out: Outbox) -> None:
        """Puts a record into the next entry."""
        if self._proposals.is_full:
            out.answer(origin, encode_answer(Code.OVERLOADED, 0, b"the group's queue of proposals is full"))
        else:
            self._proposals.add(data, record, origin)

    def confirm(self, question: Confirm, now_ms: int) -> None:
        """Takes a keepalive for a session of this group; answered by a ReadIndex round begun after now."""
        if not self.leases.is_expiring(question.number):
            self.leases.arrived(now_ms, question.number)
        self._reads.add(question)

    def step(self, message: Message) -> bool:
        """Takes a message of another replica; whether that leaves something to do in this round."""
        if self.is_halted:
            return False
        replica = self.replica
        replica.step(message)
        if message.kind == MessageKind.HEARTBEAT and message.term == replica.term:
            self._log_time.heard(message.term, message.clock)
        return replica.is_stirred

    def tick(self, now_ms: int, phase: int) -> None:
        """One tick of the clock went by; heartbeats are due at the last of the ``phase``s."""
        if self.is_halted:
            return
        replica = self.replica
        if replica.role == Role.LEADER:
            replica.clock = self._log_time.now_ms(now_ms) if self._led_term == replica.term else 0
            if replica.membership.outgoing:  # A joint one is left as soon as it took effect.
                replica.propose(encode_membership(left(replica.membership)), EntryKind.MEMBERSHIP)
        elif now_ms < self.preferred_until_ms and replica.role == Role.FOLLOWER and not replica.leader:
            replica.campaign()
        replica.tick(phase)

    def peer_down(self, node: NodeId) -> bool:
        """A node's connection is gone: whether this group has a replica there."""
        for replica, at in self.nodes.items():
            if at == node:
                self.replica.unreachable(replica)
                if replica == self.replica.leader:
                    self.replica.leader_down()
                return True
        return False

    def halt(self) -> None:
        """A snapshot takes the place of this replica's state: nothing more is done with it, nor said."""
        self.is_halted = True
        self.applying.discard()

    # --- What to write and send ---------------------------------------------------------------------

    def advance(self, now_ms: int, out: Outbox, batch: Batch, stalled: bool) -> SyncWait | None:
        """Proposes what was submitted, and hands out what consensus wants written and sent.

        ``stalled``: the store holds back earlier writes, so nothing may be read from it.
        """
        if self.is_halted:
            return None
        replica = self.replica
        if (replica.term if replica.role == Role.LEADER else 0) != self._led_term:
            self._role_changed(now_ms, out)
        if self._led_term:
            if not stalled:
                self._end_what_is_due(now_ms)
            if self._proposals:
                self._proposals.enter(replica, self._log_time.now_ms(now_ms), self.applying.waiters)
            self._reads.begin(replica)
        ready = replica.ready()
        if ready is None:
            return None
        for message in ready.messages:
            self._send(message, out)
        last = self._written if ready.entries else Index(0)
        if ready.entries:
            batch.append(self.group, ready.entries, last)
            last = self._written = ready.entries[-1].index
        if ready.hard_state is not None:
            batch.hard_state(self.group, ready.hard_state)
        self.applying.take(ready.committed)
        for context, index in ready.reads:
            for proof in self._reads.confirmed(context, index):
                if proof.node == self._node:
                    self.local.proven(proof.number, index)
                else:
                    out.peer(proof.node, Priority.LOG, encode_read_reply(self.group, proof.number, index))
        for context in ready.lost_reads:
            self._refuse_reads(self._reads.lost(context), out)
        if ready.must_sync:
            term = ready.entries[-1].term if ready.entries else Term(0)
            return SyncWait(self, ready.messages_after_sync, term, last)
        return None

    def synced(self, wait: SyncWait, out: Outbox) -> bool:
        """A round that this group wrote in is durable; whether that leaves something to do in this round."""
        if self.is_halted:
            return False
        for message in wait.messages:
            self._send(message, out)
        if wait.last:
            self.replica.synced(wait.term, wait.last)
        return self.replica.is_stirred

    def _send(self, message: Message, out: Outbox) -> None:
        node = self.nodes.get(message.receiver)
        if node is not None:
            out.raft(node, self.group, message)

    def _end_what_is_due(self, now_ms: int) -> None:
        """Proposes the firing of timers and the expiry of sessions."""
        applier, applying = self.applier, self.applying
        deadline_ms = applier.next_deadline_ms
        if deadline_ms is not None and not applying.firing and deadline_ms <= self._log_time.now_ms(now_ms):
            applying.firing = True
            fire = Fire(FIRE_COUNT)
            self._proposals.add(encode_fire(fire), fire, NOBODY)
        for number in self.leases.expired(now_ms) if self.leases.is_due(now_ms) else ():
            session = applier.session(number)
            if session is not None:
                expire = Expire(session[1], number)
                self._proposals.add(encode_expire(expire), expire, NOBODY)

    # --- Leadership ---------------------------------------------------------------------------------

    def _role_changed(self, now_ms: int, out: Outbox) -> None:
        if self._led_term:
            self._deposed(out)
        replica = self.replica
        if replica.role != Role.LEADER:
            return
        self._led_term = replica.term
        # Its own first entry is not written yet; all before it is, for its vote request waited for that.
        previous = self._written
        log_ms = last_log_time_ms(self.log, previous, self.applying.applied, self.applier.log_time_ms)
        self._log_time.elected(now_ms, self.log.term(previous) if previous else Term(0), log_ms)
        replica.clock = self._log_time.now_ms(now_ms)
        self.leases.elected(now_ms, self.applier.sessions)
        for number in self.applier.closing:
            self.leases.closing(now_ms, number)
        self.preferred_until_ms = 0

    def _deposed(self, out: Outbox) -> None:
        refusal = self.not_leader()
        for origin in self._proposals.clear():
            out.answer(origin, refusal)
        self.applying.lose(self.applying.waiters.clear(), out)
        for origin, _ in self.openings.clear():
            out.answer(origin, refusal)
        self._refuse_reads(self._reads.clear(), out)
        self.leases.deposed()
        self.applying.firing = False
        self._led_term = Term(0)

    def transfer(self, node: NodeId) -> bool:
        """Begins to hand leadership to a voter's node. False unless this one leads, and that lacks little."""
        replica = self.replica
        for member, at in self.nodes.items():
            if at == node and self._led_term and replica.is_up_to_date(member, TRANSFER_LAG_ENTRIES):
                replica.transfer(member)
                return replica.is_handing_over
        return False

    def not_leader(self) -> bytes:
        """The answer to who asks a replica that does not lead."""
        leader = self.leader_node
        return encode_answer(Code.NOT_LEADER, 0, b"" if leader is None or self.leads else U32.pack(leader))

    def _refuse_reads(self, waiting: Sequence[Asked], out: Outbox) -> None:
        refusal = self.not_leader()
        for asked in waiting:
            if not isinstance(asked, Confirm):  # A keepalive that nobody confirms is sent again.
                out.answer(asked[0], refusal)

    # --- Applying -----------------------------------------------------------------------------------

    def has_more(self, now_ms: int) -> bool:
        """Whether something is left to do that no event announces: one Ready hands out a bounded part."""
        if self.replica.commit > self.applying.applied or self._reads.proving:
            return True
        if not self._led_term or self.applying.firing:
            return False
        deadline_ms = self.applier.next_deadline_ms
        return deadline_ms is not None and deadline_ms <= self._log_time.now_ms(now_ms)

    def is_at_rest(self, now_ms: int) -> bool:
        """Whether a round would find nothing to do here, now that time has gone on."""
        busy = self._proposals or self._reads.has_waiting or self.has_more(now_ms)
        return not busy and at_rest(self, self._led_term, now_ms)

    def apply(self, now_ms: int, out: Outbox) -> None:
        """Applies committed entries, up to a marker."""
        membership = self.applying.apply(now_ms, self._led_term, out)
        self.replica.applied_to(self.applying.applied)
        if membership is not None:
            self.replica.set_membership(membership)

    def flush(self, batch: Batch) -> None:
        """Writes what was applied, with the applied index, into ``batch``."""
        self.applying.flush(batch, self.replica.membership)

    def cut_log(self, batch: Batch, settings: EngineSettings, connected: Container[NodeId]) -> None:
        """Cuts from the log, in ``batch``, what is written as state and no connected replica needs."""
        if not self.is_halted:
            others = [at for at, node in self.nodes.items() if node in connected]
            self._log_cut.cut(batch, settings, self.replica.known_by(others) if self._led_term else None)

    # --- Reads --------------------------------------------------------------------------------------

    def serve(self, now_ms: int, out: Outbox) -> None:
        """Serves the reads whose index is applied, and what any replica may answer."""
        for asked in self._reads.due(self.applying.applied) if self._reads.is_serving else ():
            if isinstance(asked, Confirm):
                self._serve_confirm(asked, out)
            elif asked[1].read and asked[1].bound > self.applier.revision:
                out.answer(asked[0], AHEAD)
            else:
                out.answer(asked[0], self.applier.query(asked[1]))
        if self.local.has_waiting and not self.is_halted:
            self._serve_near(now_ms, out)

    def _serve_near(self, now_ms: int, out: Outbox) -> None:
        local, applier, leads = self.local, self.applier, self.leads
        for (origin, query, _), verdict in local.due(
            now_ms, self.applying.applied, applier.revision, leads=leads
        ):
            if verdict is Verdict.UNPROVEN:
                out.answer(origin, UNPROVEN)
            elif verdict is Verdict.BEHIND and leads:
                self._reads.add((origin, query))  # If it is not there then, it is nowhere.
            elif verdict is Verdict.BEHIND or not self._has(query):
                out.answer(origin, self.not_leader())
            else:
                out.answer(origin, applier.query(query))
        number = local.begin(now_ms)
        leader = self.leader_node
        if number is None or leader is None:
            return
        if leads:
            self._reads.prove(Proof(self._node, number))
        else:
            out.peer(leader, Priority.LOG, encode_read_ask(self.group, number))

    def _has(self, query: Query) -> bool:
        """Whether the query can be judged from the state here: a partition that is not open may only not be
        open yet."""
        if not self.applier.owns(query.slot, query.epoch):
            return False
        return not self._is_unknown(query) or self.openings.is_dead(query.primitive)

    def prove(self, node: NodeId, number: int) -> None:
        """Another replica asks how far the group has come: answered by a ReadIndex round begun after now.
        Nothing if this replica does not lead: who asked will ask again."""
        if self.leads:
            self._reads.prove(Proof(node, number))

    def _serve_confirm(self, asked: Confirm, out: Outbox) -> None:
        given = out.keepalive(asked.node, asked.connection, asked.keepalive)
        session = self.applier.session(asked.number)
        if session is None or session[1] != asked.session_id:
            given.gone.append([self.group, asked.number])
        elif not self.leases.is_expiring(asked.number):
            given.confirmed.append([self.group, asked.number, self.applier.ownership_version])

    # --- Partitions that open -----------------------------------------------------------------------

    def learned(self, slot: int, found: tuple[int, bytes] | None, out: Outbox) -> None:
        """The name's slot answered: the primitive's type and configuration, or None if it is gone."""
        question = self.openings.asking(slot)
        if question is None:
            return
        if found is None:
            self.openings.gone(question.primitive)
            self._release(slot, out)
            return
        type_, config = found
        asked = Revision(question.asked)
        record = Open(SlotId(slot), question.primitive, question.partition, type_, asked, config)
        origin = Origin(self._node, OPENED, self.group << 16 | slot)
        self.propose(encode_open(record), record, origin, out)

    def unanswered(self, slot: int, out: Outbox) -> None:
        """The name's slot could not be asked, or the opening's fate is unknown: asks again, up to a bound."""
        if not self.openings.again(slot, self.applier.revision):
            refusal = encode_answer(Code.UNAVAILABLE, 0, b"the group of the primitive's name does not answer")
            for origin, _ in self.openings.release(slot):
                out.answer(origin, refusal)

    def opened(self, slot: int, out: Outbox) -> None:
        """The opening was applied, or refused because of a deletion: what waited goes on."""
        self._release(slot, out)

    def _release(self, slot: int, out: Outbox) -> None:
        for origin, data in self.openings.release(slot):
            self.submit(origin, data, out)


class SyncWait:
    """What a group does once a round is synced."""

    __slots__ = ("driver", "last", "messages", "term")

    def __init__(self, driver: GroupDriver, messages: Sequence[Message], term: Term, last: Index) -> None:
        self.driver: Final = driver
        self.messages: Final = messages
        self.term: Final = term
        self.last: Final = last
        """Last entry written in that round; 0 if it wrote none."""
