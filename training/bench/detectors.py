"""Detectors of odd readings for the anomaly benchmark: a student, and what it must beat.

Every detector scores each reading of a device from that reading and those before it, so all could
run on a gateway; a larger score is odder. None sees the test part while it is fitted.

The baselines are the classical ones of the field: the residual of a seasonal-naive forecast, an
isolation forest (Liu et al., ICDM 2008; scikit-learn) on the newest readings, and the matrix
profile as a distance to everything in training (Yeh et al., ICDM 2016: an AB-join of z-normalised
subsequences, exact, by matrix products).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from models.session import Student
from models.tasks.quantiles import ForecastScores
from training.errors import DataSetError, MissingExtraError

__all__ = [
    "Detector",
    "fit_isolation_forest",
    "fit_matrix_profile",
    "fit_seasonal_naive",
    "student_detector",
]

Detector = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""Scores readings `[readings, channels]` in raw units: `[readings]`, nan where the history is too
short."""

_FOREST_WINDOWS = 4096
_BATCH = 512


def student_detector(student: Student) -> Detector:
    """The anomaly score of a forecasting student, as a gateway gives it.

    Raises:
        DataSetError: The student does not forecast.
    """
    length = student.manifest.window.length

    def detect(readings: NDArray[np.float32]) -> NDArray[np.float64]:
        found = np.full(len(readings), np.nan)
        windows = _windows(readings, length)
        for at in range(0, len(windows), _BATCH):
            scores = student.score(np.ascontiguousarray(windows[at : at + _BATCH]))
            if not isinstance(scores, ForecastScores):
                msg = f"{student.manifest.name} gives no anomaly score: choose a forecast student"
                raise DataSetError(msg)
            place = slice(at + length - 1, at + length - 1 + len(scores))
            found[place] = np.where(scores.valid, scores.score, np.nan)
        return found

    return detect


def fit_seasonal_naive(training: NDArray[np.float32], *, period: int, steps: int) -> Detector:
    """Mean distance of the newest `steps` readings from those a season before.

    In deviations of these distances in training; the channel with the largest one counts.
    """
    spread = np.abs(training[period:] - training[:-period]).mean(axis=0, dtype=np.float64)
    spread = np.where(spread > 0, spread, np.inf)

    def detect(readings: NDArray[np.float32]) -> NDArray[np.float64]:
        found = np.full(len(readings), np.nan)
        distance = np.abs(readings[period:].astype(np.float64) - readings[:-period]) / spread
        if len(distance) >= steps:
            found[period + steps - 1 :] = (
                sliding_window_view(distance, steps, axis=0).mean(axis=2).max(axis=1)
            )
        return found

    return detect


def fit_isolation_forest(training: NDArray[np.float32], *, steps: int, seed: int) -> Detector:
    """Isolation forest on the newest `steps` readings of all channels and their differences.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.ensemble import IsolationForest
    except ImportError as exc:
        module = "scikit-learn"
        raise MissingExtraError(module) from exc
    mean, spread = training.mean(axis=0), training.std(axis=0)
    spread = np.where(spread > 0, spread, 1)

    def features(readings: NDArray[np.float32]) -> NDArray[np.float32]:
        scaled = _windows((readings - mean) / spread, steps)
        table: NDArray[np.float32] = np.concatenate(
            [scaled.reshape(len(scaled), -1), np.diff(scaled, axis=1).reshape(len(scaled), -1)],
            axis=1,
        )
        return table

    table = features(training)
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(table))[:_FOREST_WINDOWS]
    model: Any = IsolationForest(n_estimators=200, random_state=seed).fit(table[chosen])

    def detect(readings: NDArray[np.float32]) -> NDArray[np.float64]:
        found = np.full(len(readings), np.nan)
        if len(readings) >= steps:
            found[steps - 1 :] = -model.score_samples(features(readings))
        return found

    return detect


def fit_matrix_profile(training: NDArray[np.float32], *, length: int) -> Detector:
    """Distance of the newest `length` readings to the nearest subsequence in training.

    z-normalised, per channel; the channel with the largest distance counts. A subsequence that
    stands still is nearest to one that stands still too, and as far from all others as one that is
    not correlated.
    """
    known = [
        _normalised(_windows(training[:, c : c + 1], length)[..., 0])
        for c in range(training.shape[1])
    ]

    def detect(readings: NDArray[np.float32]) -> NDArray[np.float64]:
        found = np.full(len(readings), np.nan)
        if len(readings) < length:
            return found
        farthest = np.zeros(len(readings) - length + 1)
        for channel, (rows, has_still) in enumerate(known):
            asked, _ = _normalised(_windows(readings[:, channel : channel + 1], length)[..., 0])
            for at in range(0, len(asked), _BATCH):
                part = asked[at : at + _BATCH]
                nearest = (part @ rows.T).max(axis=1).astype(np.float64)
                if has_still:
                    nearest[~part.any(axis=1)] = 1
                distance = np.sqrt(np.maximum(2 * length * (1 - nearest), 0))
                place = slice(at, at + len(part))
                farthest[place] = np.maximum(farthest[place], distance)
        found[length - 1 :] = farthest
        return found

    return detect


def _windows(readings: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """All windows `[n, length, channels]`; none for a shorter series."""
    if len(readings) < length:
        return np.empty((0, length, readings.shape[1]), dtype=np.float32)
    windows = sliding_window_view(readings, length, axis=0).transpose(0, 2, 1)
    return np.asarray(windows, dtype=np.float32)


def _normalised(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], bool]:
    """Rows of mean 0 and length 1, zeros for those that stand still, and whether one does."""
    moved = rows - rows.mean(axis=1, keepdims=True)
    size = np.linalg.norm(moved, axis=1, keepdims=True)
    still = size[:, 0] <= 1e-6 * (np.abs(rows).max(axis=1) + 1e-12)
    scaled = np.where(still[:, None], 0, moved / np.where(size > 0, size, 1))
    return scaled.astype(np.float32), bool(still.any())
