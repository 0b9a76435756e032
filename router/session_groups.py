"""A session's part in one group: its registration, its lease, its numbered commands, its queries.

A registration lives through five states. While it is ``READY``, commands are numbered and sent. When its
lease is judged lost, by the clock or by the group, what is held under it is lost at once, and so are late
calls. It is then ``LAPSED``: nothing new is numbered under it, but what was sent is sent again until the
group answers each, since only the group knows whether a command took effect. After that the rest goes on
under a new registration.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from primitives.codec import pack
from primitives.errors import Code
from primitives.ids import GROUP_SLOT, GroupId
from primitives.records import (
    Answer,
    EndSession,
    Register,
    SessionOp,
    Type,
    encode_end_session,
    encode_register,
)
from router.session_backoff import Backoff
from router.session_calls import Call, CallKind, error_of, session_lost
from router.session_lanes import Lane
from router.session_leases import LeaseClock
from router.session_links import Link, forget_request
from router.session_network import Outgoing
from router.session_queries import Queries
from router.session_shared import Shared
from router.shardmap import ShardMap

REWINDS_MAX: Final = 3
"""So many times in a row a slot's commands are sent again at once, before there is a pause."""


class Standing(Enum):
    """What a registration has come to."""

    NONE = "none"
    REGISTERING = "registering"
    READY = "ready"
    LAPSED = "lapsed"
    LEAVING = "leaving"
    """The client lets it go."""


# To find a member in its class takes as long as much of what is done for a call.
_NONE: Final = Standing.NONE
_REGISTERING: Final = Standing.REGISTERING
_READY: Final = Standing.READY
_LAPSED: Final = Standing.LAPSED
_LEAVING: Final = Standing.LEAVING


class GroupSession:
    """One group, as a session sees it."""

    __slots__ = (
        "_active", "_leave", "_register", "_registered_ms", "_shared", "backoff",
        "blocked_until_ms", "count", "group", "keepalive_ms", "lanes", "lease", "link", "number",
        "queries", "seen", "stall_ms", "standing", "suspect_ms", "used_ms", "waits_from_ms",
    )  # fmt: skip

    def __init__(self, group: GroupId, shared: Shared) -> None:
        settings = shared.settings
        self.group: Final = group
        self._shared: Final = shared
        self.backoff: Final = Backoff(shared.random, settings.backoff_first_ms, settings.backoff_max_ms)
        self.link: Link | None = None
        """The link that this group was last reached by."""
        self.standing = _NONE
        self.count = 0
        """Registrations so far."""
        self.number = 0
        """The session's number here; void unless READY, LAPSED or LEAVING."""
        self.lease: LeaseClock | None = None
        self.lanes: dict[int, Lane] = {}
        self.queries: Final = Queries()
        self.seen = 0
        """The highest revision of the group that was told to this client."""
        self.blocked_until_ms = 0
        """Nothing is sent before."""
        self.keepalive_ms = 0
        """When the next keepalive is due."""
        self.used_ms = 0
        self.waits_from_ms: int | None = None
        """Since when an answer that should come at once may be due."""
        self.stall_ms = shared.settings.stall_ms
        """How long to wait for such an answer before another node is tried."""
        self.suspect_ms = 0
        """When next to ask whether the lease is being confirmed."""
        self._active: dict[int, Lane] = {}
        self._register: Call | None = None
        self._registered_ms = 0
        self._leave: Call | None = None

    # --- Calls --------------------------------------------------------------------------------------

    def add(self, now_ms: int, call: Call) -> None:
        """Takes a command or a query. Commands of a slot are sent in the order in which they come here."""
        self.used_ms = now_ms
        call.group = self.group
        if call.kind == CallKind.QUERY:
            self.queries.push(call)
            return
        lane = self.lane(call.slot)
        lane.waiting.push(call)
        self._active[call.slot] = lane

    def lane(self, slot: int) -> Lane:
        """The commands of a slot."""
        lane = self.lanes.get(slot)
        if lane is None:
            lane = self.lanes[slot] = Lane(slot)
        return lane

    def call_off(self, call: Call) -> Call | None:
        """Nobody wants the call's outcome. One that was sent is kept up by a no-op; if it is late, the
        command that withdraws it is returned."""
        call.called_off = True
        if call.kind == CallKind.QUERY:
            forget_request(call)
            self.queries.settle(call)
            return None
        if not call.late or not call.sends or self.standing is not _READY:
            return None
        withdraw = Call(CallKind.COMMAND, Type.SESSION, SessionOp.WITHDRAW, pack([call.sequence]), b"")
        withdraw.slot, withdraw.primitive, withdraw.partition = call.slot, call.primitive, call.partition
        withdraw.group = self.group
        withdraw.carry_on = True
        withdraw.withdraws, call.withdrawal = call, withdraw
        lane = self.lane(call.slot)
        lane.waiting.push_front(withdraw)
        self._active[call.slot] = lane
        return withdraw

    @property
    def has_work(self) -> bool:
        """Whether there may be something to send."""
        return bool(
            self._active or len(self.queries)
            or self.standing is _REGISTERING or self.standing is _LAPSED or self.standing is _LEAVING
        )  # fmt: skip

    @property
    def is_in_use(self) -> bool:
        """Whether anything is under way or held."""
        held = self.lease is not None and self.lease.is_in_use
        return bool(len(self.queries) or self.queries.is_waiting or held) or not all(
            lane.is_idle for lane in self.lanes.values()
        )

    # --- What to send -------------------------------------------------------------------------------

    def give(self, now_ms: int, outgoing: Outgoing) -> bool:
        """See ``session_network.Source``."""
        if self.standing is _LAPSED and all(lane.is_drained for lane in self.lanes.values()):
            self._retire()
        if (self.standing is _NONE or self.standing is _LEAVING) and self._active:
            self._begin_registration(now_ms)
        if not (self._give_standing(now_ms, self._register, outgoing)
                and self._give_standing(now_ms, self._leave, outgoing)):  # fmt: skip
            return False
        while (query := self.queries.take()) is not None:
            self._sent(now_ms, query)
            if not outgoing.add(self.group, query, query.query_record(self._shared.epoch(query.slot))):
                return False
        if self.standing is _READY or self.standing is _LAPSED:
            return self._give_commands(now_ms, outgoing)
        return True

    def _give_standing(self, now_ms: int, call: Call | None, outgoing: Outgoing) -> bool:
        """Adds what begins or ends the registration, if it is to be sent."""
        if call is None or call.link is not None:
            return True
        self._sent(now_ms, call)
        return outgoing.add(self.group, call, call.body)

    def _give_commands(self, now_ms: int, outgoing: Outgoing) -> bool:
        shared = self._shared
        window = shared.settings.window if self.standing is _READY else 0
        for slot, lane in list(self._active.items()):
            epoch = shared.epoch(slot)
            while calls := lane.take(self.number, window):
                floor, exceptions = lane.acknowledgement()
                for call in calls:
                    self._sent(now_ms, call)
                call = calls[0]
                head = lane.head(shared.session_id, call.number, epoch)
                if len(calls) == 1:
                    has_room = outgoing.add(self.group, call, call.command_record(head, floor, exceptions))
                else:
                    record = call.burst_record(head, calls, floor, exceptions)
                    has_room = outgoing.add_burst(self.group, calls, record)
                if not has_room:
                    return False
            del self._active[slot]
        return True

    def _sent(self, now_ms: int, call: Call) -> None:
        call.sends += 1
        if self.waits_from_ms is None and not call.late:
            self.waits_from_ms = now_ms

    def _begin_registration(self, now_ms: int) -> None:
        if self._leave is not None:  # A higher count ends the former registration, too.
            forget_request(self._leave)
            self._leave = None
        self.count += 1
        self.standing = _REGISTERING
        self._registered_ms = now_ms
        shared = self._shared
        record = encode_register(Register(shared.session_id, self.count, shared.settings.timeout_ms))
        self._register = Call(CallKind.REGISTER, Type.SESSION, 0, b"", record)
        self._register.group = self.group

    def leave(self) -> None:
        """Lets the registration go, if there is one."""
        if self.standing not in (_READY, _LAPSED) or self.lease is None:
            return
        self.lease.lose()
        self.standing = _LEAVING
        record = encode_end_session(EndSession(self._shared.session_id, self.number))
        self._leave = Call(CallKind.END_SESSION, Type.SESSION, 0, b"", record)
        self._leave.group = self.group
        self._drop_numbers()

    def drop_query(self, call: Call, answer: Answer, error: Exception) -> None:
        """Gives up a query."""
        self.queries.settle(call)
        self._shared.finish(call, answer, error)

    def moved(self, shard_map: ShardMap) -> list[Call]:
        """Slots went to other groups: calls of theirs that were not sent, to be placed anew. What became of
        numbered commands only the former owner knows: they are given up as ambiguous."""
        self.queries.ask_again()
        moved = []
        for call in self.queries.drain():
            if call.slot == GROUP_SLOT or shard_map.group(call.slot) == self.group:
                self.queries.push(call)
            else:
                moved.append(call)
        for slot in [slot for slot in self.lanes if shard_map.group(slot) != self.group]:
            lane = self.lanes.pop(slot)
            self._active.pop(slot, None)
            self._give_up(lane)
            moved.extend(lane.renew().waiting.drain())
        return moved

    def rewind(self) -> None:
        """Has everything sent again that is not answered: the way it was sent leads nowhere any more."""
        for call in (self._register, self._leave):
            if call is not None:
                forget_request(call)
        self.queries.ask_again()
        for lane in self.lanes.values():
            self._rewind_lane(lane)
        self.waits_from_ms = None

    def _rewind_lane(self, lane: Lane) -> None:
        for held in (lane.plain, lane.late):
            for call in held.values():
                forget_request(call)
        lane.rewind()
        if lane.is_sendable(self._shared.settings.window):
            self._active[lane.slot] = lane

    def block(self, now_ms: int) -> None:
        """Sends nothing for a while, longer each time until something succeeds."""
        self.blocked_until_ms = now_ms + self.backoff.next_ms()

    def _succeeded(self) -> None:
        if self.backoff.tries:
            self.backoff.reset()
            self.stall_ms = self._shared.settings.stall_ms

    # --- What the group says ------------------------------------------------------------------------

    def answered(self, now_ms: int, call: Call, answer: Answer) -> None:
        """The group's own answer to the call's last request: anything but a matter of routes."""
        self.used_ms = now_ms
        if self.waits_from_ms is not None:
            self.waits_from_ms = now_ms
        self.judge(now_ms)
        kind = call.kind
        if kind == CallKind.COMMAND:
            self._command_answered(now_ms, call, answer)
        elif kind == CallKind.QUERY:
            self._succeeded()
            self.queries.settle(call)
            self._outcome(call, answer)
        elif kind == CallKind.REGISTER:
            self._register_answered(now_ms, answer)
        else:
            self._succeeded()
            self._leave = None
            if self.standing is _LEAVING:
                self.standing = _NONE

    def _outcome(self, call: Call, answer: Answer) -> None:
        code = answer.code
        if code <= Code.CONDITION or code == Code.UNKNOWN_PRIMITIVE:
            self._shared.finish(call, answer)
        else:
            self._shared.finish(call, answer, error_of(answer))

    def _command_answered(self, now_ms: int, call: Call, answer: Answer) -> None:
        lane, code = self.lanes[call.slot], answer.code
        if code == Code.ANSWERS_FULL:
            lane.part()
        if code == Code.OUT_OF_ORDER or code == Code.ANSWERS_FULL:
            if not lane.is_to_resend(call):
                self._again(now_ms, lane)
        elif code == Code.SESSION_LOST:
            self._void(lane, call, answer)
        elif not answer.revision:
            # Refused before it was logged: its number is still to be used up, by a no-op.
            lane.fill(call)
            self._outcome(call, answer)
            self._again(now_ms, lane)
        else:
            self._applied(lane, call, answer)

    def _again(self, now_ms: int, lane: Lane) -> None:
        lane.out_of_order += 1
        self._rewind_lane(lane)
        if lane.out_of_order > REWINDS_MAX:
            self.block(now_ms)

    def _applied(self, lane: Lane, call: Call, answer: Answer) -> None:
        """The command's number has its answer. A grant that nobody wants any more stays unacknowledged until
        it is given back."""
        self._succeeded()
        call.answered = True
        lane.out_of_order = 0
        if call.withdraws is not None and call.withdraws.answered:
            lane.settle(call.withdraws)
        if call.withdrawal is None or call.withdrawal.answered:
            lane.settle(call)
        if len(lane.waiting):
            self._active[lane.slot] = lane
        self._outcome(call, answer)

    def _void(self, lane: Lane, call: Call, answer: Answer) -> None:
        """The group knows no such registration. A command that was sent once and met this in the log surely
        took no effect: it goes on under the next one."""
        if call.sends == 1 and answer.revision and not call.called_off and call.withdraws is None:
            lane.give_back(call)
        else:
            lane.settle(call)
            self._shared.finish(call, None, session_lost())
        self.gone()

    def _register_answered(self, now_ms: int, answer: Answer) -> None:
        self._register = None
        if self.standing is not _REGISTERING:
            return
        self.standing = _NONE
        if answer.code == Code.OK:
            self._succeeded()
            lease = LeaseClock(self._shared.settings, self.group, answer.revision, self._registered_ms)
            # One that took longer than its lease lasts is made anew; nothing was sent under it yet.
            if lease.judge(now_ms):
                self.standing = _READY
                self.lease, self.number = lease, answer.revision
                self.keepalive_ms = self._registered_ms + self._shared.settings.keepalive_ms
        elif answer.code == Code.REGISTRATION_OLD or answer.code == Code.SESSION_LOST:
            self.block(now_ms)
        else:
            error = error_of(answer)
            for lane in self.lanes.values():
                for call in lane.waiting.drain():
                    self._shared.finish(call, answer, error)
            self._active.clear()

    def expects(self, call: Call) -> bool:
        """Whether an answer to the call is of use: its number is not done with, nor void."""
        if call.kind != CallKind.COMMAND:
            return self.queries.expects(call)
        lane = self.lanes.get(call.slot)
        held = None if lane is None else lane.late if call.late else lane.plain
        return held is not None and held.get(call.sequence) is call

    # --- Time ---------------------------------------------------------------------------------------

    def patient(self, now_ms: int) -> None:
        """The process stood still: nobody was slow."""
        if self.waits_from_ms is not None:
            self.waits_from_ms = now_ms
        self.suspect_ms = now_ms + self.stall_ms

    def is_stalled(self, now_ms: int) -> bool:
        """Whether an answer that should come at once has not come for too long, or the lease is not being
        confirmed by the node that is asked."""
        if self.standing is _READY and self.lease is not None and now_ms >= self.suspect_ms:
            self.suspect_ms = now_ms + self.stall_ms
            if self.lease.suspends_ms() <= now_ms:
                return True
        if self.waits_from_ms is not None and now_ms >= self.waits_from_ms + self.stall_ms:
            if self._waits:
                return True
            self.waits_from_ms = None
        return False

    @property
    def _waits(self) -> bool:
        """Whether anything is sent that is answered at once."""
        pending = (self._register, self._leave)
        return bool(
            self.queries.is_waiting or any(call is not None and call.link is not None for call in pending)
            or any(lane.plain for lane in self.lanes.values())
        )  # fmt: skip

    def deadline_ms(self, now_ms: int) -> int:
        """When the group wants to be looked at again, at the latest."""
        deadline_ms = now_ms + 60_000
        waits_from_ms = self.waits_from_ms
        if waits_from_ms is not None and waits_from_ms + self.stall_ms < deadline_ms:
            deadline_ms = waits_from_ms + self.stall_ms
        lease = self.lease
        if lease is not None and self.standing is _READY:
            suspends_ms = lease.suspends_ms()
            if suspends_ms <= now_ms:
                suspends_ms = self.suspect_ms
            # Said without min(), which the compiled core calls through the interpreter.
            if self.keepalive_ms < deadline_ms:
                deadline_ms = self.keepalive_ms
            if lease.deadline_ms < deadline_ms:
                deadline_ms = lease.deadline_ms
            if suspends_ms < deadline_ms:
                deadline_ms = suspends_ms
        return deadline_ms if deadline_ms > now_ms else now_ms + 1

    # --- The lease ----------------------------------------------------------------------------------

    def judge(self, now_ms: int) -> None:
        """Judges the lease by the clock."""
        if self.standing is _READY and self.lease is not None and not self.lease.judge(now_ms):
            self._lapse()
            for lane in self.lanes.values():
                for call in lane.late.values():
                    self._lose_late(call)

    def confirmed(self, now_ms: int, sent_ms: int) -> None:
        """The group confirmed the lease by an answer to what was sent at ``sent_ms``."""
        self.judge(now_ms)
        if self.standing is _READY and self.lease is not None:
            self.lease.confirm(now_ms, sent_ms)
            self.keepalive_ms = self.lease.confirmed_ms + self._shared.settings.keepalive_ms

    def gone(self) -> None:
        """The group said that the registration ended. Late calls that may yet turn out not to have been
        applied wait for their own answer."""
        if self.standing is not _READY:
            return
        self._lapse()
        for lane in self.lanes.values():
            for call in lane.late.values():
                if call.sends > 1:
                    self._lose_late(call)

    def _lapse(self) -> None:
        self.standing = _LAPSED
        if self.lease is not None:
            self.lease.lose()
            self._shared.lost.append(self.lease)
        self._active.update(self.lanes)

    def _lose_late(self, call: Call) -> None:
        if not call.answered:
            self._shared.finish(call, None, session_lost())
            call.called_off = True

    def _retire(self) -> None:
        """Nothing waits for the lapsed registration's answers any more."""
        self.standing = _NONE
        self._drop_numbers()

    def _drop_numbers(self) -> None:
        lanes, self.lanes = self.lanes, {}
        self._active = {}
        for slot, lane in lanes.items():
            self._give_up(lane)
            renewed = lane.renew()
            if len(renewed.waiting):
                self.lanes[slot] = self._active[slot] = renewed

    def _give_up(self, lane: Lane) -> None:
        """Whoever still waits for what was sent gets an ambiguous outcome."""
        for call in (*lane.plain.values(), *lane.late.values()):
            forget_request(call)
            self._shared.finish(call, None, session_lost())
        for call in lane.waiting:
            if call.withdraws is not None:
                self._shared.finish(call, None)
