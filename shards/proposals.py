"""What a leader is to put into its log: records in the order they came, and who waits for each."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from primitives.records import Burst, Record, encode_entry
from raftgroup.replica import Replica
from shards.ports import Origin
from shards.waiters import Pending, Waiters

ENTRY_BYTES_MAX: Final = 1 << 20
"""Records put into one entry; one record always fits."""
ENTRY_COMMANDS_MAX: Final = 64
"""Likewise: between two entries a node may answer who waits for the first."""
PROPOSALS_MAX: Final = 16384
PROPOSAL_BYTES_MAX: Final = 64 << 20


Proposal = tuple[bytes, Record, Origin]
"""A record, as bytes and decoded, with whoever is to be answered."""


class Proposals:
    """A bounded queue of records, which become entries in batches."""

    __slots__ = ("_bytes", "_queue")

    def __init__(self) -> None:
        self._queue: deque[Proposal] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[Proposal]:
        return iter(self._queue)

    @property
    def is_full(self) -> bool:
        """Whether nothing may be added but what the leader proposes itself."""
        return len(self._queue) >= PROPOSALS_MAX or self._bytes >= PROPOSAL_BYTES_MAX

    def add(self, data: bytes, record: Record, origin: Origin) -> None:
        """Puts a record into the next entry."""
        self._queue.append((data, record, origin))
        self._bytes += len(data)

    def enter(self, replica: Replica, log_time_ms: int, waiters: Waiters) -> None:
        """Proposes as many entries as ``replica`` takes; who waits for them goes to ``waiters``."""
        queue = self._queue
        while queue:
            size = count = commands = 0
            for data, record, _ in queue:
                commands += len(record.bodies) if type(record) is Burst else 1
                if count and (commands > ENTRY_COMMANDS_MAX or size + len(data) > ENTRY_BYTES_MAX):
                    break
                size += len(data)
                count += 1
            taken = [queue.popleft() for _ in range(count)]
            datas, records, origins = zip(*taken, strict=True)
            index = replica.propose(encode_entry(log_time_ms, datas))
            if index is None:  # Too much is uncommitted: they wait.
                queue.extendleft(reversed(taken))
                return
            self._bytes -= size
            waiters.add(index, Pending(replica.term, records, origins))

    def clear(self) -> list[Origin]:
        """Forgets everything; who waited for it."""
        origins = [origin for _, _, origin in self._queue]
        self._queue.clear()
        self._bytes = 0
        return origins
