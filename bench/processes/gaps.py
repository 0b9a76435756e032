"""Times in which no write was acknowledged, with the faults that may be why."""

from __future__ import annotations

from dataclasses import dataclass

from bench.processes.episode import Happened, Outcome


@dataclass(frozen=True)
class Gap:
    """A time without an acknowledged write."""

    episode: int
    whose: str
    """The workload's, or :data:`bench.processes.calls.ALL`."""
    at: float
    """From the episode's beginning."""
    seconds: float
    faults: list[Happened]
    """Those at work in it, or up to a second before."""


def gaps_of(outcome: Outcome) -> list[Gap]:
    """All of an episode, until it was healed and went on; then the load ends by itself."""
    found = []
    over = outcome.healed + (outcome.progress_seconds or 0.0) if outcome.healed else float("inf")
    for sample in outcome.samples:
        for whose, begin, end in sample["gaps"]:
            if begin > over - 1.0:
                continue
            at_work = [one for one in outcome.faults if one.begin < end and one.end + 1.0 > begin]
            found.append(Gap(outcome.number, whose, begin - outcome.begin, end - begin, at_work))
    return found
