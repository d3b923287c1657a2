"""The latency histogram, with an injected clock."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stage import Latency
from pipeline.status.counters import LatencySummary


@given(st.lists(st.floats(0.02, 1e6), min_size=1, max_size=200))
def test_percentiles_are_within_a_bucket_of_the_exact_ones(values: list[float]) -> None:
    latency = Latency()
    for part in np.array_split(np.array(values), 3):
        latency.record(part, steady_ms=0)
    summary = latency.summary(steady_ms=0)
    for share, got in ((0.5, summary.p50_ms), (0.99, summary.p99_ms)):
        exact = sorted(values)[max(1, math.ceil(len(values) * share)) - 1]
        assert got is not None
        assert exact * 0.999 <= got <= exact * 1.045
    assert summary.max_ms == max(values)


def test_old_latencies_fall_out_of_the_horizon() -> None:
    latency = Latency(horizon_ms=60_000)
    latency.record(np.array([1_000.0]), steady_ms=0)
    latency.record(np.array([-5, -5, 0]), steady_ms=59_000)
    assert latency.summary(59_000).count == 4
    assert latency.summary(61_000).max_ms == 0.0
    assert latency.summary(200_000) == LatencySummary()
