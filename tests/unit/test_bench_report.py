"""``quorate bench report``: the tables of a run, and the page with its plots."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from bench_runs import MACHINE, WRITES, latencies, measurement, run

from bench.runs.distributions import distribution, nines
from bench.runs.merging import merge
from bench.runs.page import page
from bench.runs.panels import sweeps
from bench.runs.plots import Axis, Bar, Point, Series, bars, curves
from bench.runs.results import Run, Shape, write
from bench.runs.targets import reached
from ops import runner

Ran = Callable[..., tuple[int, str, str]]
WRITE = Shape(workload="write", callers=64)
VOID = {"meta", "br"}


@pytest.fixture
def ran(capsys: pytest.CaptureFixture[str]) -> Ran:
    def call(*tokens: str) -> tuple[int, str, str]:
        code = runner.run(["bench", "report", *tokens])
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


@pytest.fixture(scope="module")
def whole() -> str:
    """The page of a run of everything."""
    return page(merge([run()], "quorate"))


@pytest.fixture
def kept(tmp_path: Path) -> str:
    write(run(repeats=1), tmp_path / "run.json")
    return str(tmp_path / "run.json")


class Balance(HTMLParser):
    """Which elements are open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def few(*measurements: tuple[str, float], machine: object = MACHINE) -> Run:
    """A run of writes of 64 callers."""
    kept = run(repeats=0)
    taken = [measurement(subject, WRITE, 0, rate) for subject, rate in measurements]
    return msgspec.structs.replace(kept, measurements=taken, machine=machine, failed=[])


# --- The page -----------------------------------------------------------------------------------------


def test_the_page_needs_nothing_from_elsewhere(whole: str) -> None:
    assert not re.search(r"<(script|link|img|iframe)|@import|@font-face|src=|url\((?!#)", whole)
    assert set(re.findall(r'href="([^"#][^"]*)"', whole)) == set()
    assert set(re.findall(r"https?://[^\s\"]+", whole)) == set()


def test_the_pages_elements_are_closed_and_their_names_unique(whole: str) -> None:
    balance = Balance()
    balance.feed(whole)
    assert balance.open == []
    targets = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', whole))
    names = re.findall(r' id="([^"]+)"', whole)
    assert {one or other for one, other in targets} <= set(names)
    sections = re.findall(r'<section id="([^"]+)"', whole)
    assert sections == ["write", "read", "recovery"]


def test_the_page_has_the_plots_of_each_sweep(whole: str) -> None:
    plots = re.findall(r"<figcaption><b>([^<]+)</b>([^<]+)</figcaption><svg", whole)
    titles = [title for title, _ in plots]
    for over in ("callers", "groups", "size of values"):
        for figure in ("Throughput", "Latency, p50,", "Latency, p99,"):
            assert f"{figure} over {over}" in titles
    assert {"Throughput over calls due a second", "Latency, p99, over calls due a second"} <= set(titles)
    assert {"Distribution of latencies", "Processor time", "Memory", "gap_s"} <= set(titles)
    assert ("Throughput over size of values", "3 nodes, 1,000 keys, 16 groups, 64 callers") in plots
    for svg in re.findall(r"<svg.*?</svg>", whole, re.DOTALL):
        ElementTree.fromstring(svg)


def test_plots_take_their_colours_from_the_style_sheet_for_light_and_dark(whole: str) -> None:
    style, body = whole.split("</style>", 1)
    assert not re.findall(r"#[0-9a-f]{6}\b", body)
    used = set(re.findall(r"var\((--\w+)\)", body))
    light, dark = style.split("prefers-color-scheme:dark", 1)
    for name in used:
        assert f"{name}:#" in light
        assert f"{name}:#" in dark


def test_the_page_tells_systems_notes_missing_ones_failures_machine_and_command(whole: str) -> None:
    for text in (
        "ZooKeeper (Python, kazoo)", "3.4.23, grpcio 1.76", "does not sync &lt;each&gt; write",
        "it is not installed: pip install pysyncobj", "Made-up 3000 at 2.4 GHz", "280 µs a sync",
        "quorate bench run --workloads write,read -o run.json", "it has &lt;none&gt;",
    ):  # fmt: skip
        assert text in whole


def test_ratios_and_targets_stand_beside_what_was_reached(whole: str) -> None:
    ours, theirs = WRITES["quorate"][3], WRITES["etcd-native"][3]
    row = next(row for row in whole.split("<tr>") if "≥ 4 × etcd-native" in row)
    told = float(re.findall(r"<td>([\d.]+)×</td>", row)[0])
    assert told == pytest.approx(ours / theirs, rel=0.03)
    assert "not yet" in row
    assert 'class="good">met' in next(row for row in whole.split("<tr>") if "≤ 0.4" in row)


def test_a_ratio_above_one_is_always_to_the_bases_good() -> None:
    targets = reached(merge([run()], "quorate"))
    found = {(one.target.workload, one.target.callers, one.target.figure): one for one in targets}
    read = found["read", 1, "p50 ms"]
    assert read.value > 1
    assert read.is_met
    assert not found["write", 16, "ops/s"].is_met
    assert found["write", 256, "ops/s"].peer is not None


def test_more_groups_are_held_to_what_one_group_reaches() -> None:
    one = next(one for one in reached(merge([run()], "quorate")) if one.target.peer_groups == 1)
    assert one.target.limit_told == "≥ 0.85 × quorate with 1 group"
    assert one.value == pytest.approx(21900 / 22980, rel=0.03)
    assert one.is_met


def test_no_target_is_told_of_systems_that_were_not_measured() -> None:
    assert list(reached(merge([few(("quorate", 100.0), ("nats", 100.0))], "quorate"))) == []
    (one,) = reached(merge([few(("quorate", 100.0), ("etcd-native", 40.0))], "quorate"))
    assert (one.peer, one.is_met, round(one.value, 2)) == ("etcd-native", True, 2.5)


def test_one_measurement_alone_makes_a_page() -> None:
    text = page(merge([few(("quorate", 1000.0))], "quorate"))
    titles = re.findall(r"<figcaption><b>([^<]+)", text)
    assert titles == ["ops/s", "p50 ms", "p99 ms", "Distribution of latencies", "Processor time", "Memory"]
    assert "beside each" not in text


def test_the_same_run_gives_the_same_page() -> None:
    once, again = (page(merge([few(("quorate", 1000.0), ("etcd", 500.0))], "quorate")) for _ in range(2))
    assert once == again


def test_names_from_a_file_are_text_in_the_page_whatever_they_hold() -> None:
    evil = '<b>$x^{&"$</b>仲'
    kept = few((evil, 1000.0))
    text = page(merge([kept], evil))
    assert evil not in text
    assert "&lt;b&gt;$x^{&amp;" in text


# --- Plots --------------------------------------------------------------------------------------------


def test_values_that_are_near_one_another_stand_over_zero() -> None:
    def ticks(*values: float) -> list[str]:
        points = [Point(at + 1.0, value, value, value) for at, value in enumerate(values)]
        svg = curves("t", Axis("x"), Axis("y"), [Series(0, points)])
        return re.findall(r"text-anchor: end[^>]*>([\d.,]+)<", svg)

    assert ticks(10, 12)[0] == "0"
    assert "0" not in ticks(10, 1000)
    assert ticks(0, 0)


def test_bars_are_labelled_by_their_sum() -> None:
    rows = [Bar("quorate", 0, (100, 40)), Bar("etcd", 1, (7,), 6, 8)]
    svg = bars("t", Axis("µs", told="{:.0f}".format), rows)
    assert ">140<" in svg
    assert ">quorate<" in svg


def test_loads_that_differ_in_one_way_are_a_sweep() -> None:
    shapes = [Shape(workload="w", callers=callers) for callers in (1, 16)]
    shapes += [Shape(workload="w", callers=16, groups=64), Shape(workload="w", callers=16, rate=10.0)]
    found = {(one.over.name, len(one.shapes)) for one in sweeps(shapes)}
    assert found == {("callers", 2), ("groups", 2)}


def test_distributions_of_repeats_are_one_and_give_the_percentiles() -> None:
    taken = [measurement("quorate", WRITE, at, 1000.0, p50_ms=p50) for at, p50 in enumerate((1.0, 100.0))]
    histogram = distribution(taken)
    assert histogram is not None
    assert histogram.get_total_count() == 2 * latencies(1000)[1].get_total_count()
    told = nines(histogram)
    assert told[0][0] == 0
    at_90 = min(told, key=lambda pair: abs(pair[0] - 1))
    assert at_90[1] == pytest.approx(histogram.get_value_at_percentile(100 - 100 / 10 ** at_90[0]) / 1e3)
    assert [value for _, value in told] == sorted(value for _, value in told)


def test_there_is_no_distribution_where_one_repeat_has_none() -> None:
    taken = [measurement(subject, WRITE, 0, 1000.0) for subject in ("quorate", "zookeeper")]
    assert distribution(taken) is None


# --- Several runs -------------------------------------------------------------------------------------


def test_runs_of_other_loads_are_one_and_of_the_same_load_stand_beside_one_another() -> None:
    first, other = few(("quorate", 100.0)), few(("quorate", 200.0), ("etcd", 50.0))
    merged = merge([first, other], "quorate")
    assert [one.name for one in merged.subjects] == ["quorate", "etcd", "quorate (run 2)"]
    assert merged.subjects[2].title == "Quorate (Python), run 2"
    apart = merge([first, few(("etcd", 50.0))], "quorate")
    assert [one.name for one in apart.subjects] == ["quorate", "etcd"]


def test_a_system_missing_in_one_run_and_measured_in_another_is_there() -> None:
    second = run(repeats=0)
    subjects = [msgspec.structs.replace(one, missing=None, version="0.3") for one in second.subjects]
    taken = [measurement("pysyncobj", WRITE, 0, 10.0)]
    second = msgspec.structs.replace(second, subjects=subjects, measurements=taken)
    merged = merge([few(("quorate", 100.0)), second], "quorate")
    assert {one.name: one.version for one in merged.subjects}["pysyncobj"] == "0.3"
    assert "pysyncobj" not in {one.name for one in merged.missing}


def test_runs_of_several_machines_are_shown_with_a_warning() -> None:
    other = few(("etcd", 50.0), machine=msgspec.structs.replace(MACHINE, cores=8))
    text = page(merge([few(("quorate", 100.0)), other], "quorate"))
    assert "Not all of these runs are of one machine" in text


def test_a_machine_is_the_same_whatever_a_sync_took_just_then() -> None:
    slower = msgspec.structs.replace(MACHINE, disk=MACHINE.disk.rpartition(", ")[0] + ", 999 µs a sync")
    assert slower != MACHINE and slower.is_like(MACHINE)
    text = page(merge([few(("quorate", 100.0)), few(("etcd", 50.0), machine=slower)], "quorate"))
    assert "Not all of these runs are of one machine" not in text
    assert not msgspec.structs.replace(MACHINE, disk="xfs on another, 1 µs a sync").is_like(MACHINE)


# --- The command --------------------------------------------------------------------------------------


def test_without_a_file_to_write_tables_are_shown(ran: Ran, kept: str) -> None:
    code, out, err = ran(kept)
    assert (code, err) == (0, "")
    titles = [line for line in out.splitlines() if re.match(r"\w+: 3 nodes", line)]
    assert titles == [
        "write: 3 nodes, 1,000 keys", "read: 3 nodes, 1,000 keys, 128 B, 16 groups",
        "recovery: 3 nodes, 1,000 keys, 128 B, 16 groups, 1 caller",
    ]  # fmt: skip
    for text in (
        "pysyncobj: not measured: it is not installed", "gap_s 0.21", "failed: nats, lock,",
        "nats: NATS JetStream (Python) · 2.9.10 · does not sync",
    ):  # fmt: skip
        assert text in out
    cells = next(line for line in out.splitlines() if line.strip().startswith("256 callers") and out)
    assert len(re.findall(r"[\d,]+/s", cells)) >= 1


def test_the_base_is_the_first_column_and_the_others_have_its_ratio(ran: Ran, tmp_path: Path) -> None:
    write(few(("quorate", 300.0), ("etcd", 100.0)), tmp_path / "run.json")
    _, out, _ = ran(str(tmp_path / "run.json"))
    assert "3.00×" in out
    _, out, _ = ran(str(tmp_path / "run.json"), "--base", "etcd")
    assert "0.33×" in out
    assert re.search(r"callers +etcd +quorate", out)


def test_the_page_is_written_where_it_was_asked(ran: Ran, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    write(few(("quorate", 300.0)), file)
    output = tmp_path / "report.html"
    assert ran(str(file), "-o", str(output)) == (0, f"{output}\n", "")
    assert output.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_what_cannot_be_shown_is_told_in_one_line(ran: Ran, kept: str, tmp_path: Path) -> None:
    write(few(), tmp_path / "empty.json")
    cases = {
        (): "a file of quorate bench run is needed",
        (str(tmp_path / "empty.json"),): "there are no figures in it",
        (kept, "-o", "/nowhere/report.html"): "cannot be written: /nowhere/report.html: no such file",
        (kept, "-o", str(tmp_path)): "is a directory",
        (kept, "--base", "consul"): "--base consul: there are no figures of it, only of quorate, etcd",
    }
    for tokens, reason in cases.items():
        code, out, err = ran(*tokens)
        assert (code, out) == (2, "")
        assert reason in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("encoded", ["", "AAAA", "not base64!", "é", latencies(1000)[0][:60]])
def test_latencies_that_cannot_be_decoded_are_told_in_one_line(
    ran: Ran, tmp_path: Path, encoded: str
) -> None:
    kept = few(("quorate", 300.0))
    one = kept.measurements[0]
    broken = msgspec.structs.replace(one, load=msgspec.structs.replace(one.load, latencies=encoded))
    write(msgspec.structs.replace(kept, measurements=[broken]), tmp_path / "run.json")
    code, _, err = ran(str(tmp_path / "run.json"), "-o", str(tmp_path / "report.html"))
    assert code == 2
    assert err.startswith("quorate: the latencies of quorate, write cannot be decoded: ")
    assert err.count("\n") == 1


def test_without_its_library_a_page_is_refused_with_what_to_install(
    ran: Ran, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(("matplotlib", "bench.runs.p"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = ran(kept, "-o", str(tmp_path / "report.html"))
    assert code == 1
    assert "install quorate with its extra named bench" in err
    assert err.count("\n") == 1
