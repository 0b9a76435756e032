"""One snapshot on its way to a replica that needs it: read from a cursor, sent in parts, a few ahead.

The cursor sees the state as of one moment, whatever is written meanwhile. Parts that are not acknowledged
stay here, so that they can be sent again when the connection was lost; the receiver knows them by number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

import xxhash

from primitives.ids import GroupId, NodeId
from raftgroup.types import Index, Membership, Message, MessageKind, ReplicaId, Term
from shards.outbox import Outbox
from shards.ports import Priority, StateView
from shards.snapshotwire import Part, encode_end, encode_head, encode_row, encode_snapshot


class Sending:
    """A transfer, on the leader's side."""

    def __init__(
        self, group: GroupId, sender: ReplicaId, receiver: ReplicaId, at: tuple[NodeId, bytes], transfer: int,
        entry: tuple[Term, Index], membership: Membership, view: StateView, now_ms: int,
    ) -> None:  # fmt: skip
        """``view`` is the state as of ``entry``, with that membership; ``transfer`` a number that no boot of
        this node used before; the receiver is ``at`` that boot of a node."""
        self.group: Final = group
        self.receiver: Final = receiver
        self.node, self.boot_id = at
        self.transfer: Final = transfer
        self.index: Final = entry[1]
        self.heard_ms = now_ms
        """When the receiver last got on."""
        self.sent_bytes = 0
        self._sender: Final = sender
        self._term: Final = entry[0]
        self._head: bytes | None = encode_head(membership)
        self._walk: Iterator[tuple[bytes, bytes]] | None = view.scan(b"", None)
        self._hash: Final = xxhash.xxh3_128()
        self._rows = 0
        self._next = 0
        self._window: deque[tuple[int, bytes]] = deque()
        self._window_bytes = 0

    def may_send(self, window_bytes: int) -> bool:
        """Whether there is more to send, and room for it: less than so much is not acknowledged."""
        return self._walk is not None and self._window_bytes < window_bytes

    def send(self, term: Term, part_bytes: int, out: Outbox) -> int:
        """Sends the next part, of so many bytes or a row more; returns its size. ``term`` is the leader's."""
        part = self._make(part_bytes)
        self._window.append((self._next, part))
        self._window_bytes += len(part)
        self.sent_bytes += len(part)
        self._send(term, self._next, part, out)
        self._next += 1
        return len(part)

    def send_again(self, term: Term, out: Outbox) -> None:
        """The connection is a new one: what is not acknowledged may never have arrived."""
        for number, part in self._window:
            self._send(term, number, part, out)

    def acknowledged(self, number: int, now_ms: int) -> None:
        """The receiver has taken every part before ``number``."""
        window = self._window
        while window and window[0][0] < number:
            self._window_bytes -= len(window.popleft()[1])
            self.heard_ms = now_ms

    def _send(self, term: Term, number: int, part: bytes, out: Outbox) -> None:
        message = Message(
            MessageKind.SNAPSHOT, self._sender, self.receiver, term, index=self.index, log_term=self._term,
            context=self.transfer, hint=Index(number),
        )  # fmt: skip
        out.peer(self.node, Priority.BULK, encode_snapshot(self.group, message, part))

    def _make(self, part_bytes: int) -> bytes:
        if self._head is not None:
            head, self._head = self._head, None
            return head
        rows: list[bytes] = []
        size = 0
        for key, value in self._walk or ():
            row = encode_row(key, value)
            rows.append(row)
            size += len(row)
            if size >= part_bytes:
                break
        if not rows:
            self._walk = None  # Lets the cursor go.
            return encode_end(self._rows, self._hash.digest())
        body = b"".join(rows)
        self._hash.update(body)
        self._rows += len(rows)
        return bytes((Part.ROWS,)) + body
