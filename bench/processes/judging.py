"""Histories judged, each in a process of its own, with bounds of time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from bench.checker.check import check
from bench.checker.page import page
from bench.checker.record import HistoryFormatError, parse
from bench.processes.episode import Outcome
from bench.processes.nodes import environment

SECONDS: Final = 40.0
MEMORY_MB: Final = 1024.0
AT_A_TIME: Final = 2
START_SECONDS: Final = 60.0
"""Beyond ``SECONDS``, for reading the history and what is judged without a bound of its own."""


def judge(outcome: Outcome, directory: Path, *, seconds: float = SECONDS) -> None:
    """Judges all histories of an episode and notes the verdicts in its outcome; a violation is a problem."""

    def one(name: str) -> dict[str, Any]:
        return _judged(directory / f"{name}.jsonl", seconds)

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        verdicts = dict(zip(outcome.workloads, pool.map(one, outcome.workloads), strict=True))
    outcome.verdicts = verdicts
    for name, verdict in verdicts.items():
        if verdict["verdict"] in ("violation", "broken"):
            outcome.problems.append(f"{name}: {verdict['text']}")


def _judged(path: Path, seconds: float) -> dict[str, Any]:
    began = time.monotonic()
    verdict: dict[str, Any] = {"verdict": "broken", "calls": 0, "unknown": 0, "text": ""}
    if not path.exists():
        return {**verdict, "text": "there is no history", "seconds": 0.0}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "bench.processes.judging", str(path), str(seconds)],
            capture_output=True, text=True, check=False, env=environment(), timeout=seconds + START_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        verdict |= {"verdict": "undecided", "text": "the checker did not end in time"}
    else:
        verdict |= {"text": done.stderr[-2000:]} if done.returncode else json.loads(done.stdout)
    return {**verdict, "seconds": time.monotonic() - began}


def verdict_of(path: Path, seconds: float) -> dict[str, Any]:
    """The verdict on one file; if it is none of a valid history, a page beside it shows why."""
    with path.open("rb") as file:
        history = parse(file)
    told = {"calls": len(history.calls), "unknown": sum(call.is_unknown for call in history.calls)}
    try:
        verdict = check(history, seconds=seconds, memory_mb=MEMORY_MB)
    except HistoryFormatError as error:
        return {**told, "verdict": "broken", "text": str(error)}
    worst = verdict.worst()
    if worst is not None:
        path.with_suffix(".html").write_text(page(verdict, worst, path.stem), encoding="utf-8")
    text = "" if worst is None else f"{worst.title}: {worst.reason}"
    return {**told, "verdict": verdict.outcome, "text": text}


if __name__ == "__main__":
    print(json.dumps(verdict_of(Path(sys.argv[1]), float(sys.argv[2]))))
