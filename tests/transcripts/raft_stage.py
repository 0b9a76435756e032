"""A stage on which a transcript moves the replicas of one group by hand: each message, write, sync, crash.

Nothing happens by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from raft_host import Host, show, show_entries

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
    Ready,
    ReplicaId,
    Term,
)

TOLD = (" is ", " serves ", " loses ")


class Stage:
    """A group on stage. Each method is a transcript's command and returns the lines that it causes."""

    def __init__(self) -> None:
        self.hosts: dict[ReplicaId, Host] = {}
        self.wire: dict[tuple[ReplicaId, ReplicaId], deque[Message]] = {}
        self.blocked: set[tuple[ReplicaId, ReplicaId]] = set()

    # --- Setting -----------------------------------------------------------------------------------

    def group(self, *options: str) -> list[str]:
        """group voters=1,2,3 [outgoing=..] [learners=..] [config field=number ..]"""
        self.hosts, self.wire, self.blocked = {}, {}, set()
        given = dict(option.split("=") for option in options)
        membership = _membership(given)
        config = Config(**{name: int(value) for name, value in given.items()})
        for replica in sorted({*membership.incoming, *membership.outgoing, *membership.learners}):
            self.hosts[replica] = Host(replica, membership, config)
        return []

    def knows(self, number: str, *options: str) -> list[str]:
        """knows N voters=.. [outgoing=..] [learners=..]: what it starts with, when others know better"""
        given = dict(option.split("=") for option in options)
        self.hosts[ReplicaId(int(number))].membership = _membership(given)
        return []

    def disk(self, number: str, *options: str) -> list[str]:
        """disk N terms=1,1,4 [term=T] [vote=V] [commit=C] [applied=A] [cut=I]: synced before the start"""
        host = self.hosts[ReplicaId(int(number))]
        given = dict(option.split("=") for option in options)
        terms = [Term(int(word)) for word in given.get("terms", "").split(",") if word]
        host.disk.written = [
            Entry(term, Index(at), EntryKind.NORMAL, b"old") for at, term in enumerate(terms, start=1)
        ]
        host.disk.cut = int(given.get("cut", 0))
        term = Term(int(given.get("term", terms[-1] if terms else 0)))
        vote, commit = ReplicaId(int(given.get("vote", 0))), Index(int(given.get("commit", 0)))
        host.disk.hard = HardState(term, vote, commit)
        host.applied = Index(int(given.get("applied", 0)))
        host.disk.durable = (host.disk.written, host.disk.hard, host.disk.cut)
        return []

    def start(self, *numbers: str) -> list[str]:
        """start [N ..]: all, or some"""
        for host in self._chosen(numbers):
            host.start()
        return []

    def crash(self, *numbers: str) -> list[str]:
        """crash N ..: keeps what was synced; what it sent goes on its way"""
        for host in self._chosen(numbers):
            host.disk.crash()
            host.replica = None
            host.applied = max(min(host.applied, host.disk.hard.commit), host.disk.cut)
        return []

    def cut(self, *pairs: str) -> list[str]:
        """cut 1-2 1>3 ..: what is sent there is lost, both ways or one way; what is on its way waits"""
        self.blocked.update(self._pairs(pairs))
        return []

    def heal(self, *pairs: str) -> list[str]:
        """heal [1-2 ..]"""
        self.blocked -= set(self._pairs(pairs)) if pairs else self.blocked.copy()
        return []

    # --- What happens to one replica ----------------------------------------------------------------

    def tick(self, numbers: str, count: str = "1") -> list[str]:
        """tick N,M [times]: ticks without taking what becomes ready"""
        for host in self._chosen(numbers.split(",")):
            for _ in range(int(count)):
                _replica(host).tick()
        return self._changes()

    def campaign(self, number: str, force: str = "") -> list[str]:
        """campaign N [force]"""
        _replica(self.hosts[ReplicaId(int(number))]).campaign(force=bool(force))
        return self._changes()

    def propose(self, number: str, *words: str) -> list[str]:
        """propose N [word ..]: one entry for each word"""
        replica = _replica(self.hosts[ReplicaId(int(number))])
        return [
            "refused" if index is None else f"at {index}"
            for index in [replica.propose(word.encode()) for word in words]
        ]

    def read(self, number: str) -> list[str]:
        """read N"""
        context = _replica(self.hosts[ReplicaId(int(number))]).read()
        return ["refused" if context is None else f"round {context}"]

    def transfer(self, number: str, to: str) -> list[str]:
        """transfer N M"""
        _replica(self.hosts[ReplicaId(int(number))]).transfer(ReplicaId(int(to)))
        return self._changes()

    def leader_down(self, number: str) -> list[str]:
        """leader_down N"""
        _replica(self.hosts[ReplicaId(int(number))]).leader_down()
        return self._changes()

    def unreachable(self, number: str, peer: str) -> list[str]:
        """unreachable N M"""
        _replica(self.hosts[ReplicaId(int(number))]).unreachable(ReplicaId(int(peer)))
        return []

    def snapshot(self, number: str, member: str, entry: str) -> list[str]:
        """snapshot N M T/I: the host of N begins to send M the state as of that entry, and a part arrives"""
        term, index = (int(word) for word in entry.split("/"))
        leader = self.hosts[ReplicaId(int(number))]
        replica, receiver = _replica(leader), ReplicaId(int(member))
        replica.snapshot_sending(receiver, Index(index))
        part = Message(MessageKind.SNAPSHOT, leader.id, receiver, replica.term, index=Index(index),
                       log_term=Term(term))  # fmt: skip
        return self._post([part])

    def snapshot_failed(self, number: str, member: str) -> list[str]:
        """snapshot_failed N M: nothing came of it"""
        _replica(self.hosts[ReplicaId(int(number))]).snapshot_failed(ReplicaId(int(member)))
        return []

    def snapshot_installed(self, number: str, member: str, index: str) -> list[str]:
        """snapshot_installed N M I: the host of N hears that M has the state as of I"""
        replica = _replica(self.hosts[ReplicaId(int(number))])
        replica.snapshot_installed(ReplicaId(int(member)), Index(int(index)))
        return []

    def install(self, number: str, entry: str) -> list[str]:
        """install N T/I: the host of N installs the state as of that entry; written, not yet synced"""
        term, index = (int(word) for word in entry.split("/"))
        host = self.hosts[ReplicaId(int(number))]
        state = _replica(host).status()
        hard = HardState(state.term, state.vote, Index(index))
        round_number = host.disk.install(Term(term), Index(index), hard)
        host.held.append((round_number, [], None))
        host.applied = Index(index)
        host.start(unsynced=True)
        last = host.disk.last_index()
        return [f"{host.id} holds the state as of {entry}, log up to {last}, round {round_number}"]

    def cut_log(self, number: str, index: str) -> list[str]:
        """cut_log N I: the host of N cuts its log up to that entry, durably"""
        disk = self.hosts[ReplicaId(int(number))].disk
        disk.cut = int(index)
        disk.durable = (disk.durable[0], disk.durable[1], disk.cut)
        return []

    def ready(self, *numbers: str) -> list[str]:
        """ready N ..: takes one Ready, writes, applies, sends what may leave at once"""
        lines: list[str] = []
        for host in self._chosen(numbers):
            ready = _replica(host).ready()
            if ready is None:
                lines.append(f"{host.id} has nothing to do")
            else:
                lines += self._carry_out(host, ready)
        return lines

    def sync(self, number: str, rounds: str = "1") -> list[str]:
        """sync N [rounds]: the oldest rounds become durable, and what waited for them leaves"""
        host = self.hosts[ReplicaId(int(number))]
        lines: list[str] = []
        for _ in range(int(rounds)):
            host.disk.sync()
            lines += self._after_sync(host)
        return lines + self._changes()

    def notice(self, number: str, entry: str) -> list[str]:
        """notice N T/I: a durability notice by hand, as one that comes late"""
        term, index = entry.split("/")
        _replica(self.hosts[ReplicaId(int(number))]).synced(Term(int(term)), Index(int(index)))
        return self._changes()

    # --- The wire -----------------------------------------------------------------------------------

    def deliver(self, path: str, which: str = "1") -> list[str]:
        """deliver 1>2 [count | all | last | again]: in order; last: overtaking; again: a copy of the first"""
        return self._take(path, which, lose=False)

    def lose(self, path: str, which: str = "1") -> list[str]:
        """lose 1>2 [count | all | last]"""
        return self._take(path, which, lose=True)

    def wires(self) -> list[str]:
        """wires: what is on its way"""
        return [show(message) for _, queue in sorted(self.wire.items()) for message in queue]

    def settle(self, *options: str) -> list[str]:
        """settle [quietly]: everything written, synced and delivered, until nothing is left"""
        lines: list[str] = []
        while moved := self._settle_once():
            lines += moved
        return [] if "quietly" in options else lines

    def run(self, ticks: str, *options: str) -> list[str]:
        """run TICKS: all tick, with everything settled after each; tells only of roles and reads"""
        lines = []
        for tick in range(1, int(ticks) + 1):
            for host in self._chosen(()):
                if host.replica is not None:
                    host.replica.tick()
            changes = self._changes()
            while moved := self._settle_once():
                changes += [line for line in moved if any(word in line for word in TOLD)]
            lines += [f"tick {tick}: {line}" for line in changes]
        return lines

    # --- What is ------------------------------------------------------------------------------------

    def status(self, *numbers: str) -> list[str]:
        """status [N ..]"""
        lines = []
        for host in self._chosen(numbers):
            if host.replica is None:
                lines.append(f"{host.id} is down")
                continue
            state = host.replica.status()
            match = " ".join(f"{member}:{index}" for member, index in sorted(state.match.items()))
            needy = ", ".join(map(str, state.snapshot_needed))
            waits = f", needs a snapshot: {needy}" if needy else ""
            lines.append(f"{host.id} is {host.described()}, last {state.last}"
                         + (f", match {match}" if match else "") + waits)  # fmt: skip
        return lines

    def logs(self, *numbers: str) -> list[str]:
        """logs [N ..]: the terms of the entries, as written"""
        return [
            f"{host.id}: {' '.join(str(entry.term) for entry in host.disk.written[host.disk.cut :])}"
            for host in self._chosen(numbers)
        ]

    # --- Machinery ----------------------------------------------------------------------------------

    def _chosen(self, numbers: Iterable[str]) -> list[Host]:
        chosen = [self.hosts[ReplicaId(int(number))] for number in numbers]
        return chosen or [self.hosts[number] for number in sorted(self.hosts)]

    @staticmethod
    def _pairs(words: Iterable[str]) -> list[tuple[ReplicaId, ReplicaId]]:
        pairs = []
        for word in words:
            one_way = ">" in word
            a, b = (ReplicaId(int(number)) for number in word.split(">" if one_way else "-"))
            pairs += [(a, b)] if one_way else [(a, b), (b, a)]
        return pairs

    def _changes(self) -> list[str]:
        lines = []
        for host in self._chosen(()):
            if host.replica is None:
                continue
            part = host.part()
            if part != host.seen:
                lines.append(f"{host.id} is {part}")
            host.seen = part
        return lines

    def _carry_out(self, host: Host, ready: Ready) -> list[str]:
        lines = []
        if ready.hard_state is not None or ready.entries or ready.messages_after_sync:
            number = host.disk.write(ready.entries, ready.hard_state)
            last = ready.entries[-1] if ready.entries else None
            host.held.append(
                (number, ready.messages_after_sync, (last.term, last.index) if last is not None else None)
            )
            parts = []
            if ready.hard_state is not None:
                hard = ready.hard_state
                parts.append(f"term {hard.term} vote {hard.vote or '-'} commit {hard.commit}")
            if ready.entries:
                parts.append(show_entries(ready.entries))
            lines.append(f"{host.id} writes {' and '.join(parts) or 'nothing'}, round {number}")
        lines += self._post(ready.messages)
        if ready.committed:
            host.applied = ready.committed[-1].index
            _replica(host).applied_to(host.applied)
            lines.append(f"{host.id} applies {show_entries(ready.committed)}")
        lines += [f"{host.id} serves reads of round {context} at {index}" for context, index in ready.reads]
        lines += [f"{host.id} loses reads of round {context}" for context in ready.lost_reads]
        return lines + self._changes()

    def _after_sync(self, host: Host) -> list[str]:
        _, messages, last = host.held.popleft()
        if last is not None:
            _replica(host).synced(*last)
        return self._post(messages)

    def _post(self, messages: Sequence[Message]) -> list[str]:
        lines = []
        for message in messages:
            path = (message.sender, message.receiver)
            if path in self.blocked:
                lines.append(f"{show(message)}: lost")
            else:
                self.wire.setdefault(path, deque()).append(message)
                lines.append(show(message))
        return lines

    def _take(self, path: str, which: str, *, lose: bool) -> list[str]:
        a, b = (ReplicaId(int(number)) for number in path.split(">"))
        queue = self.wire.get((a, b)) or deque()
        assert queue, f"nothing is on its way from {a} to {b}"
        count = len(queue) if which == "all" else 1 if which in ("last", "again") else int(which)
        for _ in range(count):
            message = queue.pop() if which == "last" else queue[0] if which == "again" else queue.popleft()
            receiver = self.hosts[b].replica
            if receiver is not None and not lose:
                receiver.step(message)
        return self._changes()

    def _settle_once(self) -> list[str]:
        lines: list[str] = []
        for host in self._chosen(()):
            if host.replica is None:
                continue
            while (ready := host.replica.ready()) is not None:
                lines += self._carry_out(host, ready)
            while host.held:
                host.disk.sync()
                lines += self._after_sync(host)
        for path in sorted(self.wire):
            receiver = self.hosts[path[1]].replica
            queue = self.wire[path]
            while queue and path not in self.blocked:
                message = queue.popleft()
                lines += [] if lines else ["..."]
                if receiver is not None:
                    receiver.step(message)
        return lines + self._changes()


def _membership(given: dict[str, str]) -> Membership:
    return Membership(*(
        tuple(ReplicaId(int(word)) for word in given.pop(name, "").split(",") if word)
        for name in ("voters", "outgoing", "learners")
    ))  # fmt: skip


def _replica(host: Host) -> Replica:
    assert host.replica is not None, f"{host.id} is down"
    return host.replica


COMMANDS = (
    "group", "knows", "disk", "start", "crash", "cut", "heal", "tick", "campaign", "propose", "read",
    "transfer", "leader_down", "unreachable", "ready", "sync", "notice", "deliver", "lose", "wires",
    "settle", "run", "status", "logs", "snapshot", "snapshot_failed", "snapshot_installed",
    "install", "cut_log",
)  # fmt: skip
