"""Planted bugs in elections, and in what must be durable before a replica says it."""

from __future__ import annotations

from typing import Any

from raftgroup import election, leading
from raftgroup.replica import Replica
from raftgroup.state import State
from raftgroup.types import NOBODY, Message, MessageKind, Ready, Role, Term
from shards.writer import Writer
from tests.mutations.registry import Patch, mutation, swap
from tests.mutations.suites import CONSENSUS, ENGINE


@mutation(
    "vote-before-sync", "A vote leaves before it is durable.", rule="pitfall 2", suites=CONSENSUS
)
def _vote_before_sync(patch: Patch) -> None:
    on_vote = election.on_vote

    def hasty(s: State, m: Message) -> None:
        on_vote(s, m)
        s.messages.append(s.messages_after_sync.pop())

    swap(patch, election, "on_vote", hasty)


@mutation(
    "vote-request-before-sync", "A candidate asks for votes before its term and its own vote are durable.",
    rule="pitfall 2", suites=CONSENSUS,
)  # fmt: skip
def _vote_request_before_sync(patch: Patch) -> None:
    stand = election.stand

    def hasty(s: State, *, transfer: bool = False) -> None:
        stand(s, transfer=transfer)
        s.messages += [m for m in s.messages_after_sync if m.kind == MessageKind.VOTE]
        s.messages_after_sync = [m for m in s.messages_after_sync if m.kind != MessageKind.VOTE]

    swap(patch, election, "stand", hasty)


@mutation(
    "vote-not-persisted", "The term is written without the vote.", rule="pitfall 2", suites=CONSENSUS
)
def _vote_not_persisted(patch: Patch) -> None:
    take = Replica.ready

    def forgetful(self: Replica) -> Ready | None:
        ready = take(self)
        if ready is not None and ready.hard_state is not None:
            ready.hard_state = ready.hard_state._replace(vote=NOBODY)
        return ready

    patch.setattr(Replica, "ready", forgetful)


@mutation(
    "promises-before-sync", "Whatever must wait for a sync leaves at once.", rule="pitfall 2",
    suites=CONSENSUS,
)  # fmt: skip
def _promises_before_sync(patch: Patch) -> None:
    take = Replica.ready

    def hasty(self: Replica) -> Ready | None:
        ready = take(self)
        if ready is not None:
            ready.messages = [*ready.messages, *ready.messages_after_sync]
            ready.messages_after_sync = []
        return ready

    patch.setattr(Replica, "ready", hasty)


@mutation(
    "rounds-not-awaited", "The engine lets go what waits for a sync before that is done.", rule="pitfall 2",
    suites=ENGINE,
)  # fmt: skip
def _rounds_not_awaited(patch: Patch) -> None:
    def hasty(self: Writer) -> list[Any]:
        found = [wait for _, waits in self._waits for wait in waits]
        self._waits.clear()
        return found

    patch.setattr(Writer, "due", hasty)


@mutation(
    "earlier-rounds-not-awaited", "A reply waits for the sync of its own round at the most, not for that of"
    " earlier ones: any sync lets the last one go.", rule="pitfall 3", suites=ENGINE,
)  # fmt: skip
def _earlier_rounds_not_awaited(patch: Patch) -> None:
    def hasty(self: Writer) -> list[Any]:
        found: list[Any] = []
        if self._waits and self._waits[0][0] <= self._synced:
            while self._waits:
                found.extend(self._waits.popleft()[1])
        return found

    patch.setattr(Writer, "due", hasty)


@mutation(
    "leader-counts-itself-unsynced", "A leader acknowledges its own entries when they are written, not when"
    " they are durable.", rule="pitfall 2", suites=CONSENSUS,
)  # fmt: skip
def _leader_counts_itself_unsynced(patch: Patch) -> None:
    take = Replica.ready

    def early(self: Replica) -> Ready | None:
        ready = take(self)
        if ready is not None and ready.entries:
            last = ready.entries[-1]
            self.synced(last.term, last.index)
        return ready

    patch.setattr(Replica, "ready", early)


@mutation(
    "notice-of-an-older-term", "Word that an entry of an earlier term is durable counts for the entry that"
    " took its place.", rule="pitfall 4", suites=CONSENSUS,
)  # fmt: skip
def _notice_of_an_older_term(patch: Patch) -> None:
    on_synced = leading.on_synced

    def gullible(s: State, term: Term, index: Any) -> None:
        on_synced(s, s.term, min(index, s.log.last))

    swap(patch, leading, "on_synced", gullible)


@mutation(
    "votes-for-shorter-logs", "A vote does not ask whether the candidate's log is as complete.",
    rule="leader completeness", suites=CONSENSUS,
)  # fmt: skip
def _votes_for_shorter_logs(patch: Patch) -> None:
    swap(patch, election, "_up_to_date", lambda s, m: True)


@mutation(
    "prevote-takes-the-term", "Whoever is asked for a pre-vote moves to the term that is asked about.",
    rule="pitfall 14", suites=CONSENSUS,
)  # fmt: skip
def _prevote_takes_the_term(patch: Patch) -> None:
    on_pre_vote = election.on_pre_vote

    def eager(s: State, m: Message) -> None:
        on_pre_vote(s, m)
        if m.term > s.term:
            election.become_follower(s, m.term, NOBODY)

    swap(patch, election, "on_pre_vote", eager)


@mutation(
    "precandidate-keeps-its-leader", "A pre-candidate goes on refusing others for its former leader's sake.",
    rule="pitfall 15", suites=CONSENSUS,
)  # fmt: skip
def _precandidate_keeps_its_leader(patch: Patch) -> None:
    ask = election.ask_prevotes

    def faithful(s: State) -> None:
        leader = s.leader
        ask(s)
        if s.role == Role.PRE_CANDIDATE:
            s.leader = leader

    swap(patch, election, "ask_prevotes", faithful)


@mutation(
    "campaign-before-all-is-applied", "A replica stands though a committed change of membership may not be"
    " applied.", rule="pitfall 17", suites=CONSENSUS,
)  # fmt: skip
def _campaign_before_all_is_applied(patch: Patch) -> None:
    swap(patch, election, "may_campaign", lambda s: s.role != Role.LEADER and s.id in s.voters)
