"""What processes spend, as the kernel tells it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.runs.sampling import Meter, age_s, command_line, processes_of, resident_mb

BURN = """
import os, sys, time
sys.stdin.readline()
with open(sys.argv[1], "wb") as file:
    file.write(bytes(3_000_000))
    file.flush()
    os.fsync(file.fileno())
while time.process_time() < 0.3:
    pass
print("burnt", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def burner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", BURN, tmp_path / "file"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        yield process
        process.kill()


def say(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_meter_tells_what_was_spent_since_it_was_made(burner: subprocess.Popen[str]) -> None:
    meter = Meter([burner.pid], iter([7, 10]).__next__)
    say(burner)
    assert burner.stdout is not None
    assert burner.stdout.readline() == "burnt\n"
    cost = meter.read([burner.pid])
    assert cost is not None
    assert 0.2 <= cost.cpu_seconds <= 0.5
    assert cost.written_bytes is not None
    assert 3_000_000 <= cost.written_bytes <= 4_000_000
    assert cost.syncs == 3
    assert cost.resident_mb == [pytest.approx(resident_mb(burner.pid), abs=1)]
    assert 3 < resident_mb(burner.pid) < 100
    again = Meter([burner.pid]).read([burner.pid])
    assert again is not None
    assert again.cpu_seconds <= 0.02, "only what was spent since"
    assert again.syncs is None


def test_of_processes_that_took_the_place_of_others_no_cost_is_told(burner: subprocess.Popen[str]) -> None:
    assert Meter([os.getpid()]).read([burner.pid]) is None


def test_a_process_that_has_ended_is_no_figure(burner: subprocess.Popen[str]) -> None:
    meter = Meter([burner.pid])
    burner.kill()
    os.waitid(os.P_PID, burner.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ProcessLookupError):
        meter.read([burner.pid])  # Its parent has not asked for it yet.
    burner.wait()
    with pytest.raises(ProcessLookupError):
        meter.read([burner.pid])


def test_a_process_is_found_by_its_command_line_and_its_age_told(burner: subprocess.Popen[str]) -> None:
    before = age_s(burner.pid)
    assert 0 <= before < 60
    time.sleep(0.1)
    assert age_s(burner.pid) >= before + 0.08
    assert processes_of(command_line(burner.pid)) == [burner.pid]
