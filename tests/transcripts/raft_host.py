"""One replica on a transcript's stage, with its disk, and the words in which transcripts show it.

A replica's writes reach its disk in numbered rounds; a crash keeps what was synced.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence

from raftgroup.replica import Replica
from raftgroup.types import (
    Config,
    Entry,
    EntryKind,
    HardState,
    Index,
    Membership,
    Message,
    MessageKind,
    ReplicaId,
    Role,
    Term,
)

ROLES = {Role.FOLLOWER: "follower", Role.PRE_CANDIDATE: "pre-candidate", Role.CANDIDATE: "candidate",
         Role.LEADER: "leader"}  # fmt: skip
KINDS = {"prevote": MessageKind.PRE_VOTE, "prevote-reply": MessageKind.PRE_VOTE_REPLY,
         "vote": MessageKind.VOTE, "vote-reply": MessageKind.VOTE_REPLY, "append": MessageKind.APPEND,
         "append-reply": MessageKind.APPEND_REPLY, "heartbeat": MessageKind.HEARTBEAT,
         "heartbeat-reply": MessageKind.HEARTBEAT_REPLY, "timeout-now": MessageKind.TIMEOUT_NOW,
         "snapshot": MessageKind.SNAPSHOT}  # fmt: skip
NAMES = {kind: name for name, kind in KINDS.items()}


class Disk:
    """One replica's log and hard state: as written, which is what it reads, and as synced."""

    def __init__(self) -> None:
        self.cut = 0
        """Entries up to this index were cut away; their last term stays known."""
        self.written: list[Entry] = []
        self.hard = HardState()
        self.round = 0
        self.outstanding: deque[tuple[int, list[Entry], HardState, int]] = deque()
        self.durable: tuple[list[Entry], HardState, int] = ([], HardState(), 0)

    def first_index(self) -> Index:
        return Index(self.cut + 1)

    def last_index(self) -> Index:
        return Index(len(self.written))

    def term(self, index: Index) -> Term:
        assert index == 0 or self.cut <= index <= len(self.written), f"no entry {index}"
        return self.written[index - 1].term if index else Term(0)

    def entries(self, low: Index, high_exclusive: Index, bytes_max: int) -> Sequence[Entry]:
        assert self.cut < low < high_exclusive <= len(self.written) + 1
        found = self.written[low - 1 : high_exclusive - 1]
        size = 0
        for count, entry in enumerate(found):
            size += len(entry.data)
            if size > bytes_max and count:
                return found[:count]
        return found

    def write(self, entries: Sequence[Entry], hard: HardState | None) -> int:
        if entries:
            self.written = self.written[: entries[0].index - 1] + list(entries)
        self.hard = hard or self.hard
        self.round += 1
        self.outstanding.append((self.round, self.written, self.hard, self.cut))
        return self.round

    def install(self, term: Term, index: Index, hard: HardState) -> int:
        """The log begins behind (term, index); what it has beyond stays only if it holds that very entry."""
        holds = index <= self.last_index() and self.written[index - 1].term == term
        beyond = self.written[index:] if holds else []
        below = [Entry(term, Index(at), EntryKind.NORMAL, b"cut") for at in range(1, index + 1)]
        self.written, self.cut = below + beyond, index
        return self.write((), hard)

    def sync(self) -> None:
        """Everything up to the oldest round that is not durable becomes so."""
        assert self.outstanding, "nothing is unsynced"
        _, *durable = self.outstanding.popleft()
        self.durable = (durable[0], durable[1], durable[2])

    def crash(self) -> None:
        self.outstanding.clear()
        self.written, self.hard, self.cut = self.durable


class Host:
    """One replica with its disk, and what waits for a sync."""

    def __init__(self, replica: ReplicaId, membership: Membership, config: Config) -> None:
        self.id = replica
        self.membership = membership
        self.config = config
        self.disk = Disk()
        self.applied = Index(0)
        self.replica: Replica | None = None
        self.held: deque[tuple[int, list[Message], tuple[Term, Index] | None]] = deque()
        self.seen = ""

    def start(self, *, unsynced: bool = False) -> None:
        disk = self.disk
        if not unsynced:
            self.held.clear()
        self.replica = Replica(self.id, self.membership, disk.hard, disk, self.applied, self.config,
                               random.Random(self.id), unsynced=unsynced)  # fmt: skip
        self.seen = self.part()

    def part(self) -> str:
        assert self.replica is not None
        return f"{ROLES[self.replica.role]} of term {self.replica.term}"

    def described(self) -> str:
        assert self.replica is not None
        state = self.replica.status()
        return (
            f"{ROLES[state.role]} of term {state.term}, vote {state.vote or '-'},"
            f" leader {state.leader or '-'}, commit {state.commit}"
        )


def show_entries(entries: Sequence[Entry]) -> str:
    if len(entries) > 6:
        return f"[{entries[0]} .. {entries[-1]}]"
    return f"[{' '.join(map(str, entries))}]"


def show(m: Message) -> str:
    """A message as the transcripts show it; entries and log positions as term/index."""
    head = f"{m.sender}>{m.receiver} {NAMES[m.kind]} term {m.term}"
    details: dict[int, Callable[[], str]] = {
        MessageKind.PRE_VOTE: lambda: f"last {m.log_term}/{m.index}",
        MessageKind.VOTE: lambda: f"last {m.log_term}/{m.index}" + (" by transfer" if m.context else ""),
        MessageKind.PRE_VOTE_REPLY: lambda: "no" if m.reject else "yes",
        MessageKind.VOTE_REPLY: lambda: "no" if m.reject else "yes",
        MessageKind.APPEND: lambda: (
            f"after {m.log_term}/{m.index} {show_entries(m.entries)} commit {m.commit}"
        ),
        MessageKind.APPEND_REPLY: lambda: (
            f"refuses {m.index}, hint {m.log_term}/{m.hint}" if m.reject else f"has {m.index}"
        ),
        MessageKind.HEARTBEAT: lambda: f"commit {m.commit}" + (f" round {m.context}" if m.context else ""),
        MessageKind.HEARTBEAT_REPLY: lambda: f"round {m.context}" if m.context else "",
        MessageKind.TIMEOUT_NOW: lambda: "",
        MessageKind.SNAPSHOT: lambda: f"as of {m.log_term}/{m.index}",
    }
    return f"{head} {details[m.kind]()}".rstrip()
