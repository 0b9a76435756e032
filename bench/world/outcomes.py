"""Runs of seeds as outcomes: what happened, how often, and what did not hold; one after the other or in
several processes.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from bench.checker.check import VIOLATION, check
from bench.checker.record import parse
from bench.histories import HistoryViolation
from bench.world.nemesis import Plan
from bench.world.run import VIOLATIONS, World
from bench.world.setting import Setting

SEARCH_S: Final = 0.5
SEARCH_MB: Final = 512.0
"""What the search in one history may take; beyond it a part stays undecided, and is counted as that."""
AHEAD: Final = 3
"""Seeds given to each process beforehand."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of one seed."""

    number: int
    setting: Setting
    plan: Plan
    digest: str
    """Of the trace."""
    seconds: float
    steps: int
    simulated_ms: int
    calls: Counter[str] = field(default_factory=Counter)
    """By workload."""
    faults: Counter[str] = field(default_factory=Counter)
    """By kind, those that began."""
    points: Counter[str] = field(default_factory=Counter)
    """By name, the failpoints at which a process ended."""
    judged: Counter[str] = field(default_factory=Counter)
    """By verdict, the parts of the history, each an object or a key, that the search judged."""
    violation: str | None = None
    """What did not hold."""
    tail: tuple[str, ...] = ()
    """The trace's last lines, after a violation."""

    @property
    def sort(self) -> str:
        """What the violation is about, whatever its numbers: equal for two runs that show one bug."""
        return re.sub(r"[\d\s'\[\](){}-]+", " ", (self.violation or "").partition("\n")[0])[:60]


def play(
    number: int, setting: Setting, *, echo: Callable[[str], None] | None = None, plan: Plan | None = None,
    twice: bool = False, history: list[str] | None = None,
) -> Outcome:  # fmt: skip
    """Runs a seed and judges what its callers were told. ``twice``: and again, upon which two traces that
    differ are a violation, too. ``history`` gets the lines of the history."""
    began = time.perf_counter()
    lines: list[str] = [] if history is None else history
    world = World(number, setting, echo, plan, lines.append)
    violation = _violation(world)
    judged: Counter[str] = Counter()
    if violation is None:
        judged, wrong = search(lines)
        violation = wrong and f"HistoryViolation: {wrong}"
    if twice and violation is None:
        again = World(number, setting, None, plan)
        if _violation(again) is not None or again.trace.digest() != world.trace.digest():
            violation = "two runs left different traces"
    return Outcome(
        number, setting, world.nemesis.plan, world.trace.digest(), time.perf_counter() - began,
        world.heap.steps, world.heap.now_ms, world.calls_of, world.nemesis.begun,
        world.cluster.failpoints.struck, judged, violation,
        () if violation is None else tuple(world.trace.tail),
    )  # fmt: skip


def judge(number: int, setting: Setting) -> Outcome:
    """Runs a seed and judges what its callers were told; raises HistoryViolation if anything did not hold."""
    outcome = play(number, setting)
    if outcome.violation is not None:
        raise HistoryViolation(outcome.violation)
    return outcome


def search(lines: Iterable[str]) -> tuple[Counter[str], str | None]:
    """How many parts of a history have which verdict, and what cannot have been, if anything."""
    verdict = check(parse(lines), seconds=SEARCH_S, memory_mb=SEARCH_MB)
    judged = Counter(one.outcome for one in verdict.judgements)
    worst = verdict.worst()
    if worst is None or worst.outcome != VIOLATION:
        return judged, None
    return judged, f"{worst.title}: {worst.reason}; {worst.blocked}"


def _violation(world: World) -> str | None:
    """Runs the world; what did not hold. An error that nothing foresees is a violation like any other."""
    try:
        world.run()
    except VIOLATIONS as violation:
        return f"{type(violation).__name__}: {violation}"
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {Path(at.filename).name}:{at.lineno}: {error}"
    return None


def play_many(
    numbers: Iterable[int], setting_of: Callable[[int], Setting], *, jobs: int = 1, twice: bool = False
) -> Generator[Outcome, None, None]:
    """The outcomes of many seeds, each as soon as it is there."""
    if jobs == 1:
        for number in numbers:
            yield play(number, setting_of(number), twice=twice)
        return
    waiting = iter(numbers)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_prepare) as pool:
        running: set[Future[Outcome]] = set()
        try:
            while True:
                for number in islice(waiting, AHEAD * jobs - len(running)):
                    running.add(pool.submit(partial(play, number, setting_of(number), twice=twice)))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _prepare() -> None:
    """In a process that plays seeds: an interrupt is for the one that gave them, and its end is the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
