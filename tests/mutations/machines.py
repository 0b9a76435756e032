"""Planted bugs in the primitives' state machines, their timers and deletions."""

from __future__ import annotations

from typing import Any

from primitives import counter, entries, mapops, queueops, set, value
from primitives.candidates import ElectionMachine
from primitives.context import HostContext
from primitives.counter import CounterMachine
from primitives.deleting import Deleting
from primitives.errors import Code
from primitives.lock import LockMachine
from primitives.locking import Locks
from primitives.machine import OK, Context, Result
from primitives.queueops import QueueMachine
from primitives.records import U64
from primitives.tables import Tables
from primitives.timers import Timers
from shards.deleting import Deletions
from tests.mutations.registry import Patch, mutation, swap
from tests.mutations.suites import MACHINES


@mutation(
    "replicas-differ", "A machine writes a row on every fiftieth of its own calls.", rule="pitfall 22",
    suites=(*MACHINES, "counter"),
)  # fmt: skip
def _replicas_differ(patch: Patch) -> None:
    apply = CounterMachine.apply
    applied = 0

    def moody(self: CounterMachine, ctx: Context, op: int, args: list[int], body: bytes) -> Result:
        nonlocal applied
        applied += 1
        if applied % 50 == 0:
            ctx.table(9).put(b"mood", b"bad")
        return apply(self, ctx, op, args, body)

    patch.setattr(CounterMachine, "apply", moody)


@mutation(
    "timers-in-another-order", "On some replicas timers that are due together fire in the reverse order.",
    rule="pitfall 22", suites=(*MACHINES, "timers", "presence"),
)  # fmt: skip
def _timers_in_another_order(patch: Patch) -> None:
    begin, due = Timers.__init__, Timers.due
    made = 0
    odd: dict[int, Timers] = {}

    def counted(self: Timers, tables: Tables, count: int) -> None:
        nonlocal made
        begin(self, tables, count)
        made += 1
        if made % 2:
            odd[id(self)] = self

    def backwards(self: Timers, log_time_ms: int, count: int) -> list[bytes]:
        found = due(self, log_time_ms, count)
        return found[::-1] if odd.get(id(self)) is self else found

    patch.setattr(Timers, "__init__", counted)
    patch.setattr(Timers, "due", backwards)


@mutation(
    "timers-by-ones-own-clock", "Some replicas fire timers by a clock that runs ahead of the log's time.",
    rule="pitfall 22", suites=(*MACHINES, "timers", "presence"),
)  # fmt: skip
def _timers_by_ones_own_clock(patch: Patch) -> None:
    begin, due = Timers.__init__, Timers.due
    made = 0
    ahead: dict[int, tuple[Timers, int]] = {}

    def counted(self: Timers, tables: Tables, count: int) -> None:
        nonlocal made
        begin(self, tables, count)
        made += 1
        ahead[id(self)] = (self, made % 3 * 40)

    def early(self: Timers, log_time_ms: int, count: int) -> list[bytes]:
        return due(self, log_time_ms + ahead[id(self)][1], count)

    patch.setattr(Timers, "__init__", counted)
    patch.setattr(Timers, "due", early)


@mutation(
    "token-of-the-asking-command", "A fencing token is the revision of the command that asked, not of the one"
    " that granted.", rule="pitfall 29", suites=(*MACHINES, "lock"),
)  # fmt: skip
def _token_of_the_asking_command(patch: Patch) -> None:
    def grant(self: Locks, ctx: Context, name: bytes, state: Any, session: int) -> bytes:
        data = U64.pack(state.served)
        ctx.table(self._held).put(U64.pack(session) + data, name)
        self._save(ctx, name, state._replace(session=session, token=state.served))
        return data

    patch.setattr(Locks, "_grant", grant)


@mutation(
    "granted-twice-at-withdrawal", "A waiter that withdraws has the lock passed on, though it is held.",
    rule="a waiter that is withdrawn gives nothing back", suites=(*MACHINES, "lock"),
)  # fmt: skip
def _granted_twice_at_withdrawal(patch: Patch) -> None:
    def withdraw(self: Locks, ctx: Context, waiter: bytes, granted: bytes | None) -> Result:
        (session,) = U64.unpack_from(waiter)
        if granted is not None:
            name = ctx.table(self._held).get(U64.pack(session) + granted)
            if name is not None:
                self.release(ctx, name, session, U64.unpack(granted)[0])
            return OK
        stander = self._line.withdraw(ctx, waiter)
        if stander is not None:
            self._leave(ctx, stander.place)
            name = stander.place[2:-8]
            self._pass_on(ctx, name, self._state(ctx, name), 100)
        return OK

    patch.setattr(Locks, "withdraw", withdraw)


@mutation(
    "grant-kept-at-withdrawal", "A grant whose caller was cancelled is not given back.",
    rule="a withdrawn grant is given back", suites=(*MACHINES, "lock"),
)  # fmt: skip
def _grant_kept_at_withdrawal(patch: Patch) -> None:
    withdraw = Locks.withdraw
    patch.setattr(
        Locks, "withdraw",
        lambda self, ctx, waiter, granted: OK if granted is not None else withdraw(self, ctx, waiter, None),
    )  # fmt: skip


@mutation(
    "session-end-wakes-nobody", "A lock whose holder's session ended is passed on to nobody.",
    rule="pitfall 28", suites=(*MACHINES, "lock-clients"),
)  # fmt: skip
def _session_end_wakes_nobody(patch: Patch) -> None:
    patch.setattr(LockMachine, "session_ended", lambda self, ctx, session: True)


@mutation(
    "leader-outlives-its-session", "An elected leader stays when its session ends.", rule="pitfall 28",
    suites=(*MACHINES, "election"),
)  # fmt: skip
def _leader_outlives_its_session(patch: Patch) -> None:
    patch.setattr(ElectionMachine, "session_ended", lambda self, ctx, session: True)


@mutation(
    "entries-outlive-their-sessions", "A map's entries that are bound to a session stay when it ends.",
    rule="pitfall 28", suites=(*MACHINES, "presence-clients"),
)  # fmt: skip
def _entries_outlive_their_sessions(patch: Patch) -> None:
    patch.setattr(entries, "_is_void", lambda view, row: False)
    patch.setattr(entries, "session_ended", lambda ctx, session: True)


@mutation(
    "element-delivered-and-kept", "Some elements of a queue are delivered and stay in it.",
    rule="an element is delivered once", suites=(*MACHINES, "queue"),
)  # fmt: skip
def _element_delivered_and_kept(patch: Patch) -> None:
    shift = queueops._shift

    def forgetful(ctx: Context, state: Any) -> tuple[Any, Result]:
        after, answer = shift(ctx, state)
        if ctx.revision % 40 == 0:
            queueops._append(ctx, answer[1][:8], answer[1][8:])
            return state, answer
        return after, answer

    patch.setattr(queueops, "_shift", forgetful)


@mutation(
    "element-not-put-back", "An element whose taker was cancelled does not go back into its queue.",
    rule="a withdrawn grant is given back", suites=(*MACHINES, "queue"),
)  # fmt: skip
def _element_not_put_back(patch: Patch) -> None:
    patch.setattr(QueueMachine, "_put_back", lambda self, ctx, index, value: None)


@mutation(
    "queue-over-its-bound", "A queue takes one element more than its capacity.",
    rule="an offer to a full queue changes nothing", suites=(*MACHINES, "bounded"),
)  # fmt: skip
def _queue_over_its_bound(patch: Patch) -> None:
    offer = queueops._offer

    def generous(ctx: Context, values: list[bytes]) -> Result:
        state = queueops._state(ctx)
        if not ctx.config or state.size + len(values) != U64.unpack(ctx.config)[0] + 1:
            return offer(ctx, values)
        queueops._save(ctx, state._replace(size=state.size - 1))
        answer = offer(ctx, values)
        after = queueops._state(ctx)
        queueops._save(ctx, after._replace(size=after.size + 1))
        return answer

    swap(patch, queueops, "_offer", generous)


@mutation(
    "queue-full-for-good", "A queue that was once full counts elements that were taken since.",
    rule="an offer finds the room that is there", suites=(*MACHINES, "bounded"),
)  # fmt: skip
def _queue_full_for_good(patch: Patch) -> None:
    offer = queueops._offer

    def mean(ctx: Context, values: list[bytes]) -> Result:
        state = queueops._state(ctx)
        if ctx.config and state.tail - state.cleared >= 40 and state.size + 1 >= U64.unpack(ctx.config)[0]:
            return queueops.CONDITION
        return offer(ctx, values)

    swap(patch, queueops, "_offer", mean)


@mutation(
    "condition-not-looked-at", "Some conditional writes of a map take effect whatever the value is.",
    rule="linearizability", suites=("machines-unit", "conditions"),
)  # fmt: skip
def _condition_not_looked_at(patch: Patch) -> None:
    compare_and_set = mapops._compare_and_set

    def rash(ctx: Context, args: list[Any], body: bytes) -> Result:
        answer = compare_and_set(ctx, args, body)
        if answer[0] == Code.CONDITION and ctx.revision % 5 == 0:
            return mapops._put(ctx, [args[0]], body[args[2] :])
        return answer

    swap(patch, mapops, "_compare_and_set", rash)


@mutation(
    "absence-not-looked-at", "Some puts that ask for absence overwrite an entry of a map.",
    rule="linearizability", suites=(*MACHINES, "conditions"),
)  # fmt: skip
def _absence_not_looked_at(patch: Patch) -> None:
    put = mapops._put

    def rash(ctx: Context, args: list[Any], body: bytes) -> Result:
        if len(args) == 4 and args[2] & mapops.Flag.IF_ABSENT and ctx.revision % 5 == 0:
            args = [args[0], args[1], args[2] & ~mapops.Flag.IF_ABSENT, args[3]]
        return put(ctx, args, body)

    swap(patch, mapops, "_put", rash)


@mutation(
    "previous-is-the-new-one", "A value that is replaced is told as the one that replaced it.",
    rule="linearizability", suites=(*MACHINES, "conditions"),
)  # fmt: skip
def _previous_is_the_new_one(patch: Patch) -> None:
    put = value._set

    def late(ctx: Context, args: list[Any], body: bytes) -> Result:
        answer = put(ctx, args, body)
        return (answer[0], put(ctx, args, body)[1]) if answer[1] else answer

    commands = value._COMMANDS
    patch.setattr(value, "_COMMANDS", {**commands, value.Op.SET: (late, commands[value.Op.SET][1])})


@mutation(
    "counter-compares-with-zero", "A counter's compare-and-set finds any number equal to 0.",
    rule="linearizability", suites=(*MACHINES, "conditions"),
)  # fmt: skip
def _counter_compares_with_zero(patch: Patch) -> None:
    apply = CounterMachine.apply

    def loose(self: CounterMachine, ctx: Context, op: int, args: list[int], body: bytes) -> Result:
        if op == counter.COMPARE_AND_SET and args[0] == 0:
            return apply(self, ctx, counter.SET, args[1:], body)
        return apply(self, ctx, op, args, body)

    patch.setattr(CounterMachine, "apply", loose)


@mutation(
    "addition-nobody-is-told-of", "Some additions to a set are answered as if the element had been there.",
    rule="linearizability", suites=(*MACHINES, "set"),
)  # fmt: skip
def _addition_nobody_is_told_of(patch: Patch) -> None:
    put = set._put

    def shy(ctx: Context, element: bytes, ttl_ms: int) -> bool:
        return put(ctx, element, ttl_ms) and ctx.revision % 7 > 0

    patch.setattr(set, "_put", shy)


@mutation(
    "name-free-too-early", "A name is free before every partition of its primitive is deleted.",
    rule="a name is free once every partition has logged the deletion", suites=(*MACHINES, "names"),
)  # fmt: skip
def _name_free_too_early(patch: Patch) -> None:
    send = Deletions._send

    def hasty(self: Deletions) -> None:
        for deletion in list(self._deletions.values()):
            self._end(deletion)
        send(self)

    patch.setattr(Deletions, "_send", hasty)


@mutation(
    "partition-stays", "A partition that is deleted stays open.", rule="a deleted partition is gone",
    suites=(*MACHINES, "names"),
)  # fmt: skip
def _partition_stays(patch: Patch) -> None:
    patch.setattr(HostContext, "close_partition", lambda self, key: None)


@mutation(
    "deletion-nobody-takes-up", "A deletion whose leader is gone is gone on with by nobody.",
    rule="a leader that follows goes on with deletions", suites=(*MACHINES, "names"),
)  # fmt: skip
def _deletion_nobody_takes_up(patch: Patch) -> None:
    patch.setattr(Deleting, "_goes_on", lambda self, payload: False)
