"""Planted bugs in bursts: commands that share a record, in apply and at the client."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from primitives.commands import Commands
from primitives.context import WAITER, HostContext
from primitives.errors import Code
from primitives.ids import GroupId
from primitives.numbering import Numbering
from primitives.records import Answer, Burst, encode_answer, encode_burst_answer
from router.frames import HEADER_BYTES, AnswerReader, encode_answers
from router.session import SessionCore
from router.session_calls import Call
from router.session_groups import GroupSession
from router.session_lanes import Lane
from router.session_links import Link
from router.session_network import Outgoing
from tests.mutations.registry import Patch, mutation
from tests.mutations.suites import BURSTS

RULE = "each command of a burst is judged by itself"


def _before(patch: Patch, change: Callable[[Burst, Numbering | None], Burst]) -> None:
    """Bursts are changed before they are applied."""
    apply = Commands.apply_burst

    def applied(self: Commands, burst: Burst) -> bytes:
        session = self._alive.get(burst.number)
        numbering = None if session is None else session.numberings.get(burst.slot)
        return apply(self, change(burst, numbering))

    patch.setattr(Commands, "apply_burst", applied)


def _parts(answer: bytes) -> list[bytes]:
    """The answers of a burst's commands; none if it is but one for all."""
    reader = AnswerReader(encode_answers([(0, answer)])[HEADER_BYTES:])
    parts = []
    while reader.next():
        if reader.is_part:
            parts.append(encode_answer(*reader.answer()))
    return parts


@mutation(
    "burst-takes-effect-again", "A burst that comes again takes effect again.", rule="pitfall 24",
    suites=BURSTS,
)  # fmt: skip
def _burst_takes_effect_again(patch: Patch) -> None:
    def forgetful(burst: Burst, numbering: Numbering | None) -> Burst:
        if numbering is not None and burst.sequence <= numbering.last:
            numbering.last = burst.sequence - 1
        return burst

    _before(patch, forgetful)


@mutation(
    "burst-acknowledges-its-own", "A burst acknowledges commands of its own, whose answers may be lost.",
    rule=RULE, suites=BURSTS,
)  # fmt: skip
def _burst_acknowledges_its_own(patch: Patch) -> None:
    _before(patch, lambda burst, _: burst._replace(acknowledged=burst.sequence + len(burst.bodies)))


@mutation(
    "burst-ignores-exceptions", "A burst acknowledges what it names as its exceptions, too.", rule=RULE,
    suites=("bursts-unit", "bursts-properties"),
)  # fmt: skip
def _burst_ignores_exceptions(patch: Patch) -> None:
    _before(patch, lambda burst, _: burst._replace(exceptions=()))


@mutation(
    "burst-answered-in-another-order", "Answers of a burst change places.", rule=RULE,
    suites=("together", "bursts-unit", "bursts-properties"),
)  # fmt: skip
def _burst_answered_in_another_order(patch: Patch) -> None:
    apply = Commands.apply_burst

    def turned(self: Commands, burst: Burst) -> bytes:
        answer = apply(self, burst)
        parts = _parts(answer)
        return encode_burst_answer(parts[::-1]) if parts else answer

    patch.setattr(Commands, "apply_burst", turned)


@mutation(
    "burst-waits", "A command of a burst may wait, and is answered twice.", rule=RULE,
    suites=("bursts-unit",),
)  # fmt: skip
def _burst_waits(patch: Patch) -> None:
    def later(self: HostContext) -> bytes:
        self.asked_late = True
        return WAITER.pack(self.session, self._here.key[0], self.sequence)

    patch.setattr(HostContext, "later", later)


@mutation(
    "burst-s-rest-lost", "What is left of a burst whose answers are too large takes its numbers, without"
    " effect.", rule=RULE, suites=("bursts-unit",),
)  # fmt: skip
def _burst_s_rest_lost(patch: Patch) -> None:
    apply = Commands.apply_burst

    def careless(self: Commands, burst: Burst) -> bytes:
        answer = apply(self, burst)
        if any(part[0] == Code.ANSWERS_FULL for part in _parts(answer)):
            numbering = self._alive[burst.number].numberings[burst.slot]
            numbering.last = burst.sequence + len(burst.bodies) - 1
        return answer

    patch.setattr(Commands, "apply_burst", careless)


@mutation(
    "burst-at-an-old-epoch", "A burst is applied whatever its slot's epoch is by then.", rule="pitfall 33",
    suites=("bursts-unit",),
)  # fmt: skip
def _burst_at_an_old_epoch(patch: Patch) -> None:
    apply = Commands.apply_burst

    def careless(self: Commands, burst: Burst) -> bytes:
        return apply(self, burst._replace(epoch=self._owned.get(burst.slot, burst.epoch)))

    patch.setattr(Commands, "apply_burst", careless)


@mutation(
    "burst-s-answers-to-the-wrong-calls", "A client gives the answers of a burst to its calls in another"
    " order.", rule=RULE, suites=("together", "bursts-unit", "bursts-properties"),
)  # fmt: skip
def _burst_s_answers_to_the_wrong_calls(patch: Patch) -> None:
    add_burst = Outgoing.add_burst

    def turned(self: Outgoing, group: GroupId, calls: list[Call], record: bytes) -> bool:
        has_room = add_burst(self, group, calls, record)
        first = calls[0].request
        for at, call in enumerate(reversed(calls)):
            call.request = first + at
            self._link.requests[first + at] = call
        calls[-1].burst = len(calls)
        return has_room

    patch.setattr(Outgoing, "add_burst", turned)


@mutation(
    "burst-over-a-gap", "Calls whose numbers do not follow each other share a record.", rule=RULE,
    suites=BURSTS,
)  # fmt: skip
def _burst_over_a_gap(patch: Patch) -> None:
    def joined(self: Lane, number: int, window: int) -> list[Call]:
        calls: list[Call] = []
        while len(calls) < 64 and (call := self.next(number, window)) is not None:
            calls.append(call)
            other = self._resend[0] if self._resend else self.waiting.first()
            if other is None or call.late or call.called_off or call.type <= 2 or not other.may_follow(call):
                break
        return calls

    patch.setattr(Lane, "take", joined)


@mutation(
    "burst-s-refusal-goes-for-the-first", "What refuses a burst as a whole is told to the first of its calls"
    " alone.", rule=RULE, suites=("bursts-unit", "together"),
)  # fmt: skip
def _burst_s_refusal_goes_for_the_first(patch: Patch) -> None:
    def refused(
        self: SessionCore, now_ms: int, link: Link, group: GroupSession, first: Call, answer: Answer
    ) -> None:
        self._answered(now_ms, link, group, first, answer)

    patch.setattr(SessionCore, "_refused", refused)


@mutation(
    "given-back-as-answered", "A call that goes on under the next registration counts as answered: it is not"
    " sent again.", rule="what is not answered is sent again", suites=("bursts-unit", "together"),
)  # fmt: skip
def _given_back_as_answered(patch: Patch) -> None:
    renew = Lane.renew

    def marked(self: Lane) -> Any:
        returned = list(self.returned)
        lane = renew(self)
        for call in returned:
            call.answered = True
        return lane

    patch.setattr(Lane, "renew", marked)


@mutation(
    "run-cut-keeps-its-revision", "What is left of a run that is acknowledged in part tells the revisions of"
    " those before it.", rule="pitfall 24", suites=BURSTS,
)  # fmt: skip
def _run_cut_keeps_its_revision(patch: Patch) -> None:
    acknowledge = Numbering._acknowledge_runs

    def forgetful(self: Numbering, floor: int, exceptions: Collection[int]) -> None:
        before = {id(run): run.revision for run in self._runs}
        acknowledge(self, floor, exceptions)
        for run in self._runs:
            run.revision = before[id(run)]

    patch.setattr(Numbering, "_acknowledge_runs", forgetful)
