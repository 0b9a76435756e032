"""Times in which no write was acknowledged, with the faults that may be why."""

from __future__ import annotations

from dataclasses import dataclass

from bench.processes.episode import Happened, Outcome


@dataclass(frozen=True)
class Gap:
    """A time without an acknowledged write."""

    episode: int
    at: float
    """From the episode's beginning."""
    seconds: float
    faults: list[Happened]
    """Those at work in it, or up to a second before."""


def gaps_of(outcome: Outcome) -> list[Gap]:
    """All of an episode, up to its healing and what healing takes."""
    found = []
    for sample in outcome.samples:
        for begin, end in sample["gaps"]:
            at_work = [one for one in outcome.faults if one.begin < end and one.end + 1.0 > begin]
            found.append(Gap(outcome.number, begin - outcome.begin, end - begin, at_work))
    return found
