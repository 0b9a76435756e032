"""A call under way: what was asked, where it stands, what came of it."""

from __future__ import annotations

from typing import Any, Final

from primitives.errors import ERRORS, Code, QuorateError, SessionLost
from primitives.handle import Reference
from primitives.ids import CATALOG_ID, PrimitiveId, SlotId
from primitives.position import Position
from primitives.records import (
    COMMAND_HEADER,
    Answer,
    Read,
    SessionOp,
    Type,
    join_burst,
    join_command,
    join_query,
)

RECORD_OVERHEAD_BYTES: Final = COMMAND_HEADER.size + 16
"""About what a request takes beside its arguments and its body."""
NO_ARGUMENTS: Final = b"\x80"
"""The envelope of no arguments."""


class CallKind:
    """What a call is on the wire."""

    COMMAND: Final = 1
    QUERY: Final = 2
    REGISTER: Final = 3
    END_SESSION: Final = 4
    RESOLVE: Final = 5
    """Asks only what a name means; it is answered by the catalog's answer to another call."""
    STATUS: Final = 6
    """Asks any node for its status."""


class Call:
    """One call. Owned by the session core until it is finished; then ``answer`` or ``error`` is set.

    ``answer`` stays None, without an error, for a query or a resolution of a name that means nothing.
    """

    __slots__ = (
        "answer", "answered", "args", "begun_ms", "body", "bound", "burst", "called_off", "carry_on",
        "create", "done", "entry", "error", "floor", "group", "is_alone", "key", "kind", "late", "link",
        "name", "number", "op", "order", "partition", "position", "primitive", "queue", "read", "ref",
        "request", "resolutions", "sends", "sequence", "size", "slot", "token", "type", "watch", "withdrawal",
        "withdraws",
    )  # fmt: skip

    def __init__(self, kind: int, type: int, op: int, args: bytes, body: bytes) -> None:
        self.kind: Final = kind
        self.type: Final = type
        self.op: Final = op
        self.args: Final = args
        """The arguments' envelope, encoded once."""
        self.body: Final = body
        self.size: Final = len(args) + len(body) + RECORD_OVERHEAD_BYTES
        self.slot = SlotId(0)
        self.primitive: PrimitiveId = CATALOG_ID
        self.partition = 0
        self.key: bytes | None = None
        self.late = False
        """The answer may take its time: a grant."""
        self.carry_on = False
        """Is completed even if its caller gives up."""
        self.create = False
        """Creates the primitive if it does not exist."""
        self.read: int = Read.LINEARIZABLE
        """Of a query: how new its answer must be. Any level but this one may be answered by any replica."""
        self.position: Position | None = None
        """Of a causal query: what it must hold."""
        self.bound = 0
        """Of a causal query: the revision that it must hold; of a stale one: its age in ms, at most."""
        self.floor = 0
        """Of a query to a replica: the revision that an answer to its last request must hold."""
        self.begun_ms = 0
        """Of a query to a replica: since when it waits for one."""
        self.ref: Reference | None = None
        self.name: tuple[str, str] | None = None
        """Namespace and name, of a call to the catalog that a user wants; such a call has no ``ref``."""
        self.entry: Any = None
        """The name that this call finds out about, if it asks the catalog on the core's own account."""
        self.token: Any = None
        """The driver's own: who waits."""
        self.watch: Any = None
        """The watch whose name this call finds out about, if it is the core's own."""
        self.group = -1
        """Where the call was routed to, below 0 before that."""
        self.link: Any = None
        """The link that carries its request now."""
        self.request = 0
        """Its request's id on that link. Answers to earlier requests of the call are ignored."""
        self.number = 0
        """The session's number in the group that the command was sent under."""
        self.sequence = 0
        self.sends = 0
        self.resolutions = 0
        self.order = 0
        """Grows with each call on a name; of a question to the catalog, the last call that it speaks for."""
        self.queue: Any = None
        """The queue that the call waits in."""
        self.answered = False
        """Of a command: whether its number has its answer."""
        self.burst = 1
        """How many calls went out in the record that it was the first of."""
        self.is_alone = False
        """Shares no record with others, any more."""
        self.called_off = False
        """Nobody wants the answer any more; until then the number is kept up by a no-op."""
        self.withdraws: Call | None = None
        """The late call that this command withdraws."""
        self.withdrawal: Call | None = None
        """The command that withdraws this late call."""
        self.done = False
        self.answer: Answer | None = None
        self.error: Exception | None = None

    def finish(self, answer: Answer | None, error: Exception | None = None) -> None:
        """Settles the call, once."""
        self.done = True
        self.answer = answer
        self.error = error

    def reset(self) -> None:
        """The call begins anew: it had an answer that says it took no effect."""
        self.done = self.answered = False
        self.answer = self.error = None
        self.sends = self.sequence = 0
        self.group = -1

    def command_record(self, head: bytes, acknowledged: int, exceptions: tuple[int, ...]) -> bytes:
        """The command's record under its number; a no-op of that number if it was called off. ``head`` is of
        :func:`records.command_head`."""
        type_, op, args, body = self.type, self.op, self.args, self.body
        if self.called_off:
            type_, op, args, body = Type.SESSION, SessionOp.NOOP, NO_ARGUMENTS, b""
        return join_command(
            head, self.sequence, acknowledged, self.primitive, self.partition, type_, op, exceptions, args,
            body,
        )  # fmt: skip

    def burst_record(
        self, head: bytes, calls: list[Call], acknowledged: int, exceptions: tuple[int, ...]
    ) -> bytes:
        """The record of ``calls``, of which this is the first."""
        return join_burst(
            head, self.sequence, acknowledged, self.primitive, self.partition, self.type, self.op, exceptions,
            [call.args for call in calls], [call.body for call in calls],
        )  # fmt: skip

    def may_follow(self, call: Call) -> bool:
        """Whether it may stand behind ``call`` in one record, if its number does."""
        return not self.late and not self.called_off and not self.is_alone and self.op == call.op and (
            self.primitive == call.primitive and self.partition == call.partition and self.type == call.type
        )

    def query_record(self, epoch: int, bound: int = 0) -> bytes:
        """The query's record at its level."""
        return join_query(
            self.slot, epoch, self.primitive, self.partition, self.type, self.op, self.read, bound,
            self.args, self.body,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<call {self.kind} of {self.type}.{self.op}, group {self.group}, {self.sequence}>"

_TEXTS: Final = {
    Code.SESSION_LOST: "the session's lease with the group ended; whether the call took effect is unknown",
    Code.TYPE_MISMATCH: "the name exists as another type of primitive",
    Code.CONFIG_MISMATCH: "the name exists with another configuration",
    Code.OVERFLOW: "the number would leave the range of 64 bits",
    Code.OVERLOADED: "the group is overloaded",
    Code.FORGOTTEN: "the answer was acknowledged before",
    Code.DENIED: "not permitted",
    Code.WITHDRAWN: "the call was withdrawn",
}


def error_of(answer: Answer) -> Exception:
    """The exception for an answer's code; its text is the group's, if it gave one."""
    kind = ERRORS.get(answer.code, QuorateError)
    text = answer.result.decode(errors="replace")
    return kind(text or _TEXTS.get(answer.code, f"refused with code {answer.code}"))


def session_lost() -> SessionLost:
    """The error of a call whose session's lease with its group ended."""
    return SessionLost(_TEXTS[Code.SESSION_LOST])
