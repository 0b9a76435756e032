"""A picture of the history around a violation: one HTML page, of itself, that needs nothing else.

Each process has a lane, each call a bar from its line to the line of its end. Numbers on bars are the places
of the order that was found; the call that fits nowhere is red.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple
from unicodedata import east_asian_width

from bench.checker.check import VALID, Judgement, Verdict
from bench.checker.record import Call, to_plain
from bench.pages import document

LEFT: Final = 132
TOP: Final = 44
LANE: Final = 58
BAR: Final = 20
EVENT: Final = 58
"""From one beginning or end to the next, in pixels: order counts here, not duration."""
POINT: Final = 20
CHARACTER: Final = 7.4
"""Of a label, at the most, but for wide ones: twice that."""
ROWS_MAX: Final = 12
"""Calls of the order that are listed, the last ones."""

_STYLE: Final = """
:root { color-scheme: light dark; --back: #fbfbfa; --text: #1f2328; --dim: #6a7078; --line: #dcdfe3;
  --bar: #cfe0f5; --edge: #4a7fb8; --open: #ece3c7; --openedge: #a58a3a; --bad: #d1242f; --badback: #ffdcd9;
  --dot: #24476f; --dottext: #fff; --panel: #fff; }
@media (prefers-color-scheme: dark) { :root {
  --back: #14171b; --text: #e3e6ea; --dim: #9299a3; --line: #2d333b;
  --bar: #223a56; --edge: #6ea5de; --open: #3b3521; --openedge: #cdb463; --bad: #ff6b63; --badback: #4a1a1c;
  --dot: #9cc6f3; --dottext: #10151b; --panel: #1b1f25; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 28px 24px 48px; }
h1 { font-size: 22px; margin: 0 0 4px; }
h2 { font-size: 16px; margin: 28px 0 8px; }
p { margin: 6px 0; max-width: 80em; }
.dim { color: var(--dim); }
.reason { border-left: 4px solid var(--bad); background: var(--badback); padding: 10px 14px; }
code, svg text, td.code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 13px; }
.scroll { overflow-x: auto; background: var(--panel); border: 1px solid var(--line); border-radius: 6px; }
svg { display: block; } svg text { fill: var(--text); font-size: 12px; } svg .dim { fill: var(--dim); }
.lane { stroke: var(--line); } .order { fill: none; stroke: var(--dot); stroke-width: 1.5; opacity: .35; }
.bar { fill: var(--bar); stroke: var(--edge); } .unknown .bar { fill: var(--open); stroke: var(--openedge);
  stroke-dasharray: 5 3; }
.bad .bar { fill: var(--badback); stroke: var(--bad); stroke-width: 2.5; } .bad text { fill: var(--bad);
  font-weight: 700; }
.left .bar { opacity: .55; }
g.call:hover .bar { stroke-width: 3; }
.point { fill: var(--dot); } svg text.number { fill: var(--dottext); font-size: 11px; font-weight: 700; }
table { border-collapse: collapse; } td, th { text-align: left; padding: 4px 16px 4px 0; vertical-align: top;
  border-bottom: 1px solid var(--line); } th { color: var(--dim); font-weight: 500; }
tr.bad td { color: var(--bad); font-weight: 700; }
.key span { display: inline-block; width: 26px; height: 12px; border: 1.5px solid; margin: 0 6px 0 18px;
  vertical-align: -1px; border-radius: 3px; }
"""


class _Bar(NamedTuple):
    """Where a call stands in the picture."""

    call: Call
    lane: int
    start: float
    end: float | None


def page(verdict: Verdict, judgement: Judgement | None, title: str) -> str:
    """The page of a verdict, with a picture of one of its judgements. It ends with a newline."""
    parts = [f"<h1>{escape(title)}: {verdict.outcome}</h1>"]
    kinds = [one.outcome for one in verdict.judgements]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(sorted(kinds)))
    parts.append(f'<p class="dim">{verdict.calls} calls; objects and keys: {counts or "none"}</p>')
    if judgement is not None and judgement.outcome != VALID:
        parts += _judged(judgement)
    else:
        parts.append("<p>Every call has its place in an order that agrees with what all were told.</p>")
    return document(f"{title}: {verdict.outcome}", _STYLE, "\n".join(parts))


def _judged(judgement: Judgement) -> list[str]:
    reason = f'<p class="reason"><code>{escape(judgement.reason)}</code></p>'
    parts = [f"<h2>{escape(judgement.title)}</h2>", reason]
    if judgement.window:
        parts += [_legend(bool(judgement.order)), f'<div class="scroll">{picture(judgement)}</div>']
    if judgement.order:
        parts += ["<h2>The end of the order that all the rest has</h2>", _order(judgement)]
    return parts


def _legend(with_order: bool) -> str:
    numbers = " Numbers tell the order found: what took effect before what." if with_order else ""
    return (
        '<p class="key dim">Bars go from call to answer; point at one for all of it.'
        f"{numbers}<br>"
        '<span style="background:var(--badback);border-color:var(--bad)"></span>fits nowhere'
        '<span style="background:var(--bar);border-color:var(--edge)"></span>answered'
        '<span style="background:var(--open);border-color:var(--openedge);border-style:dashed"></span>'
        "outcome unknown: at any later time, or never</p>"
    )


def _order(judgement: Judgement) -> str:
    first = max(len(judgement.order) - ROWS_MAX, 0)
    rows = []
    for at, call in enumerate(judgement.order[first:], first):
        state = judgement.states[at] if at < len(judgement.states) else ""
        rows.append(_row(str(at + 1), call, f'<td class="code">{escape(state)}</td>', ""))
    if judgement.blocked is not None:
        rows.append(_row("?", judgement.blocked, "<td>fits nowhere, here or before</td>", ' class="bad"'))
    head = "<tr><th></th><th>call</th><th>process</th><th>afterwards</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _row(number: str, call: Call, last: str, kind: str) -> str:
    cells = "".join(f'<td class="code">{escape(text)}</td>' for text in (_text(call), call.process))
    return f"<tr{kind}><td>{number}</td>{cells}{last}</tr>"


def picture(judgement: Judgement) -> str:
    """The calls around a violation, as SVG."""
    bars, lanes, width = _layout(judgement.window)
    numbers = {call.line: at for at, call in enumerate(judgement.order, 1)}
    points = _points(bars, numbers)
    height = TOP + LANE * len(lanes) + 16
    drawn = [_lane(name, at, width) for at, name in enumerate(lanes)]
    ordered = sorted(points, key=lambda line: numbers[line])
    if len(ordered) > 1:
        pairs = " ".join(_pair(points[line]) for line in ordered)
        drawn.append(f'<polyline class="order" points="{pairs}"/>')
    rooms = _rooms(bars, width)
    bad = judgement.blocked.line if judgement.blocked is not None else 0
    for bar in bars:
        line = bar.call.line
        drawn.append(_bar(bar, line == bad, width, rooms[line], line in numbers))
    drawn += [_point(points[line], numbers[line]) for line in ordered]
    drawn.append(f'<text class="dim" x="{LEFT}" y="20">time →</text>')
    size = f'width="{width:.0f}" height="{height}" viewBox="0 0 {width:.0f} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">{"".join(drawn)}</svg>'


def _point(at: tuple[float, float], number: int) -> str:
    x, y = at
    half = 9 if number < 100 else 6 + 3.5 * len(str(number))
    return (
        f'<rect class="point" x="{x - half:.0f}" y="{y - 9:.0f}" width="{2 * half:.0f}" height="18" rx="9"/>'
        f'<text class="number" x="{x:.0f}" y="{y + 4:.0f}" text-anchor="middle">{number}</text>'
    )


def _layout(window: Sequence[Call]) -> tuple[list[_Bar], list[str], float]:
    """Bars in the order of their beginnings, the names of the lanes, and the width of it all."""
    lines = sorted({call.line for call in window} | {_end(call) or call.line for call in window})
    at = {line: LEFT + 12 + EVENT * place for place, line in enumerate(lines)}
    lanes = list(dict.fromkeys(call.process for call in window))
    ends = {call.line: at.get(_end(call) or -1) for call in window}
    bars = [_Bar(call, lanes.index(call.process), at[call.line], ends[call.line]) for call in window]
    longest = max((_columns(_text(bar.call)) * CHARACTER + bar.start for bar in bars), default=0.0)
    return bars, lanes, max(LEFT + EVENT * (len(lines) + 1), longest + 24)


def _end(call: Call) -> int | None:
    return None if call.is_unknown else call.end_line


def _points(bars: Sequence[_Bar], numbers: dict[int, int]) -> dict[int, tuple[float, float]]:
    """By line, where each call of the order took effect: within its bar, behind all that come before."""
    points: dict[int, tuple[float, float]] = {}
    last = 0.0
    placed = [bar for bar in bars if bar.call.line in numbers]
    for bar in sorted(placed, key=lambda bar: numbers[bar.call.line]):
        last = max(bar.start + POINT / 2 + 2, last + POINT)
        if bar.end is not None:
            last = min(last, bar.end - 4)
        points[bar.call.line] = (last, _y(bar.lane) + BAR / 2)
    return points


def _y(lane: int) -> float:
    return TOP + LANE * lane + 22


def _pair(point: tuple[float, float]) -> str:
    return f"{point[0]:.0f},{point[1]:.0f}"


def _lane(name: str, at: int, width: float) -> str:
    y = TOP + LANE * at
    shown = name if len(name) <= 17 else f"{name[:16]}…"
    return (
        f'<line class="lane" x1="0" y1="{y}" x2="{width:.0f}" y2="{y}"/>'
        f'<text x="12" y="{_y(at) + 14:.0f}">{escape(shown)}<title>{escape(name)}</title></text>'
    )


def _rooms(bars: Sequence[_Bar], width: float) -> dict[int, float]:
    """By line, how much room a bar's label has, up to the next one of its lane."""
    rooms = {}
    for bar in bars:
        later = [one.start for one in bars if one.lane == bar.lane and one.start > bar.start]
        rooms[bar.call.line] = min(later, default=width) - bar.start
    return rooms


def _bar(bar: _Bar, is_bad: bool, width: float, room: float, is_placed: bool) -> str:
    call = bar.call
    y = _y(bar.lane)
    kind = "bad" if is_bad else "unknown" if call.is_unknown else "" if is_placed else "left"
    end = width + 2000 if bar.end is None else bar.end
    most = max(int(room / CHARACTER) - 1, 4)
    text = _text(call)
    shown = text if _columns(text) <= most else f"{_cut(text, most - 1)}…"
    return (
        f'<g class="call {kind}"><title>{escape(_hover(call))}</title>'
        f'<rect class="bar" x="{bar.start:.0f}" y="{y:.0f}" width="{max(end - bar.start, 6):.0f}"'
        f' height="{BAR}" rx="4"/><text x="{bar.start:.0f}" y="{y - 6:.0f}">{escape(shown)}</text></g>'
    )


def _columns(text: str) -> int:
    """How many characters' room the text takes."""
    return len(text) + sum(east_asian_width(character) in "WF" for character in text)


def _cut(text: str, columns: int) -> str:
    """As much of the beginning as has room."""
    while _columns(text) > columns:
        text = text[: len(text) - max((_columns(text) - columns) // 2, 1)]
    return text


def _text(call: Call) -> str:
    """The call and its result."""
    return repr(call).partition(": ")[2]


def _hover(call: Call) -> str:
    lines = [f"{call.process}: {call.kind} {call.name}", _text(call)]
    ended = "never ended, or of unknown outcome" if call.end_us is None else f"{call.end_us} µs"
    lines.append(f"{call.start_us} µs – {ended}; line {call.line}")
    if call.read != "linearizable":
        lines.append(f"read: {call.read} {json.dumps(to_plain(call.extra))}")
    if call.position is not None:
        lines.append(f"position {call.position}")
    return "\n".join([*lines, *([call.error] if call.error else [])])
