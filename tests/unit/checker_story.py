"""Histories written by hand: one line for each beginning and each end."""

from __future__ import annotations

import json
from typing import Any

from bench.checker.check import Verdict, check
from bench.checker.record import History, Recorder, parse

UNKNOWN = "unknown outcome"


class Story:
    """Calls on objects, one after the other unless they are begun and ended apart."""

    def __init__(self, kind: str, name: str = "x") -> None:
        self.kind = kind
        self.name = name
        self.lines: list[str] = []
        self.now_us = 0
        self.recorder = Recorder(self.lines.append, self._tick)

    def _tick(self) -> int:
        self.now_us += 1000
        return self.now_us

    def begin(self, process: str, op: str, *args: Any, read: str | None = None, **extra: Any) -> None:
        """A call begins."""
        self.recorder.invoke(process, extra.pop("kind", self.kind), self.name, op, args, read=read, **extra)

    def end(self, process: str, result: Any = None, position: int | None = None) -> None:
        """It ends, or its outcome stays unknown."""
        if result is UNKNOWN:
            self.recorder.info(process, "time limit")
        else:
            self.recorder.ok(process, result, position=position)

    def call(self, process: str, op: str, *args: Any, gives: Any = None, **more: Any) -> None:
        """A call that nothing comes between."""
        self.begin(process, op, *args, **more)
        self.end(process, gives)

    def history(self) -> History:
        """What was recorded, read back."""
        return parse(self.lines)

    def verdict(self, **bounds: Any) -> Verdict:
        """What the checker says."""
        return check(self.history(), **bounds)

    def reason(self) -> str:
        """What is wrong; empty if nothing is."""
        worst = self.verdict().worst()
        return "" if worst is None else worst.reason

    def blamed(self) -> str:
        """The call that fits nowhere, as its operation and result; empty if there is none."""
        worst = self.verdict().worst()
        if worst is None or worst.blocked is None:
            return ""
        return f"{worst.blocked.op} {json.dumps(worst.blocked.result)}"
