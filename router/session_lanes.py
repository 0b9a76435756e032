"""The numbers of one session in one slot.

Commands are numbered from one, at the moment they are first handed to the wire, and sent in that order, many
at a time. A number is never given twice, and none is left out: whatever happens to a connection, all that is
not answered is sent again in order, and the group answers from what it stored where it had applied it.

A late command (a grant that may take its time) holds up nobody: acknowledgements are a floor with exceptions.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from primitives.limits import BURST_COMMANDS_MAX
from primitives.records import SessionOp, Type, command_head
from router.session_calls import NO_ARGUMENTS, Call, CallKind
from router.session_queue import CallQueue

EXCEPTIONS_FREE: Final = 8
"""So many exceptions are sent with every command; more of them only with every ``ACKNOWLEDGE_EVERY``-th."""
ACKNOWLEDGE_EVERY: Final = 64
BURST_BYTES_MAX: Final = 64 * 1024
"""Of the calls that share a record."""


class Lane:
    """Commands of one (session number, slot). Calls in it are of kind COMMAND."""

    __slots__ = ("_acknowledged", "_epoch", "_floor", "_head", "_next", "_number", "_resend", "late",
                 "out_of_order", "plain", "returned", "slot", "waiting")  # fmt: skip

    def __init__(self, slot: int) -> None:
        self.slot: Final = slot
        self.waiting = CallQueue()
        """Not numbered yet, in the order called."""
        self.plain: dict[int, Call] = {}
        """Sent and not answered, ascending."""
        self.late: dict[int, Call] = {}
        """Late ones: sent and not answered, or about to be withdrawn, ascending. Never acknowledged."""
        self.returned: list[Call] = []
        """Sent once and surely not applied; to be numbered anew under the next registration."""
        self.out_of_order = 0
        """Times in a row that the group said so, with nothing answered between."""
        self._next = 1
        self._floor = 0
        """Up to this number, none is in ``plain``."""
        self._resend: deque[Call] = deque()
        self._acknowledged = 0
        self._head = b""
        """What records begin with under ``_number`` in ``_epoch``."""
        self._number = self._epoch = -1

    @property
    def is_idle(self) -> bool:
        """Whether every call was sent and is done with."""
        return not (self.plain or self.late or len(self.waiting) or self.returned)

    def is_crowded(self, late_max: int) -> bool:
        """Whether too many late calls are under way for one more."""
        return len(self.late) + len(self.waiting) >= late_max

    @property
    def is_drained(self) -> bool:
        """Whether nobody waits any more for what was sent."""
        return not self.plain and all(call.called_off or call.answered for call in self.late.values())

    def is_sendable(self, window: int) -> bool:
        """Whether there is something to send now."""
        return bool(self._resend) or (len(self.waiting) > 0 and len(self.plain) < window)

    def next(self, number: int, window: int) -> Call | None:
        """Takes the next call to be sent now, in order; a new one gets the next number, under the session's
        ``number`` in the group. None if there is none, or no room in the window."""
        while self._resend:
            sent = self._resend.popleft()
            if not sent.answered:
                return sent
        if len(self.plain) >= window:
            return None
        call = self.waiting.pop()
        if call is not None:
            sequence = self._next
            self._next = sequence + 1
            call.sequence = sequence
            call.number = number
            if call.late:
                self.late[sequence] = call
            else:
                self.plain[sequence] = call
        return call

    def take(self, number: int, window: int) -> list[Call]:
        """Takes the next call, like :meth:`next`, with those behind it that can share its record; none if
        there is none."""
        call = self.next(number, window)
        if call is None:
            return []
        calls = [call]
        if call.late or call.called_off or call.is_alone or call.type <= Type.SYSTEM:
            return calls
        size, last = call.size, call.sequence
        while len(calls) < BURST_COMMANDS_MAX:
            other = self._resend[0] if self._resend else self.waiting.first()
            if other is None or not other.may_follow(call) or size + other.size > BURST_BYTES_MAX:
                break
            last += 1
            if last != (other.sequence if self._resend else self._next) or other.answered:
                break
            size += other.size
            if self.next(number, window) is None:
                break
            calls.append(other)
        return calls

    def rewind(self) -> None:
        """Has everything that is not answered sent again, in order."""
        if not self.late:
            self._resend = deque(self.plain.values())
        else:
            unanswered = [call for call in self.late.values() if not call.answered]
            unanswered.extend(self.plain.values())
            unanswered.sort(key=_sequence)
            self._resend = deque(unanswered)

    def part(self) -> None:
        """What is sent and not answered shares no record any more: one that it was in could not be read, or
        not be answered whole."""
        for call in self.plain.values():
            call.is_alone = True

    def is_to_resend(self, call: Call) -> bool:
        """Whether the call is about to be sent again, whatever is said of it now."""
        return call in self._resend

    def acknowledgement(self) -> tuple[int, tuple[int, ...]]:
        """Floor and exceptions for the next command: every number up to the floor is answered for good, but
        for the exceptions."""
        plain, late = self.plain, self.late
        floor = self._floor
        while floor + 1 < self._next and floor + 1 not in plain:
            floor += 1
        self._floor = floor
        if not late:
            return floor, ()
        exceptions = tuple(sequence for sequence in late if sequence <= floor)
        if len(exceptions) > EXCEPTIONS_FREE and floor - self._acknowledged < ACKNOWLEDGE_EVERY:
            return exceptions[0] - 1, ()
        self._acknowledged = floor
        return floor, exceptions

    def head(self, session_id: bytes, number: int, epoch: int) -> bytes:
        """What the records of commands begin with, under the session's ``number`` in the group."""
        if number != self._number or epoch != self._epoch:
            self._head = command_head(session_id, number, self.slot, epoch)
            self._number, self._epoch = number, epoch
        return self._head

    def settle(self, call: Call) -> None:
        """The call's number is done with: it may be acknowledged."""
        call.answered = True
        held = self.late if call.late else self.plain
        if call.sequence in held:
            del held[call.sequence]
        self.out_of_order = 0

    def fill(self, call: Call) -> None:
        """A no-op takes the number of a call that was refused before it was logged."""
        filler = Call(CallKind.COMMAND, Type.SESSION, SessionOp.NOOP, NO_ARGUMENTS, b"")
        filler.slot, filler.group = call.slot, call.group
        filler.number, filler.sequence = call.number, call.sequence
        filler.called_off = filler.done = True
        filler.late = call.late
        (self.late if call.late else self.plain)[call.sequence] = filler
        call.answered = True

    def give_back(self, call: Call) -> None:
        """The call was sent once and surely not applied; its number is void with its session's."""
        self.settle(call)
        call.sends = 0
        self.returned.append(call)

    def renew(self) -> Lane:
        """What is not sent yet, as a lane of the next registration."""
        lane = Lane(self.slot)
        self.returned.sort(key=_sequence)
        for call in (*self.returned, *self.waiting.drain()):
            if call.withdraws is None and not call.called_off:
                call.answered = False  # Its former number is done with; the next is not.
                lane.waiting.push(call)
        return lane


def _sequence(call: Call) -> int:
    return call.sequence
