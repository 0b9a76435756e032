"""The report of runs of the benchmark: one page with all its plots in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from typing import Final

from bench.pages import CSS, document
from bench.runs.medians import FAILED, Spread
from bench.runs.merging import Merged
from bench.runs.panels import Panel, panels
from bench.runs.plots import COLOURS
from bench.runs.ratios import headline, times_better
from bench.runs.results import Machine, Run, SubjectInfo
from bench.runs.shapes import loads_told, shared
from bench.runs.summary import failure_told, figure_told, times_told
from bench.runs.targets import BASE, Reached, reached
from bench.runs.workloads import WORKLOADS

_LIGHT: Final = (
    "#2563c9", "#d9662b", "#1f8a5b", "#8a4fbf", "#b8891a", "#c43d6b", "#2b93a8", "#707a85", "#7a9a1f",
    "#8c5a3c", "#3b3f9e", "#d07fb0",
)  # fmt: skip
_DARK: Final = (
    "#6ea5ff", "#f2935c", "#56c490", "#bb8bea", "#dcb65a", "#ee7fa3", "#63c3d6", "#a7b0ba", "#b3d158",
    "#c99a7c", "#9096f0", "#f3b6d6",
)  # fmt: skip
STYLE: Final = (
    CSS
    + f":root{{color-scheme:light dark;{''.join(f'--s{at}:{one};' for at, one in enumerate(_LIGHT))}}}\n"
    + "@media(prefers-color-scheme:dark){:root{--ink:#e3e6ea;--soft:#9aa3ad;--line:#2f363f;--good:#56c490;"
    "--bad:#e5604f;--open:#dcb65a;--paper:#171b20;--back:#0f1216;"
    + "".join(f"--s{at}:{one};" for at, one in enumerate(_DARK))
    + """}}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));gap:22px 26px}
figure{margin:0}a{color:var(--s0)}nav{margin:8px 0}
figcaption{color:var(--soft);font-size:12px}
figcaption b{display:block;font-weight:600;color:var(--ink);font-size:13px}
svg *{stroke-linejoin:round}
.scroll{overflow-x:auto}
pre{border:1px solid var(--line);border-radius:6px;padding:8px 12px;overflow-x:auto;margin:6px 0}
td.text{min-width:11em}td.word,th.word{text-align:left}td small{color:var(--soft)}
@media(max-width:600px){main{padding:16px 12px 40px}}
"""
)
DASH: Final = "–"


def page(merged: Merged, progress: Callable[[str], None] = lambda workload: None) -> str:
    """The page; ``progress`` is told each workload whose plots are drawn. Raises ValueError for a
    distribution that cannot be decoded."""
    parts = [_head(merged), _systems(merged), _targets(list(reached(merged))), _ratios(merged)]
    for workload in merged.workloads:
        parts.append(_workload(merged, workload, panels(merged, workload)))
        progress(workload)
    parts.append(_failures(merged))
    parts.append(_origin(merged.runs))
    return document("Benchmark", STYLE, "\n".join(filter(None, parts)))


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of cells that are HTML already; one that begins with ``<t`` brings its own element."""

    def row(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(c if c.startswith("<t") else f"<{tag}>{c}</{tag}>" for c in cells) + "</tr>"

    inner = row(head, "th") + "".join(row(cells, "td") for cells in rows)
    return f'<div class="scroll"><table>{inner}</table></div>'


def plots(shown: Iterable[Panel]) -> str:
    """Plots beside and below one another."""
    figures = "".join(
        f"<figure><figcaption><b>{escape(one.title)}</b>{escape(one.about)}</figcaption>{one.svg}</figure>"
        for one in shown
    )
    return f'<div class="plots">{figures}</div>' if figures else ""


def text_cell(text: str, tag: str = "td") -> str:
    """A cell that may take several lines."""
    return f'<{tag} class="text">{escape(text)}</{tag}>'


def word_cell(text: str, tag: str = "td") -> str:
    """A cell of a text that takes one line."""
    return f'<{tag} class="word">{escape(text)}</{tag}>'


def _swatch(merged: Merged, subject: SubjectInfo) -> str:
    number = merged.subjects.index(subject) % COLOURS
    return f'<i style="background:var(--s{number})"></i>{escape(subject.name)}'


def _head(merged: Merged) -> str:
    repeats = [len(one.measurements) for one in merged.medians]
    taken = [one for group in merged.medians for one in group.measurements]
    failed = sum(one.load.errors for one in taken)
    spread = f"{min(repeats)} to {max(repeats)}" if len(set(repeats)) > 1 else f"{max(repeats, default=0)}"
    tiles = [
        ("systems", f"{len(merged.subjects)}"), ("missing", f"{len(merged.missing)}"),
        ("workloads", f"{len(merged.workloads)}"), ("repeats of each load", spread),
        ("operations", f"{sum(one.load.operations for one in taken):,}"), ("calls failed", f"{failed:,}"),
        ("measurements failed", f"{len(merged.failed)}"),
    ]  # fmt: skip
    shown = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for name, value in tiles)
    links = " · ".join(f'<a href="#{escape(one)}">{escape(one)}</a>' for one in merged.workloads)
    return (
        "<h1>Benchmark</h1><p>Systems side by side on one machine, by turns. Figures are medians of the "
        "repeats; bands, and the lines at the ends of bars, go from the least to the most. At a rate, "
        f'latencies count from when a call was due, so that stalls count.</p><div class="tiles">{shown}</div>'
        f"{_warning(merged.runs)}<nav>{links}</nav>"
    )


def _warning(runs: Sequence[Run]) -> str:
    if all(run.machine.is_like(runs[0].machine) for run in runs):
        return ""
    text = "Not all of these runs are of one machine: figures of different runs differ for that, too."
    return f'<p><em class="bad">{text}</em></p>'


def _systems(merged: Merged) -> str:
    rows = [
        (f"<th>{_swatch(merged, one)}</th>", *map(text_cell, (one.title, one.version, one.note)))
        for one in merged.subjects
    ]
    rows += [
        (
            f"<th>{escape(one.name)}</th>", text_cell(one.title), word_cell("missing"),
            text_cell(one.missing or ""),
        )
        for one in merged.missing
    ]  # fmt: skip
    words = [word_cell(one, "th") for one in ("system", "version", "note")]
    return "<h2>Systems</h2>" + table(["", *words], rows)


def _targets(found: Sequence[Reached]) -> str:
    if not found:
        return ""
    met = sum(one.is_met for one in found)
    rows = [
        (
            word_cell(one.target.workload, "th"), f"{one.target.callers:,}", f"{one.target.groups}",
            f"{one.target.nodes}", word_cell(one.target.figure),
            text_cell(one.target.limit_told), word_cell(one.peer or ""),
            times_told(one.value) if one.peer else figure_told(one.value),
            f'<td class="{"good" if one.is_met else "open"}">{"met" if one.is_met else "not yet"}</td>',
        )
        for one in found
    ]  # fmt: skip
    words = [word_cell(one, "th") for one in ("figure", "target", "best peer")]
    head = ["workload", "callers", "groups", "nodes", *words, "reached", ""]
    return (
        f"<h2>Targets</h2><p>{met} of {len(found)} that these runs can tell of are met. A ratio says how "
        f"many times better {BASE} is than the best of those peers that were measured.</p>"
        + table(head, rows)
    )


def _ratios(merged: Merged) -> str:
    """How many times better the base is than each other system."""
    peers = merged.subjects[1:]
    if not peers or merged.subjects[0].name != merged.base:
        return ""
    rows = []
    for workload in merged.workloads:
        shapes = merged.shapes(workload)
        loads = loads_told(shapes)
        for shape in shapes:
            base, name = merged.find(merged.base, shape), headline(shape)
            ratios = [times_better(name, base, merged.find(peer.name, shape)) for peer in peers]
            if any(ratio is not None for ratio in ratios):
                cells = (_times(ratio) for ratio in ratios)
                rows.append((word_cell(workload, "th"), word_cell(loads[shape]), word_cell(name), *cells))
    if not rows:
        return ""
    words = [word_cell(one, "th") for one in ("load", "by")]
    return (
        f"<h2>{escape(merged.base)} beside each</h2><p>How many times better it is by the figure named; "
        "below 1 it is the worse one. Mind the notes above on what a system does not do.</p>"
        + table(["workload", *words, *(_swatch(merged, one) for one in peers)], rows)
    )


def _times(ratio: float | None) -> str:
    if ratio is None:
        return DASH
    return f'<td class="{"good" if ratio >= 1 else "open"}">{times_told(ratio)}</td>'


def _workload(merged: Merged, workload: str, shown: Iterator[Panel]) -> str:
    known = WORKLOADS.get(workload)
    about = f"One operation: {known.title}. " if known else ""
    legend = "".join(f"<span>{_swatch(merged, one)}</span>" for one in merged.of(workload))
    return (
        f'<section id="{escape(workload)}"><h2>{escape(workload)}</h2>'
        f"<p>{escape(about)}All loads: {escape(shared(merged.shapes(workload)))}.</p>"
        f'<div class="legend">{legend}</div>{plots(shown)}'
        f"{_details(merged, workload)}</section>"
    )


def _details(merged: Merged, workload: str) -> str:
    """Every figure, with its spread."""
    shapes = merged.shapes(workload)
    loads = loads_told(shapes)
    groups = [
        found
        for shape in shapes
        for one in merged.subjects
        if (found := merged.find(one.name, shape)) is not None
    ]
    names = [
        name
        for name in dict.fromkeys(name for one in groups for name in one.figures)
        if name != FAILED.name or any(one.figures[name].high for one in groups)
    ]
    rows = [
        (
            word_cell(loads[one.shape], "th"), word_cell(one.subject), f"{len(one.measurements)}",
            *(_spread(one.figures.get(name)) for name in names),
        )
        for one in groups
    ]  # fmt: skip
    head = ["load", word_cell("system", "th"), "repeats", *map(escape, names)]
    said = "all figures: median, and from the least to the most"
    return f"<details><summary>{said}</summary>{table(head, rows)}</details>"


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return DASH
    low, high = figure_told(spread.low), figure_told(spread.high)
    around = f" <small>{low} … {high}</small>" if low != high else ""
    return f"{figure_told(spread.median)}{around}"


def _failures(merged: Merged) -> str:
    if not merged.failed:
        return ""
    lines = "".join(f"<li>{escape(failure_told(one))}</li>" for one in merged.failed)
    return f"<h2>Measurements that failed</h2><ul>{lines}</ul>"


def _origin(runs: Sequence[Run]) -> str:
    """Where the figures come from, and what repeats them."""
    told = "".join(origin(run.began, run.machine, run.command) for run in runs)
    return f"<h2>Where it ran, and how to repeat it</h2>{told}"


def origin(began: str, machine: Machine, command: str) -> str:
    """Of figures that were taken together."""
    facts = (
        f"begun {began}", machine.cpu, f"{machine.cores} cores", f"{machine.memory_gb:g} GB",
        machine.system, f"Python {machine.python}", machine.disk,
    )  # fmt: skip
    return f"<p>{escape(' · '.join(facts))}</p><pre>{escape(command)}</pre>"
