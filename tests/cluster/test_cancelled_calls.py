"""Random cancellations against real processes leave the primitives as if the calls had never been made."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.devprocess import ROOT, Dev, environment

pytestmark = pytest.mark.cluster


def test_cancelled_calls_leave_a_clusters_primitives_as_if_never_called() -> None:
    with Dev(nodes=3) as dev:
        dev.wait_until_ready()
        done = subprocess.run(
            [sys.executable, "-m", "bench.cancellations", "--url", f"quorate://{dev.address}",
             "--count", "1500"],
            cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing is left of them" in done.stdout
