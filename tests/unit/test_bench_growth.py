"""What ``python -m bench.growth`` reads from RocksDB's files, keeps and shows."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from bench_runs import MACHINE, measurement

from bench.growth.__main__ import main
from bench.growth.compaction import Windows
from bench.growth.results import (
    AtRate,
    CaughtUp,
    Compactions,
    Growth,
    Idle,
    Restart,
    Second,
    State,
    Written,
    read,
    write,
)
from bench.growth.rocksfiles import Job, WalGrowth, clipped, jobs
from bench.growth.shown import sections
from bench.runs.results import Shape
from bench.runs.sections import Section, page

BEGAN = datetime(2026, 3, 1, 12, 0, 0).timestamp()


def event(seconds: float, name: str, job: int, more: str = "") -> str:
    """A line of RocksDB's own log, so long after it began."""
    at = datetime.fromtimestamp(BEGAN + seconds)
    told = f'{{"time_micros": {round((BEGAN + seconds) * 1e6)}, "job": {job}, "event": "{name}"{more}}}'
    return f"{at:%Y/%m/%d-%H:%M:%S.%f} 1404 EVENT_LOG_v1 {told}\n"


def a_log(database: Path) -> None:
    """Two files: a compaction begins in the older one and ends in the newer one."""
    database.mkdir()
    (database / "LOG.old.1").write_text(
        f"{datetime.fromtimestamp(BEGAN):%Y/%m/%d-%H:%M:%S.%f} 1404 RocksDB version: 8\n"
        + event(1, "flush_started", 1)
        + event(1.1, "table_file_creation", 1, ', "file_size": 700')
        + event(1.5, "flush_finished", 1)
        + event(2, "compaction_started", 2)
        + event(2.1, "table_file_creation", 2, ', "file_size": 1000')
    )
    (database / "LOG").write_text(
        event(3, "table_file_creation", 2, ', "file_size": 500')
        + event(3.1, "table_file_deletion", 2)
        + event(3.5, "compaction_finished", 2)
        + event(4, "compaction_started", 3)
    )


def test_jobs_are_found_with_what_they_wrote_across_files(tmp_path: Path) -> None:
    a_log(tmp_path / "rocks")
    flush, compaction = jobs(tmp_path / "rocks", BEGAN + 1)
    assert (flush.kind, flush.written_bytes) == ("flush", 700)
    assert (compaction.kind, compaction.written_bytes) == ("compaction", 1500)
    assert compaction.began == pytest.approx(BEGAN + 2)
    assert compaction.ended == pytest.approx(BEGAN + 3.5)
    assert [job.kind for job in jobs(tmp_path / "rocks", BEGAN + 2)] == ["compaction"]


def test_files_that_do_not_reach_back_are_refused(tmp_path: Path) -> None:
    a_log(tmp_path / "rocks")
    (tmp_path / "rocks/LOG.old.1").unlink()
    with pytest.raises(ValueError, match="do not reach back to the beginning"):
        jobs(tmp_path / "rocks", BEGAN + 1)


def test_a_job_counts_as_far_as_it_lies_within() -> None:
    job = Job("compaction", 2.0, 3.5, 1)
    assert clipped(job, 0, 10) == (2.0, 3.5)
    assert clipped(job, 3, 4) == (0.0, 0.5)
    assert clipped(job, 3.5, 4) is None


def test_logs_that_grow_and_begin_and_go_are_counted(tmp_path: Path) -> None:
    (tmp_path / "1.log").write_bytes(b"x" * 100)
    (tmp_path / "2.log").write_bytes(b"x" * 10)
    followed = WalGrowth([tmp_path])
    (tmp_path / "1.log").unlink()
    with (tmp_path / "2.log").open("ab") as file:
        file.write(b"x" * 7)
    (tmp_path / "3.log").write_bytes(b"x" * 5)
    assert followed.stop() == 12


async def test_calls_are_noted_in_the_second_in_which_they_were_answered() -> None:
    windows = Windows(2)
    called = []

    async def call() -> None:
        called.append(len(called))

    windows.begin()
    await windows.timed(call)()
    await windows.timed(call)()
    assert called == [0, 1]
    assert [len(took) for took in windows.took] == [2, 0]


def a_growth() -> Growth:
    restarts = [Restart(signal=name, ready_s=1.5, resident_mb=80, read_mb=90) for name in ("KILL", "TERM")]
    small = {"written_s": 2.0, "disk_mb": 30.0, "resident_mb": 100.0, "peak_mb": 120.0}
    peak, half = Shape(workload="write", callers=256), Shape(workload="write", callers=1024, rate=500.0)
    loads = [
        AtRate(part=1.0, measurement=measurement("quorate", peak, 0, 1000.0)),
        AtRate(part=0.5, measurement=measurement("quorate", half, 0, 500.0)),
    ]
    return Growth(
        began="2026-03-01T12:00:00+00:00", command="python -m bench.growth", machine=MACHINE, product="1.0",
        state=[
            State(entries=entries, value_bytes=size, restarts=restarts, **small)
            for entries, size in ((1000, 4000), (4000, 4000), (50_000, 100))
        ],
        bytes=[
            Written(value_bytes=size, puts=1000, seconds=2.0, nodes=3, wal_bytes=wal, flushed_bytes=10,
                    compacted_bytes=0, kernel_bytes=None)
            for size, wal in ((128, 3 * 128 * 1000 * 4), (4096, 3 * 4096 * 1000 * 2))
        ],
        snapshot=[CaughtUp(value_bytes=500, puts=1000, keys=10, groups=4, snapshots=4, seconds=3.0,
                           received_bytes=1_000_000, kernel_bytes=None)],
        compaction=[Compactions(
            callers=64, value_bytes=128, keys=10, nodes=3, jobs=2, compacted_bytes=5_000_000,
            seconds=[Second(operations=100 + at, p99_ms=2.0, compacting=int(at == 3), flushing=0)
                     for at in range(6)],
        )],
        load=loads, idle=[Idle(groups=16, seconds=20, resident_mb=[60, 61, 62], cpu_percent=[1, 2, 3])],
    )  # fmt: skip


@pytest.fixture(scope="module")
def shown() -> dict[str, Section]:
    return {one.name: one for one in sections(a_growth())}


def test_every_section_is_shown(shown: dict[str, Section]) -> None:
    assert list(shown) == ["state", "bytes", "snapshot", "compaction", "load", "idle"]
    for one in shown.values():
        assert all(len(row) == len(one.head) for row in one.rows)


def test_bytes_are_told_in_multiples_of_the_value_beside_the_target(shown: dict[str, Section]) -> None:
    small, large = shown["bytes"].rows
    assert (small[2], small[3]) == ("512", "4.00")
    assert large[3] == "2.00"
    assert [note.partition("callers: ")[2] for note in shown["bytes"].notes] == ["4.00, met."]
    growth = a_growth()
    growth.bytes = [Written(value_bytes=128, puts=10, seconds=1, nodes=1, wal_bytes=10 * 128 * 6,
                            flushed_bytes=0, compacted_bytes=0, kernel_bytes=None)]  # fmt: skip
    worse = next(one for one in sections(growth) if one.name == "bytes")
    assert worse.notes[0].endswith("6.00, not yet.")


def test_seconds_with_a_compaction_are_told_apart_and_marked(shown: dict[str, Section]) -> None:
    without, with_some = shown["compaction"].rows
    assert (without[1], with_some[1]) == ("5", "1")
    assert with_some[2] == "103"
    marked = shown["compaction"].panels[0].svg.count("opacity: 0.16")
    growth = a_growth()
    growth.compaction = [
        Compactions(callers=64, value_bytes=128, keys=10, nodes=3, jobs=0, compacted_bytes=0,
                    seconds=[Second(operations=100, p99_ms=2.0, compacting=0, flushing=0)] * 6)
    ]  # fmt: skip
    calm = next(one for one in sections(growth) if one.name == "compaction")
    assert calm.panels[0].svg.count("opacity: 0.16") == marked - 1


def test_states_of_other_sizes_of_values_have_lines_of_their_own(shown: dict[str, Section]) -> None:
    assert [label for _, label in shown["state"].legend] == [
        f"{what}, {size} B each"
        for size in ("4,000", "100") for what in ("behind KILL", "behind TERM", "when all was written")
    ]  # fmt: skip
    assert len({colour for colour, _ in shown["state"].legend}) == 6


def test_a_file_gives_back_what_was_kept_and_others_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "growth.json"
    write(a_growth(), file)
    assert read(file) == a_growth()
    file.write_text(file.read_text().replace('"version": 1', '"version": 9'))
    with pytest.raises(ValueError, match="is of version 9; this program reads 1"):
        read(file)
    file.write_text("[]")
    with pytest.raises(ValueError, match=r"is no file of python -m bench\.growth"):
        read(file)


def test_a_page_holds_the_sections_that_were_measured(shown: dict[str, Section]) -> None:
    text = page("Growth", "<all>", [shown["idle"]], "now", MACHINE, "python -m bench.growth")
    assert '<section id="idle">' in text
    assert '<section id="load">' not in text
    assert "&lt;all&gt;" in text


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--only", "states"], "unknown section 'states': one of state, bytes"),
        (["--sizes", "many"], "'many': expected numbers by commas"),
        (["--seconds", "0"], "expected numbers above 0"),
        (["--missed", "1,2"], "expected four numbers by commas"),
        (["--data", "/nowhere"], "there is no directory /nowhere"),
        (["--json", "/"], "/ is a directory; name a file"),
        (["--report", "/nowhere/page.html"], "there is no directory /nowhere"),
        (["--read", "/nowhere"], "No such file"),
    ],
)
def test_a_wrong_option_is_told_in_a_line(
    asked: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(asked)
    except SystemExit as end:
        code = int(end.code or 0)
    assert code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_section_that_fails_is_told_and_the_exit_code_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "growth.json"
    code = main(["--only", "state", "--sizes", "1000", "--data", str(tmp_path), "--report", str(file)])
    assert code == 1
    assert "state: not measured: 3000.0 GB are needed in" in capsys.readouterr().err
    assert file.read_text().endswith("</html>\n")
