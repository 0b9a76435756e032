"""A machine that does on command whatever a machine can do, for tests of the host."""

from __future__ import annotations

from typing import Any, ClassVar

from support_machine import LIMITS, Drive, Who

from primitives.applier import ApplierLimits
from primitives.errors import Code, InvariantViolation
from primitives.ids import PrimitiveId
from primitives.machine import OK, Context, Machine, Result, View

DATA = 0
WAITING = 1
FIRED = 2
"""What happened outside commands, in order: by a counter, revision and payload."""


MARKS = 3
"""Marks of kept events by their keys."""


class Op:
    """What the probe can be told."""

    PUT = 1
    """``[key, value, key, value, ...]``"""
    RAISE = 2
    """``[writes, kind]``: fails after that many writes and a bit of everything else."""
    WAIT = 3
    """Is answered late."""
    WAKE = 4
    """``[count]``: answers waiters in order."""
    ARM = 5
    """``[deadline, payload]``: answers the handle."""
    DISARM = 6
    """``[handle]``"""
    HOLD = 7
    """``[count]``"""
    WRITE = 8
    """``[rows]``"""
    GET = 9
    """``[key]``, a query."""
    SCAN = 10
    """``[start, end, reverse]``, a query."""
    ALIVE = 11
    """``[session]``, a query."""
    RESULT = 12
    """Whatever ``results`` holds under ``[name]``, after a write."""
    SWALLOW = 13
    """Reads ``[key]`` and catches whatever comes of it."""
    EVENTS = 14
    """A query: what is in ``FIRED``."""
    LATE_RAISE = 15
    """Waits, and fails all the same."""
    EMIT = 16
    """``[key, kept]``, body: the value: an event that replaces the key's last one, if that was kept."""
    RELEASE = 17
    """``[key]``: the key's event need not be kept."""
    MARKED = 18
    """``[key]``, a query: the value of the key's kept event."""


class Probe(Machine):
    """See :class:`Op`."""

    TYPE: ClassVar[int] = 200
    NAME: ClassVar[str] = "probe"
    slices: ClassVar[int] = 1
    """How many calls the end of a session takes."""
    results: ClassVar[dict[str, Any]] = {
        "refused": (Code.OVERFLOW, b"no"), "condition": (Code.CONDITION, b"no"), "none": None,
        "text": (0, "text"), "code": (999, b""), "pending": (Code.PENDING, b""), "three": (0, b"", 1),
        "long": (0, b"long" * 20),
    }  # fmt: skip

    def opened(self, ctx: Context) -> None:
        """Leaves a row."""
        ctx.table(DATA).put(b"opened", b"%d" % ctx.partition)
        if ctx.config == b"raise":
            raise ValueError

    def apply(self, ctx: Context, op: int, args: list[Any], body: bytes) -> Result:
        """Does what ``op`` says."""
        data = ctx.table(DATA)
        if op == Op.PUT:
            for at in range(0, len(args), 2):
                data.put(args[at], args[at + 1])
        elif op in (Op.RAISE, Op.LATE_RAISE):
            _fail(ctx, op, *args)
        elif op == Op.WAIT:
            waiter = ctx.later()
            ctx.table(WAITING).put(b"%020d" % ctx.revision, waiter)
            ctx.hold()
            return Code.PENDING, b""
        elif op == Op.WAKE:
            for key, waiter in list(ctx.table(WAITING).scan())[: args[0]]:
                ctx.table(WAITING).delete(key)
                ctx.answer(waiter, (Code.OK, b"woken"))
        elif op == Op.ARM:
            return Code.OK, ctx.arm(*args)
        elif op == Op.DISARM:
            ctx.disarm(args[0])
        elif op == Op.HOLD:
            for _ in range(args[0]):
                ctx.hold()
        elif op == Op.WRITE:
            for at in range(args[0]):
                data.put(b"%08d" % at, b"x")
        elif op == Op.EMIT:
            _emit(ctx, args[0], body, kept=args[1])
        elif op == Op.RELEASE:
            mark = ctx.table(MARKS).get(args[0])
            if mark is not None:
                ctx.table(MARKS).delete(args[0])
                ctx.release(mark)
        elif op == Op.RESULT:
            data.put(b"result", b"written")
            result: Result = self.results[args[0]]
            return result
        elif op == Op.SWALLOW:
            try:
                data.get(args[0])
            except Exception:
                return OK
        else:
            return Code.BAD_REQUEST, b"unknown"
        return OK

    def query(self, view: View, op: int, args: list[Any], body: bytes) -> Result:
        """Answers what ``op`` says."""
        if op == Op.GET:
            row = view.view(DATA).get(args[0])
            return (Code.CONDITION, b"") if row is None else (Code.OK, row)
        if op == Op.SCAN:
            rows = view.view(DATA).scan(args[0], args[1], reverse=args[2])
            return Code.OK, b",".join(b"=".join(row) for row in rows)
        if op == Op.ALIVE:
            return Code.OK, b"yes" if view.alive(args[0]) else b"no"
        if op == Op.EVENTS:
            return Code.OK, b",".join(row for _, row in view.view(FIRED).scan())
        if op == Op.MARKED:
            mark = view.view(MARKS).get(args[0])
            value = None if mark is None else view.event(mark)
            return (Code.CONDITION, b"") if value is None else (Code.OK, value)
        if op == Op.EMIT:
            view.emit(16, b"query")  # type: ignore[attr-defined]  # another that cheats
            return OK
        if op == Op.PUT:
            view.view(DATA).put(b"query", b"wrote")  # type: ignore[attr-defined]  # a query that cheats
            return OK
        raise ValueError("no such query")

    def timer(self, ctx: Context, payload: bytes) -> None:
        """Notes it. ``again`` arms another that is due at once, ``raise`` fails, ``wake`` answers one."""
        _note(ctx, payload)
        if payload == b"again":
            ctx.arm(0, b"second")
        elif payload == b"raise":
            raise ValueError
        elif payload.startswith(b"disarm"):
            ctx.disarm(payload[6:])
        elif payload == b"wake":
            self.apply(ctx, Op.WAKE, [1], b"")

    def session_ended(self, ctx: Context, session: int) -> bool:
        """Notes it, ``slices`` times, and drops who waits."""
        _note(ctx, b"ended")
        ctx.emit(16, b"ended", b"%d" % session)
        for key, waiter in list(ctx.table(WAITING).scan()):
            if int.from_bytes(waiter[:8], "big") == session:
                ctx.table(WAITING).delete(key)
                ctx.answer(waiter, (Code.OK, b"to nobody"))
        key = b"slices%d" % session
        done = int(ctx.table(DATA).get(key) or b"0") + 1
        ctx.table(DATA).put(key, b"%d" % done)
        return done >= self.slices

    def withdraw(self, ctx: Context, waiter: bytes, granted: bytes | None) -> Result:
        """Removes the waiter, or notes the grant that came back."""
        if granted is not None:
            _note(ctx, b"back:" + granted)
        for key, row in list(ctx.table(WAITING).scan()):
            if row == waiter:
                ctx.table(WAITING).delete(key)
        return OK


def _note(ctx: Context, payload: bytes) -> None:
    events = ctx.table(FIRED)
    count = sum(1 for _ in events.scan())
    events.put(b"%08d" % count, payload)


def _emit(ctx: Context, key: bytes, value: bytes, *, kept: bool) -> None:
    marks = ctx.table(MARKS)
    mark = ctx.emit(16, key, value, previous=marks.get(key) or b"", kept=kept)
    if kept:
        marks.put(key, mark)
    else:
        marks.delete(key)


def _fail(ctx: Context, op: int, writes: int, kind: str) -> None:
    """A bit of everything, then an error."""
    if op == Op.LATE_RAISE:
        ctx.later()
    for _, waiter in list(ctx.table(WAITING).scan())[:1]:
        ctx.answer(waiter, OK)
    ctx.arm(0, b"never")
    ctx.hold()
    _emit(ctx, b"k0", b"never", kept=True)
    for at in range(writes):
        if at % 2:
            ctx.table(DATA).put(b"a%d" % at, b"half")
        else:
            ctx.table(DATA).delete(b"a%d" % at)
    raise {"value": ValueError, "memory": MemoryError, "recursion": RecursionError,
           "invariant": InvariantViolation}[kind]  # fmt: skip


def probed(machine: Probe | None = None, limits: ApplierLimits = LIMITS) -> tuple[Drive, Who, PrimitiveId]:
    """A group with a session and a probe that it created."""
    group = Drive({Probe.TYPE: machine or Probe()}, limits=limits)
    who = group.session()
    return group, who, group.create(who, "probe", Probe.TYPE)


def events(group: Drive, probe: PrimitiveId) -> list[bytes]:
    """What the probe noted outside commands."""
    result = group.query(probe, Op.EVENTS, type=Probe.TYPE).result
    return result.split(b",") if result else []


def code_of(group: Drive, who: Who, probe: PrimitiveId, op: int, args: list[Any] | None = None) -> int:
    """The code of a command's answer."""
    answer = group.command(who, probe, op, args, type=Probe.TYPE)
    assert answer is not None
    return answer.code


def data_of(group: Drive, probe: PrimitiveId) -> bytes:
    """The probe's rows."""
    return group.query(probe, Op.SCAN, [b"", None, False], type=Probe.TYPE).result
