"""Measures that are independent of tasks: calibration, intervals, comparison before publishing.

The measures of a task (RMSE, macro-F1, ...) are in its file under `models/tasks/`. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.tasks.contract import Task

__all__ = [
    "MEASURE_TITLES",
    "Comparison",
    "Rival",
    "bootstrap_95",
    "calibration_error",
    "calibration_floor",
    "columns_by_label",
    "compare_groups",
    "group_errors",
    "harmonic_mean",
    "judge_rival",
    "noise_of_gain",
    "residual_interval",
]

MEASURE_TITLES = {
    "rmse": "RMSE",
    "nasa_score": "NASA score",
    "macro_f1": "macro-F1",
    "accuracy": "accuracy",
    "interval_coverage": "90 % interval covers",
    "calibration_error": "ECE",
}
"""Measures by key, as tables and plots name them; a measure without a title keeps its key."""


def calibration_error(
    truth: NDArray[np.int64], probabilities: NDArray[np.float32], bins: int = 15
) -> float:
    """Expected calibration error: |accuracy - confidence| over equal bins of the confidence.

    Args:
        truth: Class index `[n]`.
        probabilities: Probabilities `[n, classes]`.
        bins: Number of bins; each counts by its share of the windows.

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
    """The `calibration_error` of exact probabilities on the same number of windows.

    Truths are drawn from the probabilities themselves. The error of a finite sample is never zero
    (Kumar, Liang and Ma 2019, "Verified uncertainty calibration").

    Args:
        probabilities: Probabilities `[n, classes]`.
        draws: Number of draws of the truths.
        seed: Seed of the draws.

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


def columns_by_label(
    scores: NDArray[np.float32], own: Sequence[str], wanted: Sequence[str]
) -> NDArray[np.float32]:
    """Arrange class probabilities in the order of other labels, by name.

    Args:
        scores: Probabilities `[n, classes]`, or numbers `[n]` if there are no labels.
        own: Labels of the columns; empty for numbers.
        wanted: Labels in the order of the result; empty for numbers.

    Returns:
        Probabilities `[n, classes]`: first those of `wanted`, 0 for a class that `own` lacks, then
        those of the classes that only `own` has, so that they stay wrong answers.

    >>> columns_by_label(np.array([[0.5, 0.2, 0.3]], dtype=np.float32), "abc", "dba").tolist()
    [[0.0, 0.20000000298023224, 0.5, 0.30000001192092896]]
    """
    if tuple(own) == tuple(wanted):
        return scores
    labels = [*wanted, *(label for label in own if label not in wanted)]
    arranged = np.zeros((len(scores), len(labels)), dtype=np.float32)
    for place, label in enumerate(own):
        arranged[:, labels.index(label)] = scores[:, place]
    return arranged


def residual_interval(
    truth: NDArray[np.int64], rul: NDArray[np.float32], level: float
) -> tuple[float, float]:
    """Quantiles (low, high) of truth - rul: truth lies in [rul+low, rul+high] at `level`.

    The scores must come from groups that the student has not learned from.
    """
    tail = (1 - level) / 2
    low, high = np.quantile(truth - rul.astype(np.float64), [tail, 1 - tail])
    return float(low), float(high)


def bootstrap_95(values: NDArray[np.float64]) -> tuple[float, float]:
    """Compute the 95 % interval of the mean of values `[n]` by bootstrap, with a fixed seed."""
    random = np.random.default_rng(0)
    means = random.choice(values, (4000, len(values))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def harmonic_mean(one: float, other: float) -> float:
    """Compute the harmonic mean of two shares, which is 0 if either is.

    >>> harmonic_mean(0.5, 1.0), harmonic_mean(0.0, 0.0)
    (0.6666666666666666, 0.0)
    """
    return 2 * one * other / (one + other) if one + other else 0.0


def group_errors(errors: NDArray[np.float64], groups: NDArray[np.int64]) -> dict[int, float]:
    """Mean error of each group (engine, person), smaller is better.

    Args:
        errors: Error of each window `[n]`; see `window_errors` of `models.tasks.contract.Answer`.
        groups: Group of each window `[n]`.
    """
    return {int(group): float(np.mean(errors[groups == group])) for group in np.unique(groups)}


@dataclass(frozen=True, slots=True)
class Comparison:
    """The new student against the running one on the same held-out groups.

    Attributes:
        gain: Mean over groups of (error of running - error of new); positive favours the new one.
        low: Lower end of the 90 % paired bootstrap interval of the gain, groups resampled.
        high: Upper end of that interval.
        wins: Number of groups in which the new student has the smaller error.
        groups: Number of groups compared.
    """

    gain: float
    low: float
    high: float
    wins: int
    groups: int

    @property
    def is_better(self) -> bool:
        """Whether the whole interval lies above zero, which is the rule for publishing."""
        return self.low > 0


@dataclass(frozen=True, slots=True)
class Rival:
    """Another forecast or student, and how far the new one is ahead of it.

    Attributes:
        name: Name for tables.
        comparison: Comparison of the errors by held-out groups.
        measures: Its measures.
        value: Its headline measure.
        gain: By how much the headline measure of the new student is better; negative if it is not.
        noise: Standard error of that gain; see `noise_of_gain`.
    """

    name: str
    comparison: Comparison
    measures: dict[str, float]
    value: float
    gain: float
    noise: float


def judge_rival(
    task: Task,
    name: str,
    truth: NDArray[Any],
    scores: tuple[NDArray[np.float32], NDArray[np.float32]],
    groups: NDArray[np.int64],
) -> Rival:
    """Compare a rival with the new student on the same held-out windows.

    Args:
        task: Gives errors and measures.
        name: Name of the rival for tables.
        truth: Truth of each window `[n]`.
        scores: Scores of the rival and of the new student: numbers `[n]`, or probabilities
            `[n, classes]` whose first columns are those of the truth's classes.
        groups: Group of each window `[n]`.
    """
    old, new = (group_errors(task.answer.window_errors(truth, each), groups) for each in scores)
    sign = 1 if task.headline.better == "smaller" else -1

    def gain(rows: NDArray[np.int64] | slice) -> float:
        before, after = (task.headline.compute(truth[rows], each[rows]) for each in scores)
        return sign * (before - after)

    measures = task.measure(truth, scores[0])
    value = measures[task.headline.name]
    noise = noise_of_gain(gain, groups)
    return Rival(name, compare_groups(old, new), measures, value, gain(slice(None)), noise)


def noise_of_gain(
    gain: Callable[[NDArray[np.int64]], float], groups: NDArray[np.int64], resamples: int = 200
) -> float:
    """Standard error of a gain on held-out groups: the groups are drawn again and again.

    Args:
        gain: Gain on some windows, by their places.
        groups: Group of each window `[n]`.
        resamples: Number of draws.
    """
    places = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    draws = np.random.default_rng(0).integers(0, len(places), (resamples, len(places)))
    return float(np.std([gain(np.concatenate([places[at] for at in draw])) for draw in draws]))


def compare_groups(
    running: dict[int, float], new: dict[int, float], *, resamples: int = 10_000
) -> Comparison:
    """Compare two students by their `group_errors` on the same groups.

    Raises:
        ValueError: The groups differ.
    """
    if running.keys() != new.keys():
        msg = f"cannot compare errors of different groups: {sorted(running)} and {sorted(new)}"
        raise ValueError(msg)
    gains = np.array([running[group] - new[group] for group in sorted(running)])
    draws = np.random.default_rng(0).integers(0, len(gains), (resamples, len(gains)))
    low, high = np.quantile(gains[draws].mean(axis=1), [0.05, 0.95])
    return Comparison(
        float(gains.mean()), float(low), float(high), int((gains > 0).sum()), len(gains)
    )
