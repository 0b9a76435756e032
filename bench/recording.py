"""Handles that write down what they are asked and answer, in the format of ``bench.checker.record``.

What others do to the same objects must be written down, too, or be queries: so only objects with known names
are watched, those of :data:`RECORDED` workloads.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from inspect import iscoroutinefunction
from typing import Any, Final

from bench.checker.operations import KINDS
from bench.checker.record import Recorder
from primitives.errors import QuorateError, Retry
from primitives.handle import Handle, LeaseState, ReadLevel, Stale
from primitives.holding import Held
from primitives.records import Read

RECORDED: Final = frozenset({
    "counter", "register", "value", "set", "queue", "list", "lock", "reads", "watch", "conditions", "bounded",
})  # fmt: skip
"""Workloads whose every change is one that the format knows."""
_KINDS: Final = {
    "value": "register", "counter": "counter", "map": "map", "set": "set", "queue": "queue", "list": "list",
    "lock": "lock",
}  # fmt: skip
"""By the type of the handle, the kind of the object."""
_WHOLE: Final = frozenset({("map", "size"), ("map", "items"), ("map", "clear"), ("set", "size")})
"""Operations on all partitions, which take effect on one after the other."""
_LEVELS: Final = {
    Read.LINEARIZABLE: "linearizable", Read.SEQUENTIAL: "sequential", Read.STALE: "stale",
    Read.CAUSAL: "sequential",
}  # fmt: skip
"""A causal read is at least a sequential one."""
_ONE_OF_MANY: Final = {"add_all": "add", "discard_all": "remove"}
"""Operations of several elements that, with one, are those of one."""


def spoken(line: str) -> tuple[str, str] | None:
    """A history's line for people: who, and what was asked or answered; None for a line that is no call's."""
    event = json.loads(line)
    kind = event.get("type")
    if kind == "invoke":
        level = f" ({event['read']})" if event.get("read") else ""
        arguments = ", ".join(json.dumps(argument) for argument in event["args"])
        said = f"asks {event['kind']} {event['name']}: {event['op']}({arguments}){level}"
    elif kind == "ok":
        said = f"is answered {json.dumps(event.get('result'))}"
    elif kind in ("fail", "info"):
        said = f"{'fails' if kind == 'fail' else 'cannot know'}: {event.get('error')}"
    else:
        return None
    return event["process"], said


class Scribe:
    """Writes down the calls of one client. ``held`` is told of each grant: it is to say, by
    :meth:`Recorder.expire`, when the grant's lease is lost."""

    def __init__(
        self, recorder: Recorder, client: str, names: Iterable[str],
        held: Callable[[Held, str], None] = lambda grant, name: None,
    ) -> None:  # fmt: skip
        self.recorder: Final = recorder
        self.client: Final = client
        self._names: Final = frozenset(names)
        self._held: Final = held
        self._free: list[str] = []
        """Names of processes that have no call open."""
        self._made = 0

    def handle(self, handle: Handle) -> Any:
        """The handle, or one that stands for it and has its calls written down."""
        if handle.NAME not in _KINDS or handle.name.partition("/")[0] not in self._names:
            return handle
        return _Recorded(self, handle)

    async def call(
        self, kind: str, name: str, op: str, args: list[Any], made: Callable[[], Awaitable[Any]],
        read: ReadLevel | None = None,
    ) -> Any:  # fmt: skip
        """Makes a call and writes it down."""
        process = self._free.pop() if self._free else self._new()
        more: dict[str, Any] = {}
        if KINDS[kind][op].is_query:
            more = {"session": self.client, "read": _LEVELS[read.level] if read is not None else None}
            if isinstance(read, Stale):
                more["bound_ms"] = round(read.max_age * 1000)
        self.recorder.invoke(process, kind, name, op, args, **more)
        try:
            result = await made()
        except GeneratorExit:
            raise  # The caller is gone with its process: the call stays open.
        except BaseException as error:
            if _is_void(error):
                self.recorder.fail(process, _said(error))
                self._free.append(process)
            else:
                self.recorder.info(process, _said(error))
                self._free.append(self.recorder.fresh(process))
            raise
        self._free.append(process)
        if isinstance(result, Held):
            self.recorder.ok(process, result.token)
            self._held(result, name)
            return _RecordedGrant(self, result, kind, name)
        self.recorder.ok(process, bool(result) if op in ("add", "remove") and kind == "set" else result)
        return result

    def _new(self) -> str:
        self._made += 1
        return f"{self.client}.{self._made - 1}"


def _is_void(error: BaseException) -> bool:
    """Whether the call certainly took no effect: it was refused."""
    if isinstance(error, QuorateError):
        return error.retry is not Retry.AMBIGUOUS
    return isinstance(error, ValueError | TypeError | LookupError)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


class _Recorded:
    """Stands for a handle."""

    def __init__(self, scribe: Scribe, handle: Any) -> None:
        self._scribe = scribe
        self._handle = handle

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._handle, name)
        kind = _KINDS[self._handle.NAME]
        is_known = _ONE_OF_MANY.get(name, name) in KINDS[kind] and (kind, name) not in _WHOLE
        if not is_known or not iscoroutinefunction(found):
            return found

        def call(*args: Any, read: ReadLevel | None = None, **named: Any) -> Any:
            made = found if read is None else lambda *args, **named: found(*args, read=read, **named)
            op, told = name, [*args, *named.values()]
            if name in _ONE_OF_MANY:
                op, told = _ONE_OF_MANY[name], list(args[0])
            return self._scribe.call(kind, self._handle.name, op, told, lambda: made(*args, **named), read)

        return call

    def __aiter__(self) -> Any:
        return self._handle.__aiter__()


class _Unsure(Exception):
    """The call returned, and yet it is not known whether it took effect."""


class _RecordedGrant:
    """Stands for what is held."""

    def __init__(self, scribe: Scribe, grant: Held, kind: str, name: str) -> None:
        self._scribe = scribe
        self._grant = grant
        self._at = kind, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grant, name)

    async def release(self) -> bool:
        """Lets it go. False of a grant that was not lost when this began leaves open what ended it: the
        release, whose answer did not come, or the lease, which was lost meanwhile."""
        was_held = self._grant.state in (LeaseState.CONNECTED, LeaseState.SUSPENDED)

        async def made() -> bool:
            done = await self._grant.release()
            if was_held and not done:
                raise _Unsure("the lease was lost before the answer came")
            return done

        try:
            done: bool = await self._scribe.call(*self._at, "release", [self._grant.token], made)
        except _Unsure:
            return False
        return done
