"""A disk that loses what was not synced, and the engine's store on it.

A :class:`Disk` outlives the node's process. It holds what is durable and, in order, the batches that were
written since and not synced. A crash keeps a prefix of those, chosen by the seed, each batch whole or not
at all, as a write-ahead log does. A :class:`SimStore` is the store that one boot of a node opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Final

from bench.world.clock import Action, Heap
from bench.world.image import Image, Log
from primitives.errors import InvariantViolation
from primitives.ids import GroupId
from raftgroup.types import Entry, HardState, Index, Membership, Term
from shards.ports import Batch, StateView, StoreDamaged, StoredReplica


class SimBatch:
    """The writes of one round, recorded to be carried out on an image, more than once if need be."""

    __slots__ = (
        "appends", "applies", "creates", "cuts", "drops", "epochs", "hard_states", "round_number", "rows",
        "spans", "switches",
    )  # fmt: skip

    def __init__(self, round_number: int) -> None:
        self.round_number: Final = round_number
        self.appends: list[tuple[GroupId, tuple[Entry, ...], Index]] = []
        self.hard_states: list[tuple[GroupId, HardState]] = []
        self.rows: list[tuple[GroupId, int, bytes, bytes | None]] = []
        self.spans: list[tuple[int, GroupId, int, bytes, bytes]] = []
        """Rows to remove, each span before the row of that number is set."""
        self.applies: list[tuple[GroupId, Index, Membership]] = []
        self.creates: list[StoredReplica] = []
        self.cuts: list[tuple[GroupId, Index, Term, bool]] = []
        self.epochs: list[tuple[GroupId, int]] = []
        self.drops: list[tuple[GroupId, int]] = []
        self.switches: list[StoredReplica] = []

    @property
    def is_empty(self) -> bool:
        """See :class:`shards.ports.Batch`."""
        return not (
            self.appends or self.hard_states or self.rows or self.spans or self.applies or self.creates
            or self.cuts or self.epochs or self.drops or self.switches
        )  # fmt: skip

    def append(self, group: GroupId, entries: Sequence[Entry], last_stored: Index) -> None:
        """See :class:`shards.ports.Batch`."""
        self.appends.append((group, tuple(entries), last_stored))

    def hard_state(self, group: GroupId, state: HardState) -> None:
        """See :class:`shards.ports.Batch`."""
        self.hard_states.append((group, state))

    def put_state(self, group: GroupId, epoch: int, key: bytes, value: bytes) -> None:
        """See :class:`shards.ports.Batch`."""
        self.rows.append((group, epoch, key, value))

    def delete_state(self, group: GroupId, epoch: int, key: bytes) -> None:
        """See :class:`shards.ports.Batch`."""
        self.rows.append((group, epoch, key, None))

    def write_state(
        self, group: GroupId, epoch: int, prefix: bytes, rows: Mapping[bytes, bytes | None]
    ) -> None:
        """See :class:`shards.ports.Batch`."""
        self.rows.extend((group, epoch, prefix + key, value) for key, value in rows.items())

    def drop_rows(self, group: GroupId, epoch: int, first: bytes, last: bytes) -> None:
        """See :class:`shards.ports.Batch`."""
        self.spans.append((len(self.rows), group, epoch, first, last))

    def applied(self, group: GroupId, index: Index, membership: Membership) -> None:
        """See :class:`shards.ports.Batch`."""
        self.applies.append((group, index, membership))

    def create(self, replica: StoredReplica) -> None:
        """See :class:`shards.ports.Batch`."""
        self.creates.append(replica)

    def cut_log(self, group: GroupId, index: Index, term: Term, *, keep: bool = True) -> None:
        """See :class:`shards.ports.Batch`."""
        self.cuts.append((group, index, term, keep))

    def use_epoch(self, group: GroupId, epoch: int) -> None:
        """See :class:`shards.ports.Batch`."""
        self.epochs.append((group, epoch))
        self.drops.append((group, epoch))

    def drop_state(self, group: GroupId, epoch: int) -> None:
        """See :class:`shards.ports.Batch`."""
        self.drops.append((group, epoch))

    def switch(self, replica: StoredReplica) -> None:
        """See :class:`shards.ports.Batch`."""
        self.switches.append(replica)
        self.applies.append((replica.identity.group, replica.applied, replica.membership))
        self.hard_states.append((replica.identity.group, replica.hard_state))

    def carry_out(self, image: Image) -> None:
        """Makes the batch's writes in ``image``, but for the rows of state."""
        if self.round_number != image.last_round + 1:
            raise InvariantViolation(f"round {self.round_number} is written after {image.last_round}")
        image.last_round = self.round_number
        for replica in self.creates:
            group = replica.identity.group
            if group in image.replicas:
                raise InvariantViolation(f"group {group} is created twice in one store")
            image.replicas[group] = replica
            image.hard_states[group] = replica.hard_state
            image.applied[group] = (replica.applied, replica.membership)
        for replica in self.switches:
            group = replica.identity.group
            if replica.epoch <= image.replicas[group].epoch:
                raise InvariantViolation(f"group {group} goes back to epoch {replica.epoch}")
            image.replicas[group] = replica
        for group, epoch in self.epochs:
            if epoch <= max(image.epochs_used.get(group, 0), image.replicas[group].epoch):
                raise InvariantViolation(f"group {group} uses epoch {epoch} again")
            image.epochs_used[group] = epoch
        for group, entries, last_stored in self.appends:
            if entries:
                image.log(group).append(entries, last_stored)
        for group, state in self.hard_states:
            _check_hard_state(group, image.hard_states.get(group), state)
            image.hard_states[group] = state
        for group, index, membership in self.applies:
            if index < image.applied[group][0]:
                raise InvariantViolation(f"group {group}: the stored applied index goes back to {index}")
            image.applied[group] = (index, membership)
        for group, index, term, keep in self.cuts:
            if index > image.applied[group][0]:
                raise InvariantViolation(f"group {group}: the log is cut at {index}, which is not applied")
            image.log(group).cut(index, term, keep=keep)

    def carry_out_rows(self, image: Image) -> None:
        """Makes the batch's writes to rows of state in ``image``."""
        for state in self.drops:
            image.rows.pop(state, None)
        done = 0
        for at, group, epoch, first, last in self.spans:
            _set_rows(image, self.rows[done:at])
            image.state(group, epoch).drop(first, last)
            done = at
        _set_rows(image, self.rows[done:])


def _set_rows(image: Image, given: Sequence[tuple[GroupId, int, bytes, bytes | None]]) -> None:
    by_state: dict[tuple[GroupId, int], dict[bytes, bytes | None]] = {}
    for group, epoch, key, value in given:
        by_state.setdefault((group, epoch), {})[key] = value
    for (group, epoch), rows in by_state.items():
        image.state(group, epoch).set_all(rows)


def _check_hard_state(group: GroupId, former: HardState | None, state: HardState) -> None:
    if former is None:
        return
    if state.term < former.term or state.commit < former.commit:
        raise InvariantViolation(f"group {group}: the stored hard state goes back from {former} to {state}")
    if state.term == former.term and former.vote not in (0, state.vote):
        raise InvariantViolation(f"group {group}: a second vote in one term, {state} after {former}")


class Disk:
    """What survives the process: the durable image and the batches written since, in order."""

    __slots__ = (
        "_rows_behind", "_stalled", "_waiting", "damaged", "durable", "live", "pending", "refusing",
        "sync_fails", "written",
    )  # fmt: skip

    def __init__(self) -> None:
        self.durable = Image()
        """What a crash keeps at least; its rows of state are brought up to date only by a crash."""
        self.live = Image()
        self._rows_behind: list[SimBatch] = []
        self.pending: list[SimBatch] = []
        self.written = 0
        """Batches ever written, surviving or not."""
        self.refusing = False
        """Writes are refused for now."""
        self.sync_fails = False
        """The next sync fails."""
        self.damaged = False
        """What it holds fails its checksums, which the next start finds."""
        self._stalled = False
        self._waiting: list[Action] = []
        """Ends of syncs that stall."""

    def set_stalled(self, stalled: bool) -> None:
        """Whether syncs do not come to an end for now."""
        self._stalled = stalled
        if not stalled:
            waiting, self._waiting = self._waiting, []
            for finish in waiting:
                finish()

    def when_it_syncs(self, finish: Action) -> None:
        """Lets a sync end, now or when syncs no longer stall."""
        if self._stalled:
            self._waiting.append(finish)
        else:
            finish()

    def write(self, batch: SimBatch) -> None:
        """Makes the batch's writes visible; a crash may lose them until they are synced."""
        batch.carry_out(self.live)
        batch.carry_out_rows(self.live)
        self.pending.append(batch)
        self.written += 1

    def sync(self, mark: int) -> None:
        """Makes durable all batches up to the ``mark``-th ever written."""
        count = mark - (self.written - len(self.pending))
        self._keep(max(count, 0))

    def crash(self, random: Random) -> tuple[int, int]:
        """Loses a suffix, perhaps all or none, of what is not synced. Returns how many batches survived of
        how many."""
        count = len(self.pending)
        kept = random.choice((0, count, random.randint(0, count)))
        self._keep(kept)
        self.pending.clear()
        self._waiting.clear()
        for batch in self._rows_behind:
            batch.carry_out_rows(self.durable)
        self._rows_behind.clear()
        self.live = self.durable.copy()
        return kept, count

    def _keep(self, count: int) -> None:
        for batch in self.pending[:count]:
            batch.carry_out(self.durable)
            if batch.rows or batch.spans or batch.drops:
                self._rows_behind.append(batch)
        del self.pending[:count]


class SimStore:
    """The store port on a disk, for one boot of a node. ``wrote`` is told each batch after it is written,
    ``writing`` before. Raises StoreDamaged if the disk is."""

    __slots__ = ("_disk", "_refused", "_writing", "_wrote")

    def __init__(
        self, disk: Disk, wrote: Callable[[SimBatch], None] | None = None, writing: Action | None = None
    ) -> None:
        if disk.damaged:
            raise StoreDamaged("what the disk holds fails its checksums")
        self._disk = disk
        self._writing = writing
        self._wrote = wrote
        self._refused: SimBatch | None = None

    @property
    def last_round(self) -> int:
        """See :class:`shards.ports.Store`."""
        return self._disk.live.last_round

    @property
    def settled(self) -> bool:
        """Whether no refused batch waits to be written."""
        return self._refused is None

    def batch(self, round_number: int) -> Batch:
        """See :class:`shards.ports.Store`."""
        return SimBatch(round_number)

    def write(self, batch: Batch) -> bool:
        """See :class:`shards.ports.Store`."""
        if not isinstance(batch, SimBatch):
            raise InvariantViolation("a batch of another store")
        if self._refused is not None and batch is not self._refused:
            raise InvariantViolation("another batch is written before the refused one")
        if self._disk.refusing:
            self._refused = batch
            return False
        if self._writing is not None:
            self._writing()
        self._refused = None
        self._disk.write(batch)
        if self._wrote is not None:
            self._wrote(batch)
        return True

    def synced(self, round_number: int) -> None:
        """See :class:`shards.ports.Store`."""
        if round_number > self._disk.durable.last_round:
            raise InvariantViolation(f"round {round_number} is called synced, which the disk has not kept")

    def replicas(self) -> Sequence[StoredReplica]:
        """See :class:`shards.ports.Store`."""
        image = self._disk.live
        return [
            StoredReplica(
                identity=stored.identity, membership=image.applied[group][1],
                hard_state=image.hard_states[group], applied=image.applied[group][0], epoch=stored.epoch,
                epoch_used=image.epochs_used.get(group, 0),
            )
            for group, stored in sorted(image.replicas.items())
        ]  # fmt: skip

    def log(self, group: GroupId) -> Log:
        """See :class:`shards.ports.Store`."""
        return self._disk.live.log(group)

    def state(self, group: GroupId, epoch: int) -> StateView:
        """See :class:`shards.ports.Store`."""
        return self._disk.live.state(group, epoch)

    def state_snapshot(self, group: GroupId, epoch: int) -> StateView:
        """See :class:`shards.ports.Store`."""
        return self._disk.live.state(group, epoch).copy()


class SimSyncer:
    """The syncer port: one sync at a time, each with a delay drawn from ``delay_ms``. A sync makes durable
    what was written when it began. ``failed`` is called, once and last, when a sync fails; ``stop`` ends it
    with the node's process."""

    __slots__ = (
        "_disk", "_done", "_failed", "_heap", "_random", "_running", "_stopped", "_wanted", "delay_ms",
    )  # fmt: skip

    def __init__(
        self, heap: Heap, disk: Disk, random: Random, *, done: Callable[[int], None],
        failed: Callable[[], None], delay_ms: tuple[int, int],
    ) -> None:  # fmt: skip
        self._heap = heap
        self._disk = disk
        self._random = random
        self._done = done
        self._failed = failed
        self.delay_ms = delay_ms
        self._wanted = 0
        self._running = False
        self._stopped = False

    def begin(self) -> None:
        """See ``ports.Syncer``: there is no other thread."""

    def request(self, round_number: int) -> None:
        """See :class:`shards.ports.Syncer`."""
        self._wanted = max(self._wanted, round_number)
        if not self._running:
            self._begin()

    def stop(self) -> None:
        """No sync completes any more."""
        self._stopped = True

    def _begin(self) -> None:
        self._running = True
        wanted, mark = self._wanted, self._disk.written
        self._heap.after(self._random.randint(*self.delay_ms), lambda: self._ready(wanted, mark))

    def _ready(self, round_number: int, mark: int) -> None:
        if not self._stopped:
            self._disk.when_it_syncs(lambda: self._finish(round_number, mark))

    def _finish(self, round_number: int, mark: int) -> None:
        if self._stopped:
            return
        if self._disk.sync_fails:
            self._disk.sync_fails = False
            self._failed()
            return
        self._disk.sync(mark)
        self._running = False
        if self._wanted > round_number:
            self._begin()
        self._done(round_number)
