"""The report of a run: one page with all its pictures in it."""

from __future__ import annotations

import os
import platform
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Final

from bench.pages import CSS, document
from bench.processes.calls import ALL, GAP_SECONDS, WORKLOAD_GAP_SECONDS
from bench.processes.episode import Happened, Outcome
from bench.processes.gaps import gaps_of
from bench.processes.pictures import colour, episode_picture, overview

GAPS_SHOWN: Final = 20


@dataclass
class Run:
    """All episodes of a run so far."""

    seed: int
    minutes: float
    began: datetime
    facts: dict[str, str]
    outcomes: list[Outcome] = field(default_factory=list)

    @staticmethod
    def begin(*, seed: int, minutes: float) -> Run:
        """A run that begins now, on this machine."""
        memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        facts = {
            "Quorate": version("quorate"),
            "Python": platform.python_version(),
            "kernel": f"{platform.system()} {platform.release()}",
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {memory_gb:.0f} GiB",
        }
        return Run(seed, minutes, datetime.now(UTC), facts)


def write_report(run: Run, directory: Path) -> None:
    """Writes the page; a reader sees the former one or this one."""
    unfinished = directory / "report.html.new"
    unfinished.write_text(page(run), encoding="utf-8")
    unfinished.replace(directory / "report.html")


def page(run: Run) -> str:
    """The page."""
    parts = [_head(run), overview(run.outcomes), _legend(run.outcomes)]
    pair = f"<div>{_matrix(run.outcomes)}</div><div>{_by_fault(run.outcomes)}</div>"
    parts.append(f'<div class="pair">{pair}</div>')
    parts += [part(run.outcomes) for part in (_slowest, _episodes, _verdicts)]
    return document("Faults on real processes", CSS, "\n".join(parts))


def _head(run: Run) -> str:
    outcomes = run.outcomes
    failed = [outcome for outcome in outcomes if not outcome.is_good]
    verdicts = Counter(one["verdict"] for outcome in outcomes for one in outcome.verdicts.values())
    samples = [sample for outcome in outcomes for sample in outcome.samples]
    seconds = outcomes[-1].end - outcomes[0].begin if outcomes else 0.0
    gaps = (gap for outcome in outcomes for gap in gaps_of(outcome) if gap.whose == ALL)
    worst = max((gap.seconds for gap in gaps), default=0.0)
    progress = [one.progress_seconds for one in outcomes if one.progress_seconds is not None]
    unknown = sum(sample["unknown"] for sample in samples)
    tiles = [
        ("episodes", f"{len(outcomes)}"), ("failed", f"{len(failed)}"), ("length", f"{seconds / 60:.1f} min"),
        ("faults", f"{sum(len(outcome.faults) for outcome in outcomes)}"),
        ("histories valid", f"{verdicts['valid']} of {verdicts.total()}"),
        ("undecided", f"{verdicts['undecided']}"),
        ("writes", f"{sum(sample['writes'] for sample in samples):,}"),
        ("reads", f"{sum(sample['reads'] for sample in samples):,}"), ("of unknown outcome", f"{unknown:,}"),
        ("longest gap", f"{worst:.1f} s"), ("slowest progress", f"{max(progress, default=0.0):.1f} s"),
    ]  # fmt: skip
    shown = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for name, value in tiles)
    facts = " · ".join(f"{escape(name)} {escape(value)}" for name, value in run.facts.items())
    state = "bad" if failed else "good"
    said = f"Failed episodes: {len(failed)}" if failed else "No violation, no hang"
    return (
        f'<h1>Faults on real processes <em class="{state}">{said}</em></h1>'
        "<p>Real nodes in network namespaces of one machine, each episode with a fresh cluster: load, "
        "faults, healing, and then progress and equal state are demanded and all histories judged. Begun "
        f"{run.began:%Y-%m-%d %H:%M} UTC, seed {run.seed}. {facts}</p>"
        f'<div class="tiles">{shown}</div>'
    )


def _legend(outcomes: Sequence[Outcome]) -> str:
    names = sorted({one.name for outcome in outcomes for one in outcome.faults})
    marks = "".join(f'<span><i style="background:{colour(name)}"></i>{escape(name)}</span>' for name in names)
    return f'<div class="legend">{marks}</div>'


def _matrix(outcomes: Sequence[Outcome]) -> str:
    cells: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    workloads: dict[str, None] = {}
    for outcome in outcomes:
        for workload, verdict in outcome.verdicts.items():
            workloads[workload] = None
            for name in {one.name for one in outcome.faults}:
                cells[name, workload][verdict["verdict"]] += 1
    names = sorted({name for name, _ in cells})
    head = "".join(f"<th>{escape(workload)}</th>" for workload in workloads)
    rows = [
        f'<tr><th><i style="background:{colour(name)}"></i>{escape(name)}</th>'
        + "".join(_cell(cells[name, workload]) for workload in workloads)
        + "</tr>"
        for name in names
    ]
    return (
        "<h2>Episodes by fault and workload</h2><p>How many histories of the workload were recorded under "
        "the fault, and found valid; others by what they were.</p>"
        f'<table class="matrix"><tr><th>fault</th>{head}</tr>{"".join(rows)}</table>'
    )


def _cell(counts: Counter[str]) -> str:
    if not counts:
        return "<td></td>"
    others = [f"{count} {verdict}" for verdict, count in counts.items() if verdict != "valid"]
    state = "bad" if counts["violation"] else "open" if others else "good"
    text = " ".join([f"{counts['valid']} ✓"] * bool(counts["valid"]) + others)
    return f'<td class="{state}">{escape(text)}</td>'


def _by_fault(outcomes: Sequence[Outcome]) -> str:
    found: dict[tuple[str, bool], list[float]] = defaultdict(list)
    times: Counter[str] = Counter()
    for outcome in outcomes:
        times.update(one.name for one in outcome.faults)
        for gap in gaps_of(outcome):
            # What stands on its own only: of two faults at a time, nobody knows which one it was.
            if len(gap.faults) == 1:
                found[gap.faults[0].name, gap.whose == ALL].append(gap.seconds)
    rows = []
    for name in sorted(times):
        cells = f'<th><i style="background:{colour(name)}"></i>{escape(name)}</th><td>{times[name]}</td>'
        for is_all in (True, False):
            gaps = sorted(found[name, is_all])
            cells += f"<td>{len(gaps)}</td><td>{_middle(gaps)}</td><td>{_longest(gaps)}</td>"
        rows.append(f"<tr>{cells}</tr>")
    return (
        "<h2>Gaps by fault</h2><p>Times without an acknowledged write while that fault alone was at work: of "
        f"all workloads together (over {GAP_SECONDS} s), and of one (over {WORKLOAD_GAP_SECONDS} s). "
        "A fault that takes the majority away has to have one as long as it lasts.</p><table>"
        "<tr><th>fault</th><th>times</th><th>gaps of all</th><th>median s</th><th>longest s</th>"
        "<th>gaps of one</th><th>median s</th><th>longest s</th></tr>"
        f"{''.join(rows)}</table>"
    )


def _middle(values: Sequence[float]) -> str:
    return f"{values[len(values) // 2]:.2f}" if values else "–"


def _longest(values: Sequence[float]) -> str:
    return f"{values[-1]:.2f}" if values else "–"


def _slowest(outcomes: Sequence[Outcome]) -> str:
    gaps = sorted((gap for one in outcomes for gap in gaps_of(one)), key=lambda gap: -gap.seconds)
    rows = [
        f'<tr><td><a href="#e{gap.episode}">{gap.episode}</a></td><td>{gap.at:.1f}</td>'
        f'<td>{gap.seconds:.2f}</td><td class="text">{escape(gap.whose)}</td>'
        f'<td class="text">{_faults(gap.faults)}</td></tr>'
        for gap in gaps[:GAPS_SHOWN]
    ]
    return (
        f"<h2>The {min(GAPS_SHOWN, len(gaps))} slowest gaps</h2><table><tr><th>episode</th><th>at s</th>"
        '<th>length s</th><th class="text">of</th><th class="text">faults at work</th></tr>'
        f"{''.join(rows)}</table>"
    )


def _faults(faults: Iterable[Happened]) -> str:
    shown = "; ".join(f"{one.name} ({one.text}), {one.end - one.begin:.1f} s" for one in faults)
    return escape(shown) or "none"


def _episodes(outcomes: Sequence[Outcome]) -> str:
    parts = ["<h2>Each episode</h2><p>Acknowledged writes (dark) and reads (light) a second; faults as "
             "bands; gaps in red below; the dashed line is the healing.</p>"]  # fmt: skip
    for outcome in outcomes:
        state = "good" if outcome.is_good else "bad"
        said = "good" if outcome.is_good else "; ".join(outcome.problems)
        notes = "".join(f"<li>{escape(note)}</li>" for note in outcome.notes)
        kept = f" Kept in <code>{escape(outcome.kept)}</code>." if outcome.kept else ""
        parts.append(
            f'<section id="e{outcome.number}"><h3>{outcome.number} · {outcome.nodes} nodes · seed '
            f'{escape(outcome.seed)} <em class="{state}">{escape(said[:400])}</em></h3>{kept}'
            f"{episode_picture(outcome, gaps_of(outcome))}"
            + (f"<ul>{notes}</ul>" if notes else "")
            + "</section>"
        )
    return "\n".join(parts)


def _verdicts(outcomes: Sequence[Outcome]) -> str:
    rows = [
        f'<tr><td>{outcome.number}</td><th>{escape(workload)}</th><td>{one["calls"]:,}</td>'
        f'<td>{one["unknown"]}</td>'
        f'<td class="{_STATES.get(one["verdict"], "open")}">{escape(one["verdict"])}</td>'
        f'<td>{one["seconds"]:.1f}</td><td class="text">{escape(one["text"][:300])}</td></tr>'
        for outcome in outcomes
        for workload, one in outcome.verdicts.items()
    ]
    return (
        "<h2>Verdict of each history</h2><details open><summary>all</summary><table><tr><th>episode</th>"
        "<th>workload</th><th>calls</th><th>unknown</th><th>verdict</th><th>judged in s</th><th></th></tr>"
        f"{''.join(rows)}</table></details>"
    )


_STATES: Final = {"valid": "good", "violation": "bad"}
