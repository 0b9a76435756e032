"""Sessions' numbered commands: each takes effect once, in order; its answer is kept until acknowledged."""

from __future__ import annotations

from typing import Any, Final

from primitives.context import PLAIN, WAITER
from primitives.errors import Code
from primitives.execution import Execution
from primitives.instances import Instance, Instances
from primitives.limits import BURST_ANSWER_BYTES_MAX
from primitives.numbering import Numbering, Target
from primitives.records import (
    ANSWER_HEADER,
    Burst,
    Command,
    SessionOp,
    Type,
    encode_answer,
    encode_burst_answer,
    encode_run_answer,
)
from primitives.sessions import Session, SessionTable


class Commands:
    """Applies commands. ``owned`` gives the epoch of each slot that the group owns."""

    __slots__ = ("_alive", "_answers_stored_max", "_execution", "_instances", "_owned", "_sessions")

    def __init__(
        self, execution: Execution, sessions: SessionTable, instances: Instances, owned: dict[int, int],
        answers_stored_max: int,
    ) -> None:  # fmt: skip
        self._execution: Final = execution
        self._sessions: Final = sessions
        self._alive: Final = sessions.alive
        self._instances: Final = instances
        self._owned: Final = owned
        self._answers_stored_max: Final = answers_stored_max

    def apply(self, command: Command) -> bytes | None:
        """The command's answer; None if it comes late.

        Refused without taking the number: ``SESSION_LOST``, ``WRONG_SLOT``, ``OUT_OF_ORDER``, ``FORGOTTEN``
        and ``ANSWERS_FULL`` (whose acknowledgements count all the same).
        """
        (session_id, number, slot, epoch, sequence, acknowledged, primitive, partition, type_, op, exceptions,
         args, body) = command  # fmt: skip
        session = self._alive.get(number)
        if session is None or session.id != session_id:
            return self._refusal(Code.SESSION_LOST)
        if self._owned.get(slot) != epoch:
            return self._refusal(Code.WRONG_SLOT)
        numbering = session.numberings.get(slot)
        if numbering is None:
            if sequence != 1:
                return self._refusal(Code.OUT_OF_ORDER)
            numbering = self._sessions.numbering(session, slot)
        elif sequence != numbering.last + 1:
            return self._not_next(numbering, sequence)
        numbering.acknowledge(acknowledged, exceptions)
        if not numbering.dirty:
            self._sessions.touch(numbering)
        if numbering.held >= self._answers_stored_max:
            return self._refusal(Code.ANSWERS_FULL)
        target = (slot, primitive, partition)
        if type_ == Type.SESSION:
            code, answer = self._session_op(command, session, numbering)
        else:
            instance = self._instances.find(target)
            if instance is None or instance.type != type_:
                code = Code.UNKNOWN_PRIMITIVE if instance is None else Code.TYPE_MISMATCH
                answer = self._refusal(code)
            else:
                code, answer = self._execution.apply(instance, number, sequence, op, args, body)
        numbering.last = sequence
        if code == Code.PENDING:
            numbering.pending[sequence] = target
        else:
            self._store(numbering, sequence, answer, target)
        if self._execution.context.resolved:
            self._execution.settle()
        return None if code == Code.PENDING else answer

    def apply_burst(self, burst: Burst) -> bytes:
        """The answer to a burst, each of whose commands counts a revision and is treated like one of
        :meth:`apply`; but what would be answered late fails. Behind one that is refused without taking its
        number all are ``OUT_OF_ORDER``.

        Refused as a whole: ``SESSION_LOST``, ``WRONG_SLOT`` and, if the first comes too early,
        ``OUT_OF_ORDER``. Once the answers are larger than ``BURST_ANSWER_BYTES_MAX``, which those that were
        stored before may be, too, the rest is ``ANSWERS_FULL``: it is to be sent again.
        """
        (session_id, number, slot, epoch, sequence, acknowledged, primitive, partition, type_, op, exceptions,
         arguments, bodies) = burst  # fmt: skip
        session = self._sessions.find(session_id, number)
        if session is None:
            return self._refusal(Code.SESSION_LOST)
        if self._owned.get(slot) != epoch:
            return self._refusal(Code.WRONG_SLOT)
        numbering = session.numberings.get(slot)
        if numbering is None:
            if sequence != 1:
                return self._refusal(Code.OUT_OF_ORDER)
            numbering = self._sessions.numbering(session, slot)
        elif sequence > numbering.last + 1:
            return self._refusal(Code.OUT_OF_ORDER)
        if sequence + len(bodies) > numbering.last + 1:
            numbering.acknowledge(acknowledged, exceptions)
            if not numbering.dirty:
                self._sessions.touch(numbering)
        target = (slot, primitive, partition)
        instance = self._instances.find(target)
        count, first, context = len(bodies), sequence, self._execution.context
        first_revision = context.revision
        answers: list[bytes] = []
        executed = plain = size = 0
        context.at_once = True
        for index in range(count):
            if index:
                context.revision += 1  # type: ignore[assignment]  # spares the call of Revision
            if size > BURST_ANSWER_BYTES_MAX:
                answer = self._refusal(Code.ANSWERS_FULL)
            elif sequence != numbering.last + 1:
                answer = self._not_next(numbering, sequence) or self._refusal(Code.FORGOTTEN)
            elif numbering.held + executed >= self._answers_stored_max:
                answer = self._refusal(Code.ANSWERS_FULL)
            else:
                answer = self._at_once(
                    instance, type_, number, sequence, op, arguments[index], bodies[index]
                )
                numbering.last = sequence
                executed += 1
                if answer is PLAIN:
                    plain += 1
                if context.resolved:
                    self._execution.settle()
            answers.append(answer)
            size += len(answer)
            sequence += 1
        context.at_once = False
        if plain == count:
            numbering.store_run(first, count, first_revision, target)
            self._sessions.answer_bytes += size
            return encode_run_answer(count, first_revision)
        for taken in range(numbering.last + 1 - executed, numbering.last + 1):
            index = taken - first
            if answers[index] is PLAIN:
                answers[index] = encode_answer(Code.OK, first_revision + index)
            self._store(numbering, taken, answers[index], target)
        return encode_burst_answer(answers)

    def _at_once(
        self, instance: Instance | None, type: int, number: int, sequence: int, op: int, args: list[Any],
        body: bytes,
    ) -> bytes:  # fmt: skip
        """Executes a command of a burst."""
        if instance is None or instance.type != type:
            return self._refusal(Code.UNKNOWN_PRIMITIVE if instance is None else Code.TYPE_MISMATCH)
        return self._execution.apply(instance, number, sequence, op, args, body)[1]

    def _store(self, numbering: Numbering, sequence: int, answer: bytes, target: Target) -> None:
        """Keeps the answer of a command that took its number."""
        numbering.store(sequence, answer, target)
        self._sessions.answer_bytes += len(answer)

    def _not_next(self, numbering: Numbering, sequence: int) -> bytes | None:
        """A retry gets what is stored; what comes too early changes nothing."""
        if sequence > numbering.last:
            return self._refusal(Code.OUT_OF_ORDER)
        stored = numbering.find(sequence)
        if stored is not None:
            return stored[0]
        return None if sequence in numbering.pending else self._refusal(Code.FORGOTTEN)

    def _session_op(self, command: Command, session: Session, numbering: Numbering) -> tuple[int, bytes]:
        """Executes an operation on the session's own numbers."""
        if command.op == SessionOp.NOOP:
            return Code.OK, self._refusal(Code.OK)
        args = command.args
        if command.op != SessionOp.WITHDRAW or len(args) != 1 or type(args[0]) is not int:
            return Code.BAD_REQUEST, self._refusal(Code.BAD_REQUEST)
        return self._withdraw(args[0], command.sequence, session, numbering)

    def _withdraw(
        self, number: int, sequence: int, session: Session, numbering: Numbering
    ) -> tuple[int, bytes]:
        """Removes the waiter of command ``number``, or gives its grant back; its answer is then WITHDRAWN."""
        target = numbering.pending.get(number)
        granted: bytes | None = None
        if target is None:
            stored = numbering.find(number)
            if stored is None:
                code = Code.FORGOTTEN if 0 < number <= numbering.last else Code.BAD_REQUEST
                return code, self._refusal(code)
            granted = stored[0][ANSWER_HEADER.size :]
            target = stored[1]
            if stored[0][0] != Code.OK or target is None:
                return Code.OK, self._refusal(Code.OK)
        waiter = WAITER.pack(session.number, numbering.slot, number)
        instance = self._instances.find(target)
        code, answer = Code.OK, self._refusal(Code.OK)
        if instance is not None:
            code, answer = self._execution.execute(
                instance, session.number, sequence, instance.machine.withdraw, waiter, granted
            )
        if code < Code.SESSION_LOST:
            withdrawn = self._refusal(Code.WITHDRAWN)
            if granted is not None:
                numbering.replace(number, withdrawn)
            else:
                self._execution.context.resolved.append((waiter, withdrawn))
        return code, answer

    def _refusal(self, code: int) -> bytes:
        return encode_answer(code, self._execution.context.revision)
