"""Histories: what each process called, when, and what it was told; written as it happens, read for judging.

The format is in ``docs/histories.md``. Nothing here has a clock or does input or output of its own.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final, NoReturn, TypeGuard

from bench.checker.operations import READS, fault

FORMAT: Final = "quorate-history"
VERSION: Final = 1
LINE_BYTES_MAX: Final = 8 << 20
ENDS: Final = ("ok", "fail", "info")


class HistoryFormatError(ValueError):
    """A line of a history is not what the format says."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line: Final = line
        """From 1."""
        self.reason: Final = reason


class Call:
    """One call of a process: from its line ``invoke`` to the line that ended it."""

    __slots__ = (
        "args", "end_line", "end_us", "error", "extra", "kind", "line", "name", "op", "outcome", "position",
        "process", "read", "result", "start_us",
    )  # fmt: skip

    def __init__(
        self, process: str, start_us: int, kind: str, name: str, op: str, args: list[Any],
        read: str = READS[0], extra: Mapping[str, Any] | None = None, line: int = 0,
    ) -> None:  # fmt: skip
        self.process: Final = process
        self.start_us: Final = start_us
        self.kind: Final = kind
        self.name: Final = name
        self.op: Final = op
        self.args: Final = args
        self.read: Final = read
        self.extra: Final = dict(extra or {})
        """Fields that only some calls have: ``session``, ``bound_ms``, ``after``; ``watch``, ``key``,
        ``pinned``."""
        self.line: Final = line
        """Where it began; from 1, and where lines are compared, what is further down came later."""
        self.end_line: int | None = None
        self.end_us: int | None = None
        """None: it is open to the end of the history, or its outcome is unknown."""
        self.outcome = "open"
        """``ok``; ``fail``: it certainly took no effect; ``info`` or ``open``: nobody knows."""
        self.result: Any = None
        self.error: str | None = None
        self.position: int | None = None

    @property
    def is_unknown(self) -> bool:
        """It may take effect at any later time, or never."""
        return self.outcome in ("info", "open")

    def __repr__(self) -> str:
        args = ", ".join(json.dumps(to_plain(arg), ensure_ascii=False) for arg in self.args)
        told = {"ok": json.dumps(to_plain(self.result), ensure_ascii=False), "fail": "failed"}
        return f"{self.process}: {self.op}({args}) → {told.get(self.outcome, '?')}"


class History:
    """Calls in the order in which they began."""

    __slots__ = ("calls", "metadata")

    def __init__(self, metadata: Mapping[str, Any], calls: list[Call]) -> None:
        self.metadata: Final = dict(metadata)
        self.calls: Final = calls


class Recorder:
    """Writes a history line by line, each given to ``write`` with its newline; ``now_us`` is true time.

    Raises ValueError for what no reader would take: an unknown operation, a call of a process that has one
    open or whose last outcome is unknown, an end without a call.
    """

    __slots__ = ("_ended", "_last_us", "_lives", "_now_us", "_open", "_write")

    def __init__(self, write: Callable[[str], object], now_us: Callable[[], int], **metadata: Any) -> None:
        self._write: Final = write
        self._now_us: Final = now_us
        self._open: Final[set[str]] = set()
        self._ended: Final[set[str]] = set()
        self._lives: Final[dict[str, int]] = {}
        self._last_us = 0
        self._line({"format": FORMAT, "version": VERSION, **metadata})

    def invoke(
        self, process: str, kind: str, name: str, op: str, args: Iterable[Any] = (), *,
        read: str | None = None, **extra: Any,
    ) -> None:  # fmt: skip
        """The process is about to make a call."""
        given = list(args)
        wrong = fault(kind, op, given, read) or self._wrong(process)
        if wrong is not None:
            raise ValueError(wrong)
        self._open.add(process)
        call = {"kind": kind, "name": name, "op": op, "args": given, **extra}
        self._event("invoke", process, call if read is None else {**call, "read": read})

    def ok(self, process: str, result: Any = None, *, position: int | None = None) -> None:
        """The call gave ``result``; ``position``: the revision at which it took effect, or that it read."""
        told = {"result": result}
        self._end("ok", process, told if position is None else {**told, "position": position})

    def fail(self, process: str, error: object) -> None:
        """The call certainly took no effect, and never will."""
        self._end("fail", process, {"error": str(error)})

    def info(self, process: str, error: object) -> None:
        """Nobody knows whether the call took effect, or will. The process makes no further call."""
        self._end("info", process, {"error": str(error)})
        self._ended.add(process)

    def expire(self, kind: str, name: str, token: int) -> None:
        """What is held under ``token`` may be lost from now on, at any time: its lease was not kept."""
        process = self.fresh(f"lease {name} {token}")
        self.invoke(process, kind, name, "expire", [token])

    def fresh(self, process: str) -> str:
        """The name under which the caller goes on after an unknown outcome: ``c1.0`` → ``c1.0#2`` → …"""
        stem = process.partition("#")[0]
        life = self._lives[stem] = self._lives.get(stem, 1) + 1
        return f"{stem}#{life}"

    def _wrong(self, process: str) -> str | None:
        if process in self._open:
            return f"process {process!r} has a call open"
        if process in self._ended:
            return f"the last outcome of process {process!r} is unknown: it goes on under a fresh name"
        return None

    def _end(self, type: str, process: str, fields: dict[str, Any]) -> None:
        if process not in self._open:
            raise ValueError(f"process {process!r} has no call open")
        self._open.discard(process)
        self._event(type, process, fields)

    def _event(self, type: str, process: str, fields: dict[str, Any]) -> None:
        now_us = self._now_us()
        if now_us < self._last_us:
            raise ValueError(f"time went back from {self._last_us} to {now_us}")
        self._last_us = now_us
        self._line({"type": type, "process": process, "time_us": now_us, **fields})

    def _line(self, event: dict[str, Any]) -> None:
        self._write(json.dumps(to_plain(event), ensure_ascii=False, separators=(",", ":")) + "\n")


def to_plain(value: Any) -> Any:
    """``value`` as JSON has it: bytes as ``{"b64": …}``, records as objects, sequences as arrays."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return {"b64": b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {str(key): to_plain(content) for key, content in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "_asdict"):
        return to_plain(value._asdict())
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(part) for part in value]
    return str(value)


def from_plain(value: Any) -> Any:
    """The inverse of :func:`to_plain`, as far as there is one: ``{"b64": …}`` are bytes again. Raises
    ValueError."""
    if isinstance(value, list):
        return [from_plain(part) for part in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"b64"} and isinstance(value["b64"], str):
        try:
            return b64decode(value["b64"], validate=True)
        except Base64Error as error:
            raise ValueError("what stands under 'b64' is not base64") from error
    return {key: from_plain(part) for key, part in value.items()}


def parse(lines: Iterable[str | bytes]) -> History:
    """The history that the lines hold. Raises HistoryFormatError for the first line that is wrong."""
    reader = _Reader()
    for number, line in enumerate(lines, 1):
        reader.take(number, line)
    if not reader.number:
        reader.wrong("the history is empty: its first line says format and version")
    return History(reader.metadata, reader.calls)


class _Reader:
    """What has been read so far."""

    def __init__(self) -> None:
        self.number = 0
        self.metadata: dict[str, Any] = {}
        self.calls: list[Call] = []
        self._open: dict[str, Call] = {}
        self._ended: dict[str, int] = {}
        self._last_us = 0

    def wrong(self, reason: str) -> NoReturn:
        raise HistoryFormatError(max(self.number, 1), reason)

    def take(self, number: int, line: str | bytes) -> None:
        self.number = number
        event = self._object(line)
        if number == 1:
            self._header(event)
            return
        type, process = self._text(event, "type"), self._text(event, "process")
        time_us = event.get("time_us")
        if not _is_whole(time_us):
            self.wrong("time_us is to be a whole number of microseconds, not below 0")
        if time_us < self._last_us:
            self.wrong(f"time goes back, from {self._last_us} to {time_us}")
        self._last_us = time_us
        if type == "invoke":
            self._invoke(process, time_us, event)
        elif type in ENDS:
            self._end(type, process, time_us, event)
        else:
            self.wrong(f"unknown type {type!r}: one of invoke, {', '.join(ENDS)}")

    def _object(self, line: str | bytes) -> dict[str, Any]:
        if len(line) > LINE_BYTES_MAX:
            self.wrong(f"a line of {len(line)} bytes; at most {LINE_BYTES_MAX} are read")
        try:
            event = from_plain(json.loads(line, parse_constant=self._constant))
        except UnicodeDecodeError:
            self.wrong("not UTF-8")
        except HistoryFormatError:
            raise
        except RecursionError:
            self.wrong("nested too deep")
        except json.JSONDecodeError as error:
            self.wrong(f"not JSON: {error.msg} at column {error.colno}")
        except ValueError as error:
            self.wrong(str(error))
        if not isinstance(event, dict):
            self.wrong("not a JSON object")
        return event

    def _constant(self, name: str) -> NoReturn:
        self.wrong(f"not JSON: {name} is no number")

    def _header(self, event: dict[str, Any]) -> None:
        if event.get("format") != FORMAT:
            self.wrong(f'not a history: the first line is to have "format": "{FORMAT}"')
        if "version" not in event:
            self.wrong(f"'version' is missing; this program reads version {VERSION}")
        if event["version"] != VERSION or isinstance(event["version"], bool):
            self.wrong(f"a history of version {event.get('version')!r}; this program reads version {VERSION}")
        self.metadata = event

    def _text(self, event: dict[str, Any], field: str) -> str:
        value = event.get(field)
        if not isinstance(value, str) or (not value and field != "name"):
            self.wrong(f"{field!r} is missing" if field not in event else f"{field!r} is to be a text")
        return value

    def _invoke(self, process: str, time_us: int, event: dict[str, Any]) -> None:
        if process in self._open:
            self.wrong(f"process {process!r} has a call open since line {self._open[process].line}")
        if process in self._ended:
            self.wrong(
                f"process {process!r} goes on though the outcome of its last call is unknown"
                f" (line {self._ended[process]}): the caller needs a new name"
            )
        kind, name, op = (self._text(event, field) for field in ("kind", "name", "op"))
        args = event.get("args", [])
        if not isinstance(args, list):
            self.wrong("'args' is to be an array")
        read = event.get("read")
        wrong = fault(kind, op, args, read)
        if wrong is not None:
            self.wrong(wrong)
        extra = {field: value for field, value in event.items() if field not in _INVOKE_FIELDS}
        self._check_extra(read, extra)
        call = Call(process, time_us, kind, name, op, args, read or READS[0], extra, self.number)
        self._open[process] = call
        self.calls.append(call)

    def _check_extra(self, read: str | None, extra: dict[str, Any]) -> None:
        for field in ("bound_ms", "after"):
            if field in extra and not _is_whole(extra[field]):
                self.wrong(f"{field!r} is to be a whole number, not below 0")
        for field in ("session", "watch"):
            if not isinstance(extra.get(field, ""), str):
                self.wrong(f"{field!r} is to be a text")
        if not isinstance(extra.get("pinned", False), bool):
            self.wrong("'pinned' is to be true or false")
        if read == "stale" and "bound_ms" not in extra:
            self.wrong("a stale read says its bound, 'bound_ms'")

    def _end(self, type: str, process: str, time_us: int, event: dict[str, Any]) -> None:
        call = self._open.pop(process, None)
        if call is None:
            self.wrong(f"process {process!r} has no call open that could end")
        position = event.get("position")
        if position is not None and not _is_whole(position):
            self.wrong("'position' is to be a whole number, not below 0")
        call.outcome = type
        call.end_line = self.number
        call.result = event.get("result")
        call.position = position
        error = event.get("error")
        call.error = None if error is None else str(error)
        if type == "info":
            self._ended[process] = self.number
        else:
            call.end_us = time_us


_INVOKE_FIELDS: Final = frozenset({"type", "process", "time_us", "kind", "name", "op", "args", "read"})


def _is_whole(value: object) -> TypeGuard[int]:
    return type(value) is int and value >= 0
