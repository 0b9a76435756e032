"""Errors that users see, and the codes by which a group answers.

Three families, kept apart: an :class:`InvariantViolation` is our own mistake and stops the node;
an expected outcome (a condition not met, a key not found) is a value, never an exception; an
operational error derives from :class:`QuorateError` and says through ``retry`` what a caller may do.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Final


class InvariantViolation(BaseException):
    """Something that must hold does not. Never caught: the node stops before it does harm."""


class Retry(StrEnum):
    """What repeating a failed call may do."""

    SAFE = "safe"
    """It took no effect: repeat it."""
    AMBIGUOUS = "ambiguous"
    """It may have taken effect: repeat it only if twice does no harm."""
    NEVER = "never"
    """Repeating it unchanged cannot succeed."""


class QuorateError(Exception):
    """The base of every operational error. ``retry`` says what repeating the call may do."""

    retry: ClassVar[Retry] = Retry.NEVER


class Unavailable(QuorateError):
    """No quorum, or no node, could be reached; the call took no effect."""

    retry = Retry.SAFE


class OutcomeUnknown(QuorateError):
    """The call may have taken effect: its answer was lost with the session's lease or the connection."""

    retry = Retry.AMBIGUOUS


class SessionLost(QuorateError):
    """The lease with the group ended: what was held there is no longer held."""

    retry = Retry.AMBIGUOUS


class SessionClosing(QuorateError):
    """Somebody is ending the client's session: nothing is granted to it any more. The call took no effect;
    repeat it when the lease is lost, under which the client has another session."""

    retry = Retry.SAFE


class TypeMismatch(QuorateError):
    """The name exists as another type of primitive."""


class ConfigMismatch(QuorateError):
    """The name exists with another configuration than the one asked for."""


class Compacted(QuorateError):
    """The position is no longer in the history; list anew and go on from there."""


class BadPosition(QuorateError):
    """The position is of another cluster or primitive, or is no position at all; begin anew without one."""


class Deleted(QuorateError):
    """The primitive that was watched, or that a position is of, was deleted; watch the name anew to wait for
    its next creation."""


class WatchOverflow(QuorateError):
    """The consumer was too slow for its bounded buffer; resume from the last position seen."""


class Overloaded(QuorateError):
    """A queue or a cap is full; the call took no effect. Wait, then repeat."""

    retry = Retry.SAFE


class TooLarge(QuorateError):
    """A name, key, value or command is over its limit."""


class PermissionDenied(QuorateError):
    """The identity may not do this."""


class ProtocolError(QuorateError):
    """The other end sent what the protocol does not allow, or speaks another version."""


class OverflowRefused(QuorateError):
    """A 64-bit counter would leave its range; it keeps its value."""


class Code:
    """Answer codes on the wire and in stored answers. Never renumber: they are in logs."""

    OK: Final = 0
    CONDITION: Final = 1
    """The condition did not hold; nothing changed. A value for the caller, no error."""
    PENDING: Final = 2
    """Not an answer yet: it will come late, under the same number."""
    BURST: Final = 3
    """The answers of a burst's commands, one after the other; see ``records.Burst``."""
    RUN: Final = 4
    """The answers of a burst's commands, each of which is OK and no more; see there."""

    # Definite refusals by the group, judged in apply or when served.
    SESSION_LOST: Final = 16
    OUT_OF_ORDER: Final = 17
    """An earlier number of this (session, slot) has not been applied; send from there again."""
    FORGOTTEN: Final = 18
    """The answer was acknowledged before, so it is no longer stored. A client's own mistake."""
    ANSWERS_FULL: Final = 19
    UNKNOWN_PRIMITIVE: Final = 20
    """No primitive of that id here, or no longer; resolve the name again."""
    TYPE_MISMATCH: Final = 21
    CONFIG_MISMATCH: Final = 22
    TOO_LARGE: Final = 23
    BAD_REQUEST: Final = 24
    """The arguments are not of the operation's form; the result is a text."""
    OVERFLOW: Final = 25
    OVERLOADED: Final = 26
    REGISTRATION_OLD: Final = 27
    """A registration with a lower count than one already made."""
    MACHINE_FAILED: Final = 28
    WITHDRAWN: Final = 29
    DENIED: Final = 30
    COMPACTED: Final = 31
    SESSION_CLOSING: Final = 32
    """The session's lease is renewed no more: it is granted nothing that it would hold."""

    # From the node, before anything was logged or when its fate is unknown.
    NOT_LEADER: Final = 64
    """Nothing was logged; the result is the leader's node id as 4 bytes, or empty."""
    WRONG_SLOT: Final = 65
    """The group does not own the slot at that epoch, or is not on this node: a newer map will tell."""
    LOST: Final = 66
    """Leadership went before the command was applied: it may or may not be in the log."""
    UNAVAILABLE: Final = 67
    """Nothing was logged: no leader, no connection to it, or the node is stopping."""


ERRORS: Final[dict[int, type[QuorateError]]] = {
    Code.SESSION_LOST: SessionLost,
    Code.ANSWERS_FULL: Overloaded,
    Code.TYPE_MISMATCH: TypeMismatch,
    Code.CONFIG_MISMATCH: ConfigMismatch,
    Code.TOO_LARGE: TooLarge,
    Code.BAD_REQUEST: ProtocolError,
    Code.OVERFLOW: OverflowRefused,
    Code.OVERLOADED: Overloaded,
    Code.MACHINE_FAILED: QuorateError,
    Code.DENIED: PermissionDenied,
    Code.COMPACTED: Compacted,
    Code.SESSION_CLOSING: SessionClosing,
    Code.UNAVAILABLE: Unavailable,
    Code.FORGOTTEN: ProtocolError,
}
"""The exception that a caller gets for a code; its text is the answer's result, decoded as UTF-8."""
