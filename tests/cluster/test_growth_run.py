"""``python -m bench.growth`` and ``python -m bench.budget`` on real nodes: each section, for a moment."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bench.budget.__main__ import main as budget_main
from bench.budget.profilers import PROFILERS
from bench.budget.results import CLIENT, LEADER, Budget
from bench.growth.__main__ import SECTIONS
from bench.growth.__main__ import main as growth_main
from bench.growth.results import Growth, read

pytestmark = pytest.mark.cluster

SMALL = [
    "--sizes", "0.002", "--values", "128", "--seconds", "0.1", "--compaction-seconds", "1",
    "--compaction-keys", "500", "--idle-seconds", "0.1", "--idle-groups", "2", "--groups", "2",
    "--nodes", "1", "--percent", "50", "--missed", "300,4000,100,1",
]  # fmt: skip


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of one run of everything."""
    directory = tmp_path_factory.mktemp("growth")
    files = ["--json", str(directory / "growth.json"), "--report", str(directory / "growth.html")]
    assert growth_main([*SMALL, "--data", str(directory), *files]) == 0
    return directory


@pytest.fixture(scope="module")
def growth(kept: Path) -> Growth:
    return read(kept / "growth.json")


def test_a_node_serves_all_of_its_state_again_after_a_kill_and_a_planned_stop(growth: Growth) -> None:
    (one,) = growth.state
    assert (one.entries, one.value_bytes) == (500, 4000)
    assert [again.signal for again in one.restarts] == ["KILL", "TERM"]
    assert all(0.1 < again.ready_s < 60 for again in one.restarts)
    assert one.disk_mb > one.state_mb
    assert one.peak_mb >= one.resident_mb > 20


def test_the_log_holds_each_value_and_the_kernel_counts_no_less(growth: Growth) -> None:
    (one,) = growth.bytes
    assert one.value_bytes == 128
    assert one.puts > 10
    assert one.times(one.wal_bytes) > 1, "the value itself is in the write-ahead log"
    assert one.kernel_bytes is None or one.kernel_bytes > one.puts * one.value_bytes


def test_a_node_that_was_away_receives_what_it_missed(growth: Growth) -> None:
    (one,) = growth.snapshot
    assert one.puts == 300
    assert one.received_bytes is None or one.received_bytes > 300 * 4000
    assert one.kernel_bytes is None or one.kernel_bytes > 300 * 4000


def test_every_second_of_writes_has_its_figures(growth: Growth) -> None:
    (one,) = growth.compaction
    assert len(one.seconds) == 1
    assert one.seconds[0].operations > 10
    assert one.seconds[0].p99_ms > 0


def test_parts_of_the_peak_are_called_at_their_rates(growth: Growth) -> None:
    peak, half = growth.load
    assert (peak.part, half.part) == (1.0, 0.5)
    assert peak.measurement.shape.rate is None
    assert half.measurement.shape.rate == pytest.approx(peak.measurement.rate * 0.5, abs=0.1)
    load, due = half.measurement.load, (half.measurement.shape.rate or 0) * 0.1
    assert load.operations + load.extra.get("given_up_calls", 0) == pytest.approx(due, abs=2)


def test_an_idle_node_has_memory_and_takes_less_than_a_core(growth: Growth) -> None:
    (one,) = growth.idle
    assert one.groups == 2
    assert 20 < one.resident_mb[0] < 500
    assert 0 <= one.cpu_percent[0] < 100


def test_the_page_shows_every_section_and_needs_nothing_else(kept: Path) -> None:
    page = (kept / "growth.html").read_text()
    assert all(f'<section id="{name}">' in page for name in SECTIONS)
    assert page.count("<svg") == 4
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "src=" not in page
    assert sorted(one.name for one in kept.iterdir()) == ["growth.html", "growth.json"], "no data is left"


def test_kept_figures_are_shown_again(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "again.html"
    assert growth_main(["--read", str(kept / "growth.json"), "--report", str(again)]) == 0
    assert again.read_text() == (kept / "growth.html").read_text()
    assert "× the value in the write-ahead log" in capsys.readouterr().out


def test_a_budget_adds_up_and_a_profile_tells_where_the_nodes_spend_it(tmp_path: Path) -> None:
    profiler = next((name for name, one in PROFILERS.items() if one().missing() is None), "none")
    file, page, flames = tmp_path / "budget.json", tmp_path / "budget.html", tmp_path / "flames"
    asked = ["--callers", "8", "--groups", "2", "--nodes", "1", "--seconds", "0.5", "--data", str(tmp_path)]
    drawn = ["--flame", str(flames)] if profiler != "none" else []
    kept = ["--json", str(file), "--report", str(page)]
    assert budget_main([*asked, "--profiler", profiler, *drawn, *kept]) == 0
    (load,) = msgspec.json.decode(file.read_bytes(), type=Budget).loads
    assert [part.process for part in load.parts] == [CLIENT, LEADER]
    for part in load.parts:
        assert part.account.total > 1
        assert sum(part.steps().values()) == pytest.approx(part.account.total)
        assert profiler == "none" or sum(part.samples.values()) > 5
    assert load.parts[0].account.rocksdb == 0, "a client has no database"
    assert page.read_text().count("<svg") == 1
    if drawn:
        files = [f"{process}-8.{ending}" for process in ("client", "leading") for ending in ("html", "txt")]
        assert sorted(one.name for one in flames.iterdir()) == files
