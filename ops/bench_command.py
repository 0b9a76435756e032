"""``quorate bench``: the benchmark harness."""

from __future__ import annotations

from typing import Final

from cyclopts import App

app: Final = App("bench", help="Measure Quorate and its peers side by side, and read what was measured.")
app.command("ops.bench_run:run", name="run", help="Measure systems, each on clusters of its own, in turn.")
app.command("ops.bench_reading:compare", name="compare", help="Compare two runs, or the systems of one.")
app.command("ops.bench_reading:report", name="report", help="Show runs: tables, or one HTML page with plots.")
