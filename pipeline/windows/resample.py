"""The rate of a stream, measured from its event times. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["measured_rate"]


def measured_rate(ts_ms: NDArray[np.int64]) -> float | None:
    """Readings per second of ascending event times; None of fewer than three.

    >>> measured_rate(np.array([0, 20, 40, 60, 9000, 9020]))
    50.0
    """
    if len(ts_ms) < 3:
        return None
    steps = np.diff(ts_ms)
    usual = steps[steps <= 3 * np.median(steps)]
    return 1000 / float(usual.mean())
