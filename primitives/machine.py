"""What a replicated state machine is, and what it may touch.

A machine is one stateless object for each type of primitive. Everything it keeps is in tables reached
through the context, which belongs to one partition of one primitive. It is deterministic: no clock, no
randomness, no float arithmetic, no iteration over sets, and no reading of anything but its arguments and
tables. Time is the group's log time. A command touches at most ``ROWS_A_COMMAND_MAX`` rows; whatever
needs more arms a timer that is due at once and goes on in slices.
"""

from __future__ import annotations

from typing import Any, ClassVar

from primitives.access import OK, Context, Result, Table, TableView, View

__all__ = ["OK", "Context", "Machine", "Result", "Table", "TableView", "View"]


class Machine:
    """A type of primitive. The methods are pure functions of the context and their arguments.

    Built-in machines do not raise: they return a :data:`Result` with a code other than ``OK``. What a
    machine raises all the same is answered as ``MACHINE_FAILED``, and its changes are undone.
    """

    TYPE: ClassVar[int]
    """The type's number on the wire, see ``records.Type``."""
    NAME: ClassVar[str]
    """The type's name for people, as on the client: ``map``."""

    def opened(self, ctx: Context) -> None:
        """A partition came to be. Most machines need nothing."""

    def apply(self, ctx: Context, op: int, args: list[Any], body: bytes) -> Result:
        """Executes a command."""
        raise NotImplementedError

    def query(self, view: View, op: int, args: list[Any], body: bytes) -> Result:
        """Answers a query."""
        raise NotImplementedError

    def timer(self, ctx: Context, payload: bytes) -> None:
        """A timer armed with ``payload`` is due."""

    def session_ended(self, ctx: Context, session: int) -> bool:
        """A session with holdings here ended. Wakes who waits for it, a bounded number of rows at a time;
        True when nothing is left to do, False to be called again by a command of its own."""
        return True

    def withdraw(self, ctx: Context, waiter: bytes, granted: bytes | None) -> Result:
        """The client no longer wants what it waits for: removes the waiter (``granted`` is None) or gives
        back the grant of that answer (its result bytes)."""
        return OK
