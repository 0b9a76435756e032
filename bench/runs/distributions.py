"""Distributions of latencies, of all repeats of a load together."""

from __future__ import annotations

from collections.abc import Iterable
from math import log10
from typing import Any, Final

from hdrh.histogram import HdrHistogram

from bench.runs.results import Measurement

STEPS: Final = 60


def distribution(measurements: Iterable[Measurement]) -> Any | None:
    """One histogram, of microseconds; None unless all of them have one. Raises ValueError for one that cannot
    be decoded."""
    whole: Any = None
    for one in measurements:
        if one.load.latencies is None:
            return None
        try:
            histogram = HdrHistogram.decode(one.load.latencies)
        except Exception as error:  # the library's own errors have no other base
            reason = str(error) or type(error).__name__
            raise ValueError(
                f"the latencies of {one.subject}, {one.shape.workload} cannot be decoded: {reason}"
            ) from error
        if whole is None:
            whole = histogram
        else:
            whole.add(histogram)
    return whole


def nines(histogram: Any) -> list[tuple[float, float]]:
    """How slow each part of the calls is at least: pairs of how many nines the part's complement has (1 is
    90 %, 2 is 99 %), and milliseconds. As far as the number of calls tells."""
    furthest = log10(max(histogram.get_total_count(), 10))
    places = [furthest * step / STEPS for step in range(STEPS + 1)]
    values = histogram.get_percentile_to_value_dict([100 - 100 / 10**at for at in places])
    return [(at, value / 1e3) for at, value in zip(places, values.values(), strict=True)]
