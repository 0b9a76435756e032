"""Plots, as SVG to stand in a page, whose style sheet gives them their colours and fonts.

Colours are drawn as stand-ins, which become variables of the style sheet: so one plot serves light and dark.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from html import escape
from io import StringIO
from typing import Any, Final, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

INK: Final = "#fd0001"
SOFT: Final = "#fd0002"
LINE: Final = "#fd0003"
_VARIABLES: Final = {INK: "var(--ink)", SOFT: "var(--soft)", LINE: "var(--line)"}
COLOURS: Final = 12
"""Series have so many colours; then they begin again."""
WIDE: Final = 10.0
"""A scale of values is logarithmic from this ratio of the greatest to the least on; others begin at 0."""
_WIDTH: Final = 5.0
_SETTINGS: Final[dict[Any, Any]] = {
    "svg.fonttype": "none", "text.parse_math": False, "font.size": 9.0,
    "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": LINE, "axes.labelcolor": SOFT, "text.color": INK, "xtick.color": SOFT,
    "ytick.color": SOFT, "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True, "grid.color": LINE,
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
}  # fmt: skip
_OURS: Final = re.compile(r"#fd00[0-9a-f]{2}")
_UNUSED: Final = re.compile(
    r'<style type="text/css">.*?</style>| id="[A-Za-z0-9.]+_\d+"|font-family: [^;]*; |(?<= )xlink:', re.DOTALL
)
"""Rules for the whole page, names that each plot gives anew and nothing refers to, fonts, an old prefix."""
_SIZE: Final = re.compile(r'(<svg )[^>]*?(viewBox="[^"]*")[^>]*>', re.DOTALL)


class Point(NamedTuple):
    """A median, and the ends of its spread."""

    x: float
    y: float
    low: float
    high: float


class Series(NamedTuple):
    """One line of a plot."""

    colour: int
    points: Sequence[Point]


class Axis(NamedTuple):
    """How a direction is drawn."""

    title: str
    logarithmic: bool = False
    ticks: Sequence[float] = ()
    """Where; none: where it suits the scale."""
    told: Callable[[float], str] = "{:,g}".format


class Bar(NamedTuple):
    """One bar, of parts that lie end to end."""

    label: str
    colour: int
    parts: Sequence[float]
    low: float | None = None
    high: float | None = None
    colours: Sequence[int] = ()
    """One for each part; none: shades of ``colour``."""

    def drawn(self, number: int) -> tuple[str, float]:
        """Colour and opacity of a part."""
        if self.colours:
            return stand_in(self.colours[number]), 1.0
        return stand_in(self.colour), 1 / (1 + number)


def stand_in(number: int) -> str:
    """The colour of a series, before it is one of the style sheet's."""
    return f"#fd00{0x10 + number % COLOURS:02x}"


def curves(
    title: str, x: Axis, y: Axis, series: Sequence[Series], marks: Sequence[tuple[float, float]] = ()
) -> str:
    """Lines with their spreads as bands. Which scale ``y`` has follows from the values. ``marks``: ranges of
    ``x`` that stand out."""
    with rc_context(_SETTINGS):
        figure, axes = _axes(3.0)
        for low, high in marks:
            axes.axvspan(low, high, color=SOFT, alpha=0.16, linewidth=0)
        for one in series:
            points = sorted(one.points)
            xs, colour = [point.x for point in points], stand_in(one.colour)
            mark = "o" if len(points) < 20 else ""
            ys = [point.y for point in points]
            axes.plot(xs, ys, color=colour, linewidth=1.6, marker=mark, markersize=3.5)
            lows, highs = [point.low for point in points], [point.high for point in points]
            axes.fill_between(xs, lows, highs, color=colour, alpha=0.18, linewidth=0)
        _scale(axes, axes.xaxis, x, "x")
        _scale(axes, axes.yaxis, y._replace(logarithmic=_is_wide(series)), "y")
        axes.set_xlabel(x.title)
        axes.set_ylabel(y.title)
        return _svg(figure, title)


def bars(title: str, x: Axis, rows: Sequence[Bar]) -> str:
    """Bars from above to below, each with its sum and a line from the least to the most."""
    with rc_context({**_SETTINGS, "axes.grid.axis": "x"}):
        figure, axes = _axes(0.65 + 0.27 * len(rows))
        for at, row in enumerate(rows):
            left = 0.0
            for number, part in enumerate(row.parts):
                colour, alpha = row.drawn(number)
                axes.barh(at, part, 0.68, left, color=colour, alpha=alpha, linewidth=0)
                left += part
            if row.low is not None and row.high is not None:
                axes.plot([row.low, row.high], [at, at], color=INK, linewidth=1, marker="|", markersize=5)
            end = max(left, row.high or 0.0)
            axes.annotate(x.told(left), (end, at), (4, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.invert_yaxis()
        axes.margins(x=0.14)
        axes.set_xlim(left=0)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axes.set_xlabel(x.title)
        return _svg(figure, title)


def _axes(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.add_subplot()


def _is_wide(series: Sequence[Series]) -> bool:
    """Whether the values are so far apart that a scale from 0 would not show them all."""
    values = [point.y for one in series for point in one.points]
    return max(values) >= WIDE * min(values) > 0


def _scale(axes: Axes, direction: Any, axis: Axis, name: str) -> None:
    if axis.logarithmic:
        axes.set(**{f"{name}scale": "log"})
        direction.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
        direction.set_minor_locator(NullLocator())
    else:
        axes.set(**{f"{name}lim": (0, None)})
    if axis.ticks:
        direction.set_major_locator(FixedLocator(list(axis.ticks)))
    direction.set_major_formatter(FuncFormatter(lambda value, _: axis.told(value)))


def _svg(figure: Figure, title: str) -> str:
    """The figure's element alone, without anything of the process that drew it."""
    written = StringIO()
    with rc_context({"svg.hashsalt": title}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        with warnings.catch_warnings():
            # Its own fonts only measure the text here: whoever shows the page has others.
            warnings.filterwarnings("ignore", r"Glyph .* missing from")
            figure.savefig(written, format="svg", metadata=nothing)
    text = written.getvalue()
    text = _UNUSED.sub("", text[text.index("<svg") :])
    head = f'role="img" aria-label="{escape(title)}">'
    text = _SIZE.sub(lambda found: f"{found[1]}{found[2]} {head}", text, count=1)
    return _OURS.sub(lambda found: _VARIABLES.get(found[0], f"var(--s{int(found[0][-2:], 16) - 16})"), text)
