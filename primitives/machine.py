"""What a replicated state machine is, and what it may touch.

A machine is one stateless object for each type of primitive. Everything it keeps is in tables reached
through the context, which belongs to one partition of one primitive. It is deterministic: no clock, no
randomness, no float arithmetic, no iteration over sets, and no reading of anything but its arguments and
tables. Time is the group's log time. A command touches at most ``ROWS_A_COMMAND_MAX`` rows; whatever
needs more arms a timer that is due at once and goes on in slices.

All are base classes, and not protocols, so that compiled code calls compiled code directly. What derives from
those that are decorated, machines written outside or a test's own tables, need not be compiled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from primitives.compiling import mypyc_attr
from primitives.ids import PrimitiveId, Revision, SlotId

Result = tuple[int, bytes]
"""An answer's code (see ``errors.Code``) and result bytes; the revision is added by whoever applies."""

OK: Final[Result] = (0, b"")


@mypyc_attr(allow_interpreted_subclasses=True)
class TableView(ABC):
    """A partition's ordered rows, bytes to bytes, as a query sees them."""

    __slots__ = ()

    @abstractmethod
    def get(self, key: bytes) -> bytes | None:
        """The row's value, or None."""

    @abstractmethod
    def scan(
        self, start: bytes = b"", end: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows with ``start <= key`` and, unless ``end`` is None, ``key < end``; in order, or reversed."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Table(TableView):
    """A partition's ordered rows, as a command sees them."""

    __slots__ = ()

    @abstractmethod
    def put(self, key: bytes, value: bytes) -> None:
        """Sets the row."""

    @abstractmethod
    def delete(self, key: bytes) -> None:
        """Removes the row, if it is there."""


@mypyc_attr(allow_interpreted_subclasses=True)
class View(ABC):
    """What a query sees: applied state, nothing else. Its attributes are to be read only."""

    __slots__ = ("log_time_ms", "revision")

    revision: Revision
    """Revision of the last command applied in the group."""
    log_time_ms: int
    """Applied log time."""

    @property
    @abstractmethod
    def primitive(self) -> PrimitiveId:
        """The primitive asked about."""

    @property
    @abstractmethod
    def partition(self) -> int:
        """Its partition here; 0 for a pinned primitive."""

    @property
    @abstractmethod
    def config(self) -> bytes:
        """The primitive's configuration, as its first creator gave it."""

    @abstractmethod
    def view(self, number: int) -> TableView:
        """Table ``number`` (0 to 255) of this partition."""

    @abstractmethod
    def alive(self, session: int) -> bool:
        """Whether the session of that number lives in this group, from applied state."""

    @abstractmethod
    def event(self, mark: bytes) -> bytes | None:
        """The value of one of this partition's events: one that is kept, or still in the history."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Context(View):
    """What a command, a timer or the end of a session may do. Undone as a whole if the command fails."""

    __slots__ = ("sequence", "session")

    session: int
    """Number of the session that asked; 0 in timers and internal operations."""
    sequence: int
    """The command's number in its (session, slot); 0 in timers and internal operations."""

    @abstractmethod
    def table(self, number: int) -> Table:
        """Table ``number`` (0 to 255) of this partition."""

    @abstractmethod
    def arm(self, deadline_ms: int, payload: bytes) -> bytes:
        """Calls :meth:`Machine.timer` with ``payload`` once log time reaches ``deadline_ms`` (0: at once,
        by a command of its own). Returns a handle of 16 bytes for :meth:`disarm`."""

    @abstractmethod
    def disarm(self, handle: bytes) -> None:
        """Forgets a timer; does nothing if it has fired."""

    @abstractmethod
    def later(self) -> bytes:
        """Says that this command is answered late; the method must then return ``(Code.PENDING, b"")``.
        Returns the waiter of 18 bytes (session number, slot, sequence), to be kept in a row and given to
        :meth:`answer` once. Waiters are compared as bytes; the first 8 are the session's number."""

    @abstractmethod
    def answer(self, waiter: bytes, result: Result) -> None:
        """Answers a command that waits; the revision is this command's. Nothing if its session ended."""

    @abstractmethod
    def hold(self) -> None:
        """Counts one more holding of the asking session here, so that :meth:`Machine.session_ended` is
        called when it ends."""

    @abstractmethod
    def unhold(self, session: int) -> None:
        """Counts one holding of ``session`` less."""

    @abstractmethod
    def emit(
        self, kind: int, key: bytes, value: bytes = b"", *, previous: bytes = b"", kept: bool = False
    ) -> bytes:
        """Appends an event to this partition's history, which those who watch it are told, and returns its
        mark of 10 bytes: this command's revision, and the event's number in it. ``kind`` is one of
        ``watch.EventKind`` or the machine's own; an empty ``key`` stands for all keys.

        ``kept``: the event's value outlives the history, so that a row which is read by keys holds the mark,
        and the value is stored once. It is dropped when :meth:`release` is called for it, or when a later
        event that named its mark as ``previous``, since it replaced the value, has left the history.
        """

    @abstractmethod
    def release(self, mark: bytes) -> None:
        """A kept event need be kept no longer than the history has it; for values that go without an event
        of their own. Not to be called for one that an event named as ``previous``."""


class CatalogContext(Context):
    """What the host offers to the catalog beyond what other machines get."""

    __slots__ = ()

    @property
    @abstractmethod
    def slot(self) -> SlotId:
        """The slot whose catalog this is."""

    @abstractmethod
    def group_names(self) -> Table:
        """In the group's own catalog, of all its slots, with keys like those of ``NAMES``: for listings."""

    @abstractmethod
    def type_name(self, type: int) -> str | None:
        """What machines of that type are called; None if there are none."""

    @abstractmethod
    def open(self, type: int, config: bytes) -> None:
        """Opens partition 0, in this slot, of the primitive that this command creates. Raises ValueError for
        an unknown type."""

    @abstractmethod
    def close(self, revision: Revision) -> None:
        """Deletes partition 0, in this slot, of the pinned primitive created at ``revision``."""

    @abstractmethod
    def delete(self, revision: Revision, partitions: int) -> None:
        """Has the group's leader delete the partitions of a spread primitive that was created in this slot at
        ``revision``, and each later leader, until :meth:`primitives.catalog.CatalogMachine.freed` is
        called."""


@mypyc_attr(allow_interpreted_subclasses=True)
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
