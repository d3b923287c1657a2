"""Measures of scores, and the paired comparison that decides about publishing. Pure numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Comparison",
    "accuracy",
    "calibration_error",
    "calibration_floor",
    "compare_groups",
    "confusion_matrix",
    "group_errors",
    "macro_f1",
    "nasa_score",
    "residual_interval",
    "rmse",
]


def rmse(truth: NDArray[np.int64], rul: NDArray[np.float32]) -> float:
    """Root mean squared error in cycles, `[n]` against `[n]`."""
    return float(np.sqrt(np.mean((rul.astype(np.float64) - truth) ** 2)))


def nasa_score(truth: NDArray[np.int64], rul: NDArray[np.float32]) -> float:
    """Sum of exp(e/10) - 1 for late and exp(-e/13) - 1 for early scores, e = rul - truth.

    >>> nasa_score(np.array([10]), np.array([10.0], dtype=np.float32))
    0.0
    """
    error = rul.astype(np.float64) - truth
    exponent = np.minimum(np.where(error >= 0, error / 10, -error / 13), 14)
    return float(np.sum(np.expm1(exponent)))


def confusion_matrix(
    truth: NDArray[np.int64], winners: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Counts `[classes, classes]`: row is the truth, column the score."""
    return np.bincount(truth * classes + winners, minlength=classes**2).reshape(classes, classes)


def accuracy(truth: NDArray[np.int64], winners: NDArray[np.int64]) -> float:
    """Share of windows whose most probable class is the true one."""
    return float(np.mean(truth == winners))


def macro_f1(truth: NDArray[np.int64], winners: NDArray[np.int64], classes: int) -> float:
    """Unweighted mean of the F1 of the classes that occur in truth or scores.

    >>> macro_f1(np.array([0, 0, 1]), np.array([0, 1, 1]), 6)
    0.6666666666666666
    """
    counts = confusion_matrix(truth, winners, classes)
    hits = np.diag(counts)
    seen = counts.sum(axis=0) + counts.sum(axis=1)
    return float(np.mean(2 * hits[seen > 0] / seen[seen > 0]))


def calibration_error(
    truth: NDArray[np.int64], probabilities: NDArray[np.float32], bins: int = 15
) -> float:
    """Expected calibration error: |accuracy - confidence| over equal bins of the confidence.

    Args:
        truth: `[n]` class index.
        probabilities: `[n, classes]`.
        bins: number of bins; each counts by its share of the windows.

    >>> calibration_error(np.array([0, 1]), np.array([[0.5, 0.5], [0.5, 0.5]], dtype=np.float32))
    0.0
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    hit = (probabilities.argmax(axis=1) == truth).astype(np.float64)
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(places, weights=hit - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(truth))


def calibration_floor(
    probabilities: NDArray[np.float32], draws: int = 200, seed: int = 0
) -> tuple[float, float]:
    """What `calibration_error` says of probabilities that are exactly right, on as few windows.

    Truths are drawn from the probabilities themselves. The error of a finite sample is never zero
    (Kumar, Liang and Ma 2019, "Verified uncertainty calibration").

    Args:
        probabilities: `[n, classes]`.
        draws: of the truths.
        seed: of the draws.

    Returns:
        Mean and 95 % quantile over the draws.

    >>> mean, most = calibration_floor(np.full((100, 2), 0.5, dtype=np.float32))
    >>> 0 < mean < most < 0.2
    True
    """
    chance = np.random.default_rng(seed)
    edges = probabilities.astype(np.float64).cumsum(axis=1)
    edges /= edges[:, -1:]
    errors = [
        calibration_error((chance.random((len(edges), 1)) > edges).sum(axis=1), probabilities)
        for _ in range(draws)
    ]
    return float(np.mean(errors)), float(np.quantile(errors, 0.95))


def residual_interval(
    truth: NDArray[np.int64], rul: NDArray[np.float32], level: float
) -> tuple[float, float]:
    """Quantiles (low, high) of truth - rul, so that truth lies in [rul+low, rul+high] at `level`.

    They must come from groups the student has not learned from.
    """
    tail = (1 - level) / 2
    low, high = np.quantile(truth - rul.astype(np.float64), [tail, 1 - tail])
    return float(low), float(high)


def group_errors(
    task: str, truth: NDArray[np.int64], scored: NDArray[np.float32], groups: NDArray[np.int64]
) -> dict[int, float]:
    """Error of each group (engine, person), smaller is better.

    Mean squared error for `rul` (`scored` is `[n]` cycles), share of wrong windows for `activity`
    (`scored` is `[n, classes]` probabilities).
    """
    wrong = (scored - truth) ** 2 if task == "rul" else scored.argmax(axis=1) != truth
    return {int(group): float(np.mean(wrong[groups == group])) for group in np.unique(groups)}


@dataclass(frozen=True, slots=True)
class Comparison:
    """New against running student on the same held-out groups.

    Attributes:
        gain: mean over groups of (error of running - error of new); positive favours the new one.
        low: lower end of the 90 % paired bootstrap interval of the gain, groups resampled.
        high: upper end.
        wins: groups in which the new student has the smaller error.
        groups: groups compared.
    """

    gain: float
    low: float
    high: float
    wins: int
    groups: int

    @property
    def is_better(self) -> bool:
        """The rule for publishing: the whole interval lies above zero."""
        return self.low > 0


def compare_groups(
    running: dict[int, float], new: dict[int, float], *, resamples: int = 10_000
) -> Comparison:
    """Compare two students by their `group_errors` on the same groups.

    Raises:
        ValueError: the groups differ.
    """
    if running.keys() != new.keys():
        msg = f"errors of different groups: {sorted(running)} and {sorted(new)}"
        raise ValueError(msg)
    gains = np.array([running[group] - new[group] for group in sorted(running)])
    draws = np.random.default_rng(0).integers(0, len(gains), (resamples, len(gains)))
    low, high = np.quantile(gains[draws].mean(axis=1), [0.05, 0.95])
    return Comparison(
        float(gains.mean()), float(low), float(high), int((gains > 0).sum()), len(gains)
    )
