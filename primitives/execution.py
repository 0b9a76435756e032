"""Execution of machines' methods under a savepoint.

A method that raises leaves nothing but its error, the same on every replica: its rows, timers, late answers
and holdings are undone. What the store raises, lack of memory, too deep a recursion and invariant violations
are no replicated failures: they go on and stop the node, whatever the machine caught.
"""

from __future__ import annotations

from typing import Any, Final

from primitives.context import WAITER, HostContext
from primitives.errors import Code
from primitives.history import Histories
from primitives.instances import Instance
from primitives.records import encode_answer
from primitives.sessions import SessionTable
from primitives.tables import RowsExceeded, Tables

FAILED: Final = object()
"""What a guarded method returns when it failed."""
FAILED_TEXT: Final = b"the machine failed"
CLOSING_TEXT: Final = (
    b"the session is being ended, so nothing more is granted to it;"
    b" ask again when its lease is lost: the client has another session then"
)


class Execution:
    """Executes methods of machines in a group's one context."""

    __slots__ = ("_alive", "_histories", "_sessions", "_tables", "context", "late")

    def __init__(
        self, context: HostContext, tables: Tables, sessions: SessionTable, histories: Histories
    ) -> None:
        self.context: Final = context
        self._tables: Final = tables
        self._histories: Final = histories
        self._sessions: Final = sessions
        self._alive: Final = sessions.alive
        self.late: list[tuple[int, int, int, bytes]] = []
        """Where late answers are told, for the present entry: session number, slot, sequence, answer."""

    def guarded(self, instance: Instance, session: int, sequence: int, method: Any, *args: Any) -> Any:
        """Calls ``method(context, *args)`` under a savepoint. :data:`FAILED` if it raised or took too many
        rows, with all undone."""
        context = self.context
        context.begin(instance, session, sequence)
        try:
            value = method(context, *args)
            if self._tables.failure is None:
                return value
        except (MemoryError, RecursionError):
            raise
        except Exception:  # a replicated failure: undone below, and answered as such
            pass
        self.undo()
        return FAILED

    def apply(
        self, instance: Instance, session: int, sequence: int, op: int, args: list[Any], body: bytes
    ) -> tuple[int, bytes]:
        """Like :meth:`execute`, for what is executed most: the machine's commands."""
        context = self.context
        context.begin(instance, session, sequence)
        code, answer = -1, b""
        try:
            code, text = instance.machine.apply(context, op, args, body)
            answer = context.answered(code, text)
        except (MemoryError, RecursionError):
            raise
        except Exception:  # a replicated failure, or no result: undone below, and answered as such
            pass
        return self._concluded(code, answer)

    def execute(
        self, instance: Instance, session: int, sequence: int, method: Any, *args: Any
    ) -> tuple[int, bytes]:
        """Executes what gives a result; returns its code and its answer. A refusal undoes all."""
        context = self.context
        context.begin(instance, session, sequence)
        code, answer = -1, b""
        try:
            code, text = method(context, *args)
            answer = context.answered(code, text)
        except (MemoryError, RecursionError):
            raise
        except Exception:  # likewise
            pass
        return self._concluded(code, answer)

    def _concluded(self, code: int, answer: bytes) -> tuple[int, bytes]:
        """What came of a method that gave this code and this answer; no answer: it failed."""
        context = self.context
        if answer and self._tables.failure is None and (code == Code.PENDING) is context.asked_late:
            if code >= Code.SESSION_LOST:
                self.undo()
            elif context.held_closing:
                self.undo()
                return Code.SESSION_CLOSING, encode_answer(
                    Code.SESSION_CLOSING, context.revision, CLOSING_TEXT
                )
            elif context.emitted:
                self._histories.commit(context.emitted, context.log_time_ms)
            return code, answer
        self.undo()
        return Code.MACHINE_FAILED, encode_answer(Code.MACHINE_FAILED, context.revision, FAILED_TEXT)

    def run(self, instance: Instance, session: int, sequence: int, method: Any, *args: Any) -> Any:
        """Like :meth:`guarded`; then the answers that it gave to waiters, and its events, take effect."""
        value = self.guarded(instance, session, sequence, method, *args)
        self.settle()
        context = self.context
        if context.emitted:
            self._histories.commit(context.emitted, context.log_time_ms)
        return value

    def ask(self, instance: Instance, op: int, args: list[Any], body: bytes) -> bytes:
        """The answer to a query."""
        context = self.context
        context.begin(instance, 0, 0)
        self._tables.begin_query()
        failed = True
        answer = b""
        try:
            code, result = instance.machine.query(context, op, args, body)
            answer = context.answered(code, result)
            failed = self._tables.failure is not None or code == Code.PENDING
        except (MemoryError, RecursionError):
            raise
        except Exception:  # the machine's own mistake: the asker is told
            pass
        if failed:
            self.undo()
            return encode_answer(Code.MACHINE_FAILED, context.revision, FAILED_TEXT)
        return answer

    def undo(self) -> None:
        """Back to the savepoint. What the store raised goes on."""
        failure = self._tables.failure
        self.context.rollback()
        if failure is not None and not isinstance(failure, RowsExceeded):
            raise failure

    def settle(self) -> None:
        """Late answers that were given under the last savepoint take effect."""
        context = self.context
        if not context.resolved:
            return
        resolved, context.resolved = context.resolved, []
        for waiter, answer in resolved:
            number, slot, sequence = WAITER.unpack(waiter)
            session = self._alive.get(number)
            numbering = None if session is None else session.numberings.get(slot)
            target = None if numbering is None else numbering.pending.pop(sequence, None)
            if numbering is not None and target is not None:
                numbering.store(sequence, answer, target)
                self._sessions.touch(numbering)
                self._sessions.answer_bytes += len(answer)
                self.late.append((number, slot, sequence, answer))
