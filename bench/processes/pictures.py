"""Pictures of a run, as SVG to stand in a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from bench.processes.calls import ALL
from bench.processes.episode import Happened, Outcome
from bench.processes.gaps import Gap

WIDTH: Final = 1080
LEFT: Final = 46
TOP: Final = 16
HEIGHT: Final = 84
"""Of the curves."""
BIN_SECONDS: Final = 0.5
_HUES: Final = {
    "kill": "#d1495b", "kill-minority": "#b02a4a", "kill-all": "#7a1030", "freeze": "#5b8def",
    "freeze-all": "#2f5fc4", "restart": "#e58a2b", "transfers": "#3a9d6e", "halves": "#8e6bbf",
    "majority-ring": "#b58ad9", "bridge": "#6d4aa0", "one-way": "#c65bb0", "cut-clients": "#9aa0a8",
    "flapping": "#d37fc0", "resets": "#2aa6a6", "loss": "#1b7f95", "delay": "#6cc3c9", "narrow": "#4f9e3f",
    "disk-full": "#8a5a2b", "slow-sync": "#c9a227", "failing-sync": "#a87b00", "damage": "#404040",
    "clocks": "#77b300",
}  # fmt: skip


def colour(name: str) -> str:
    """Of a fault's bands."""
    return _HUES.get(name, "#666666")


def _band(one: Happened, x: float, width: float, y: float, height: float, opacity: float) -> str:
    told = f"{one.name}: {one.text}, {one.end - one.begin:.1f} s"
    return (
        f'<rect x="{x:.1f}" y="{y}" width="{max(width, 1.5):.1f}" height="{height}" '
        f'fill="{colour(one.name)}" fill-opacity="{opacity}"><title>{escape(told)}</title></rect>'
    )


def overview(outcomes: Sequence[Outcome]) -> str:
    """The whole run on one line: writes a second, and all faults."""
    if not outcomes:
        return ""
    begin, end = outcomes[0].begin, max(outcome.end for outcome in outcomes)
    scale = (WIDTH - LEFT) / max(end - begin, 1.0)
    parts = []
    top = 0.0
    curves: list[list[tuple[float, float]]] = []
    for outcome in outcomes:
        bins = _bins(outcome, "writes", max(BIN_SECONDS, 1.5 / scale))
        curves.append([(LEFT + (at + outcome.begin - begin) * scale, rate) for at, rate in bins])
        top = max([top, *(rate for _, rate in bins)])
    for outcome in outcomes:
        x = LEFT + (outcome.begin - begin) * scale
        width = (outcome.end - outcome.begin) * scale
        shade = "#fdecea" if outcome.problems else "#f2f4f7" if outcome.number % 2 else "#fafbfc"
        parts.append(
            f'<a href="#e{outcome.number}"><rect x="{x:.1f}" y="{TOP}" width="{width:.1f}" '
            f'height="{HEIGHT + 24}" fill="{shade}"><title>episode {outcome.number}</title></rect></a>'
        )
        for one in outcome.faults:
            at = LEFT + (one.begin - begin) * scale
            parts.append(_band(one, at, (one.end - one.begin) * scale, TOP + HEIGHT + 4, 16, 0.9))
    parts += [_area(curve, top, "#30455c", 0.85) for curve in curves]
    parts += _axis(top)
    step = _step((end - begin) / 60)
    minute = 0.0
    while minute * 60 <= end - begin:
        x = LEFT + minute * 60 * scale
        parts.append(f'<text x="{x:.1f}" y="{TOP + HEIGHT + 36}">{minute:g} min</text>')
        minute += step
    return (
        "<h2>The run</h2><p>Acknowledged writes a second of all workloads together, and the faults below. "
        "Between episodes histories are judged and a fresh cluster is founded.</p>"
        f'<svg viewBox="0 0 {WIDTH} {TOP + HEIGHT + 42}">{"".join(parts)}</svg>'
    )


def _step(length: float) -> float:
    return next((step for step in (0.5, 1, 2, 5, 10, 20, 60) if length / step <= 14), 120.0)


def episode_picture(outcome: Outcome, gaps: Iterable[Gap]) -> str:
    """One episode: its curves, its faults in lanes, its gaps."""
    length = max(outcome.end - outcome.begin, 1.0)
    scale = (WIDTH - LEFT) / length
    lanes = _lanes(outcome.faults)
    base = TOP + HEIGHT
    bottom = base + 8 + 15 * (max(lanes, default=-1) + 1)
    parts = []
    for one, lane in zip(outcome.faults, lanes, strict=True):
        x, width = LEFT + (one.begin - outcome.begin) * scale, (one.end - one.begin) * scale
        parts.append(_band(one, x, width, TOP, HEIGHT, 0.13))
        parts.append(_band(one, x, width, base + 8 + 15 * lane, 13, 0.9))
        if width > 6 * len(one.name):
            parts.append(f'<text x="{x + 2:.1f}" y="{base + 18 + 15 * lane}" style="fill:#10151b">'
                         f"{escape(one.name)}</text>")  # fmt: skip
    reads, writes = (_bins(outcome, what, BIN_SECONDS) for what in ("reads", "writes"))
    top = max((rate for _, rate in (*reads, *writes)), default=0.0)
    for points, fill, opacity in ((writes, "#30455c", 0.75), (reads, "#8fb3d9", 0.75)):
        parts.append(_area([(LEFT + at * scale, rate) for at, rate in points], top, fill, opacity))
    for gap in (gap for gap in gaps if gap.whose == ALL):
        x, width = LEFT + gap.at * scale, max(gap.seconds * scale, 1.5)
        parts.append(
            f'<rect x="{x:.1f}" y="{base + 1}" width="{width:.1f}" '
            f'height="5" fill="#c0392b"><title>no write for {gap.seconds:.2f} s</title></rect>'
        )
    if outcome.healed:
        x = LEFT + (outcome.healed - outcome.begin) * scale
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}" stroke="#1b7f4b" '
                     'stroke-dasharray="4 3"/>')  # fmt: skip
    parts += _axis(top)
    for second in range(0, int(length) + 1, 10):
        parts.append(f'<text x="{LEFT + second * scale:.1f}" y="{bottom + 12}">{second} s</text>')
    return f'<svg viewBox="0 0 {WIDTH} {bottom + 16}">{"".join(parts)}</svg>'


def _lanes(faults: Sequence[Happened]) -> list[int]:
    """For each fault a lane in which it is alone."""
    ends: list[float] = []
    lanes = []
    for one in faults:
        lane = next((at for at, end in enumerate(ends) if end <= one.begin), len(ends))
        ends[lane : lane + 1] = [one.end]
        lanes.append(lane)
    return lanes


def _bins(outcome: Outcome, what: str, seconds: float) -> list[tuple[float, float]]:
    """Rates by time from the episode's beginning."""
    if not outcome.samples:
        return []
    first = outcome.samples[0]["at"] - outcome.begin
    counts: dict[int, int] = {}
    for sample in outcome.samples:
        at = int((sample["at"] - outcome.begin) / seconds)
        counts[at] = counts.get(at, 0) + sample[what]
    last = max(counts)
    return [(max(at * seconds, first), counts.get(at, 0) / seconds) for at in range(min(counts), last + 1)]


def _area(points: Sequence[tuple[float, float]], top: float, fill: str, opacity: float) -> str:
    if not points or not top:
        return ""
    base = TOP + HEIGHT
    line = " ".join(f"{x:.1f},{base - rate / top * HEIGHT:.1f}" for x, rate in points)
    return (
        f'<polygon points="{points[0][0]:.1f},{base} {line} {points[-1][0]:.1f},{base}" fill="{fill}" '
        f'fill-opacity="{opacity}"/>'
    )


def _axis(top: float) -> list[str]:
    base = TOP + HEIGHT
    return [
        f'<line x1="{LEFT}" x2="{WIDTH}" y1="{base}" y2="{base}" stroke="#c3cad2"/>',
        f'<text x="{LEFT - 6}" y="{TOP + 8}" text-anchor="end">{top:,.0f}/s</text>',
        f'<text x="{LEFT - 6}" y="{base}" text-anchor="end">0</text>',
    ]
