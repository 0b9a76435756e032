"""How far a long computation has come, on standard error: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

EVERY_S: Final = 10.0
"""Between lines, where there is no terminal."""


class Progress:
    """Steps of a known or unknown number. ``what`` they are. ``guesses``: on a terminal, tells how long the
    rest takes, if all steps take as long as those before."""

    def __init__(self, what: str, total: int | None = None, *, guesses: bool = True) -> None:
        self._what: Final = what
        self._total: Final = total
        self._done = 0
        self._began = self._told = time.monotonic()
        self._console: Final = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
        self._bar: Bar | None = None
        self._task = TaskID(0)
        if sys.stderr.isatty():
            remaining = (TimeRemainingColumn(),) if guesses else ()
            columns = (
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *remaining,
                TextColumn("{task.fields[more]}"),
            )  # fmt: skip
            self._bar = Bar(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task(what, total=total, more="")

    @property
    def seconds(self) -> float:
        """Since the beginning; never quite 0."""
        return max(time.monotonic() - self._began, 1e-6)

    def an_hour(self, count: int) -> int:
        """``count`` since the beginning, as a rate."""
        return round(count * 3600 / self.seconds)

    def advance(self, more: str = "") -> None:
        """One step more; ``more`` is shown with it."""
        self._done += 1
        self._show(more, 1)

    def doing(self, more: str) -> None:
        """What the step that is under way does."""
        self._show(more, 0)

    def _show(self, more: str, steps: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, advance=steps, more=more)
        elif time.monotonic() - self._told >= EVERY_S:
            self._told = time.monotonic()
            of = f"{self._done}" if self._total is None else f"{self._done} of {self._total}"
            sys.stderr.write(f"{of} {self._what}, {more}\n")
            sys.stderr.flush()

    def say(self, text: str) -> None:
        """Tells something beside it."""
        self._console.print(text)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
