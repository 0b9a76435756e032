"""Flame graphs: one page each, which needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Final

from bench.budget.stacks import Frame, Profile
from bench.budget.steps import REST, STEPS, step
from bench.pages import document
from bench.runs.page import STYLE
from bench.runs.plots import COLOURS

WIDTH: Final = 1200.0
ROW: Final = 17.0
LEAST: Final = 0.4
"""Narrower frames are left out."""
_CHARACTER: Final = 6.2
_STYLE: Final = (
    STYLE + "main{max-width:none}svg.flame text{font-size:11px;fill:#fff;pointer-events:none}"
    "svg.flame rect{stroke:var(--paper);stroke-width:.5}svg.flame g:hover rect{stroke:var(--ink)}\n"
)


@dataclass(slots=True)
class _Node:
    count: int = 0
    inside: dict[Frame, _Node] = field(default_factory=dict)


def flame(title: str, about: str, profile: Profile, *, client: bool) -> str:
    """The page."""
    root = _Node()
    for stack, count in profile.items():
        root.count += count
        at = root
        for frame in stack:
            at = at.inside.setdefault(frame, _Node())
            at.count += count
    boxes = list(_boxes(root, 0.0, 0, WIDTH / max(root.count, 1), None, client))
    deep = 1 + max((row for row, _ in boxes), default=0)
    drawn = "".join(box for _, box in boxes)
    svg = (
        f'<svg class="flame" viewBox="0 0 {WIDTH:g} {deep * ROW:g}" role="img" aria-label="{escape(title)}">'
        f"{drawn}</svg>"
    )
    legend = "".join(
        f'<span><i style="background:var(--s{number})"></i>{escape(name)}</span>'
        for number, name in enumerate(STEPS)
    )
    body = (
        f"<h1>{escape(title)}</h1><p>{escape(about)} {root.count:,} samples; each call is in the one above "
        f'it, as wide as its part of the time.</p><div class="legend">{legend}</div>{svg}'
    )
    return document(title, _STYLE, body)


def _boxes(
    node: _Node, left: float, row: int, scale: float, above: str | None, client: bool
) -> Iterator[tuple[int, str]]:
    """The row and the drawing of each frame inside; one without a step of its own has that of its caller."""
    for frame, inner in sorted(node.inside.items(), key=lambda item: str(item[0])):
        width = inner.count * scale
        of = step(frame, client=client) or above
        if width >= LEAST:
            yield row, _box(frame, inner.count, left, row, width, of or REST)
            yield from _boxes(inner, left, row + 1, scale, of, client)
        left += width


def _box(frame: Frame, count: int, left: float, row: int, width: float, of: str) -> str:
    y, fits = row * ROW, int((width - 4) / _CHARACTER)
    text = f'<text x="{left + 2:.1f}" y="{y + 12:g}">{escape(str(frame)[:fits])}</text>' if fits > 3 else ""
    return (
        f"<g><title>{escape(str(frame))}, {count:,} samples: {escape(of)}</title>"
        f'<rect x="{left:.1f}" y="{y:g}" width="{width:.1f}" height="{ROW:g}" '
        f'fill="var(--s{STEPS.index(of) % COLOURS})"/>{text}</g>'
    )
