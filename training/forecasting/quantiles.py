"""The band of a student, p10 to p90, set on the validation windows.

Split conformal prediction (Vovk et al., 2005), one factor below and one above p50 for every channel
and step ahead: the residual is divided by the student's width (a power of the window's deviation,
times the learned width where there is one), and the factor is the 90 % quantile of these scores.
Windows of one series overlap and drift, so the coverage of 80 % is approximate;
`training.forecasting.evaluate` measures it on later time.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from training.datasets.series import SeriesWindows
from training.forecasting.windows import blocks_of
from training.students.normalise import QUANTILES, Forecaster

__all__ = ["set_band"]


def set_band(student: Forecaster, windows: SeriesWindows) -> None:
    """Set the factors of the band for every channel and step ahead.

    Args:
        student: Trained student; its buffers `below` and `above` change.
        windows: Validation windows: time that it has not learned from.
    """
    lower, upper = _scores(student, windows)
    low, _, high = QUANTILES
    student.below = torch.from_numpy(_quantile(lower, 1 - low))
    student.above = torch.from_numpy(_quantile(upper, high))


def _scores(
    student: Forecaster, windows: SeriesWindows
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distances of the readings below and above p50, in widths, `[n, channels, horizon]`."""
    below, above = [], []
    with torch.no_grad():
        for inputs, targets in blocks_of(windows):
            series = inputs.transpose(1, 2).reshape(-1, inputs.shape[1])
            truth = targets.transpose(1, 2).reshape(-1, targets.shape[1])
            middle, deviation, features = student.forecast(series)
            lower, upper = student.widths(deviation, features)
            shape = (len(inputs), -1, windows.horizon)
            below.append(((middle - truth) / lower).reshape(shape).numpy())
            above.append(((truth - middle) / upper).reshape(shape).numpy())
    return np.concatenate(below), np.concatenate(above)


def _quantile(scores: NDArray[np.float32], level: float) -> NDArray[np.float32]:
    """The smallest score that so many scores, and one future score, don't exceed; at least 0."""
    count = len(scores)
    place = min(count, math.ceil(level * (count + 1))) - 1
    found: NDArray[np.float32] = np.partition(scores, place, axis=0)[place]
    return np.maximum(found, 0).astype(np.float32)
