"""A snapshot that is being received: its rows are written under an epoch of their own, unseen by anybody.

Parts come in order, each a bounded number of bytes; what comes twice is taken once. Nothing of it counts
before the whole is there and its hash fits: then one write, made by ``snapshots``, lets the new epoch be the
valid one. A transfer that is given up leaves rows behind, which are deleted by their epoch.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import xxhash

from primitives.errors import ProtocolError
from primitives.ids import GroupId, NodeId
from raftgroup.types import Index, Membership, Message, ReplicaId, Term
from shards.ports import Batch
from shards.snapshotwire import Part, decode_end, decode_rows

PENDING_PARTS_MAX: Final = 256
PENDING_BYTES_MAX: Final = 8 << 20


class Staging:
    """A transfer, on the receiver's side."""

    def __init__(
        self, group: GroupId, node: NodeId, message: Message, membership: Membership, epoch: int, now_ms: int
    ) -> None:
        """``message`` came with the head, ``epoch`` was never used before."""
        self.group: Final = group
        self.node: Final = node
        self.replica: Final[ReplicaId] = message.receiver
        self.transfer: Final = message.context
        self.sender_term: Final[Term] = message.term
        self.index: Final[Index] = message.index
        self.term: Final[Term] = message.log_term
        self.membership: Final = membership
        self.epoch: Final = epoch
        self.heard_ms = now_ms
        self.is_whole = False
        """Every row is here, and the hash fits."""
        self.expected = 1
        """The next part to be staged; the head was 0."""
        self._begun = False
        self._pending: deque[bytes] = deque()
        self._pending_bytes = 0
        self._hash: Final = xxhash.xxh3_128()
        self._rows = 0

    def is_of(self, node: NodeId, message: Message) -> bool:
        """Whether a part that came with that message belongs to this transfer: number and state are the
        same."""
        return (
            self.node == node and self.transfer == message.context
            and self.index == message.index and self.term == message.log_term
        )

    @property
    def has_parts(self) -> bool:
        """Whether parts wait to be staged."""
        return bool(self._pending)

    def take(self, number: int, part: bytes, now_ms: int) -> bool:
        """Keeps a part until :meth:`stage` comes to it. False, with nothing done: it is not the next one."""
        if number != self.expected + len(self._pending) or self.is_whole:
            return False
        if len(self._pending) >= PENDING_PARTS_MAX or self._pending_bytes > PENDING_BYTES_MAX:
            raise ProtocolError(f"too many parts of a snapshot of group {self.group} without an answer")
        self._pending.append(part)
        self._pending_bytes += len(part)
        self.heard_ms = now_ms
        return True

    def stage(self, batch: Batch) -> None:
        """Puts the rows of one part into ``batch``. Raises :class:`ProtocolError` for what is no part, or a
        hash that does not fit."""
        part = self._pending.popleft()
        self._pending_bytes -= len(part)
        if not self._begun:
            self._begun = True
            batch.use_epoch(self.group, self.epoch)
        if part[0] == Part.ROWS:
            self._hash.update(part[1:])
            for key, value in decode_rows(part):
                batch.put_state(self.group, self.epoch, key, value)
                self._rows += 1
        elif part[0] == Part.END:
            if decode_end(part) != (self._rows, self._hash.digest()):
                raise ProtocolError(f"the snapshot of group {self.group} is not what its hash says")
            self.is_whole = True
        else:
            raise ProtocolError("a second head of a snapshot")
        self.expected += 1

    def abandon(self, batch: Batch) -> None:
        """Deletes what was staged."""
        if self._begun:
            batch.drop_state(self.group, self.epoch)
