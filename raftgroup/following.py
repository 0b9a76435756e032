"""A follower's half of replication (thesis, section 3.5)."""

from __future__ import annotations

from collections.abc import Sequence

from raftgroup.state import State, become_follower, send
from raftgroup.types import NOBODY, Entry, Index, InvariantViolation, Message, MessageKind, Role


def on_append(s: State, m: Message) -> None:
    """Takes entries if the one before them is in the log; else says where the logs may meet.

    The acknowledgements of all messages that one Ready covers are one reply, see :func:`acknowledge`.
    """
    if s.leader != m.sender or s.role != Role.FOLLOWER:
        _follow(s, m)
    s.elapsed = 0
    log = s.log
    previous, entries = m.index, m.entries
    if previous == log.last and m.log_term == log.last_term:
        if entries:
            log.extend(entries)
        end = log.last
    elif previous < s.commit:
        # Overtaken by a later message: what is committed is not looked at again.
        end = Index(max(previous + len(entries), s.commit))
        _merge(s, entries[s.commit - previous :])
    elif log.term(previous) == m.log_term:
        end = Index(previous + len(entries))
        _merge(s, entries)
    else:
        _refuse(s, m)
        return
    if end > s.acknowledge:
        s.acknowledge = end
    # Beyond the entries of this message the log may still differ from the leader's.
    commit = m.commit if m.commit < end else end
    if commit > s.commit:
        s.commit = commit


def on_heartbeat(s: State, m: Message) -> None:
    """Answers with the same ReadIndex round. The leader capped the commit at what it knows to be here."""
    if s.leader != m.sender or s.role != Role.FOLLOWER:
        _follow(s, m)
    s.elapsed = 0
    if m.commit > s.commit:
        if m.commit > s.log.last:
            raise InvariantViolation(
                f"replica {s.id} ends in {s.log.last}, but acknowledged {m.commit}: its log lost entries"
            )
        s.commit = m.commit
    send(s, Message(
        MessageKind.HEARTBEAT_REPLY, s.id, m.sender, s.term, commit=s.commit, context=m.context,
    ))  # fmt: skip


def on_snapshot(s: State, m: Message) -> None:
    """A part of a snapshot, or word that one is on its way: the sender leads, as with an append. What the
    snapshot holds is the host's affair: it installs it and starts the replica anew from what is stored."""
    if s.leader != m.sender or s.role != Role.FOLLOWER:
        _follow(s, m)
    s.elapsed = 0


def acknowledge(s: State) -> None:
    """Tells the leader, after the sync, how far the log here is known to equal its own."""
    if s.leader != NOBODY:
        s.messages_after_sync.append(Message(
            MessageKind.APPEND_REPLY, s.id, s.leader, s.term, index=s.acknowledge, commit=s.commit,
        ))  # fmt: skip
    s.acknowledge = Index(0)


def _follow(s: State, m: Message) -> None:
    """The sender leads this term."""
    if s.role == Role.LEADER or s.leader not in (NOBODY, m.sender):
        raise InvariantViolation(f"term {s.term} is led by {s.leader} and by {m.sender}")
    become_follower(s, s.term, m.sender)
    s.failures = s.hurry = 0


def _merge(s: State, entries: Sequence[Entry]) -> None:
    """Adds the entries that are missing; drops the log's tail only where an entry differs.

    A delayed message that ends before the log does must not shorten it: what follows may have been
    acknowledged to the same leader, and be committed.
    """
    log = s.log
    for position, entry in enumerate(entries):
        if entry.index > log.last:
            log.extend(entries[position:])
            return
        if log.term(entry.index) != entry.term:
            if entry.index <= s.commit:
                raise InvariantViolation(f"replica {s.id}: {entry} contradicts commit {s.commit}")
            log.truncate(entry.index)
            log.extend(entries[position:])
            return


def _refuse(s: State, m: Message) -> None:
    """Hints at the last entry here that the leader may have: its term is not above that of the leader's
    entry, so that each probe skips a whole term (thesis, section 3.5, on reducing rejected appends)."""
    if m.index <= s.commit:
        raise InvariantViolation(f"replica {s.id}: {m.log_term}/{m.index} contradicts commit {s.commit}")
    hint = s.log.last_not_above(m.log_term, m.index, s.commit)
    term = s.log.term(hint)
    if term is None:
        raise InvariantViolation(f"replica {s.id}: its log has no {hint}, at or above commit {s.commit}")
    s.messages_after_sync.append(Message(
        MessageKind.APPEND_REPLY, s.id, m.sender, s.term, index=m.index, reject=True, hint=hint,
        log_term=term, commit=s.commit,
    ))  # fmt: skip
