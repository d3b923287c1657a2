"""Uncertainty that keeps its word on engines and people a student has not learned from. Pure numpy.

All scores that come in here are of held-out groups (or out of fold): of windows the student that
gave them has not seen, nor their neighbours.

**RUL**: a split conformal interval whose width follows the score. The exchangeable unit is the
engine, not the window: neighbouring windows share all but one reading, so 4000 windows of 20
engines say little more than 20 engines. Every engine weighs the same, and its windows share its
weight, because the product scores every window of an engine (hierarchical conformal prediction,
Lee, Barber and Willett 2023). Then a window drawn at random from a new engine is covered with at
least the level. That the promise also holds about a given score, and so for the one window per
engine of an official test, rests on the shape: it is fitted to the residuals around every score.

**Activities**: one temperature for the logits, folded into the graph, and when a window is of no
known activity: it is too far from all of them, or no probability is large enough.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.tasks.classes import Unknown
from models.tasks.interval import Interval, IntervalTable

__all__ = [
    "LEVEL",
    "REJECTS",
    "fit_doubt",
    "fit_interval",
    "fit_temperature",
    "group_weights",
    "interval_ends",
    "share_inside",
    "temper",
    "weighted_quantile",
]

LEVEL = 0.9
REJECTS = 0.05
_FAR = 0.2
_KNOTS = 11
_REACH = 10.0  # cycles: how far from a knot residuals count for it (a Gaussian's deviation)
_NARROWEST = 1.0  # cycles
_FOLDS = 5
_SMALL = 1e-12

_Shape = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def group_weights(groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weights of windows, sum 1: every group the same, shared by its windows.

    >>> group_weights(np.array([1, 1, 2])).tolist()
    [0.25, 0.25, 0.5]
    """
    _, members, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(1 / (len(counts) * counts[members]), dtype=np.float64)


def fit_interval(
    truth: NDArray[np.int64],
    rul: NDArray[np.float32],
    groups: NDArray[np.int64],
    *,
    max_rul: float,
    level: float = LEVEL,
) -> Interval:
    """Calibrate the interval of RUL scores.

    The shape (lower and upper end as functions of the score) is how far truths lie below and above
    the scores around. The factor that stretches it is the conformal quantile of how much of the
    shape each residual needs, where the shape comes from the engines of other folds.

    Args:
        truth: `[n]` RUL in cycles, capped.
        rul: `[n]` scores in cycles, of engines the student has not learned from.
        groups: `[n]` engines.
        max_rul: upper end of the scores.
        level: wanted share of covered windows of a new engine. With fewer than
            level / (1 - level) engines no finite interval can promise it; the widest seen is taken.

    Returns:
        The interval; its `low` and `high` are plain quantiles over all scores, for readers that
        do not know the table.
    """
    residual = np.asarray(truth - rul.astype(np.float64), dtype=np.float64)
    names = np.unique(groups)
    need = np.zeros(len(residual))
    folds = np.array_split(np.random.default_rng(0).permutation(names), min(_FOLDS, len(names)))
    for fold in folds:
        is_out = np.isin(groups, fold)
        known = ~is_out if len(folds) > 1 else is_out
        shape = _fit_shape(residual[known], rul[known], groups[known], max_rul, level)
        need[is_out] = _need(residual[is_out], rul[is_out], shape)
    # A new engine, of which nothing is known, weighs as much as each of those seen.
    seen = len(names) / (len(names) + 1)
    factor = weighted_quantile(need, group_weights(groups), min(level / seen, 1.0))
    knots, low, high = _fit_shape(residual, rul, groups, max_rul, level)
    tail = (1 - level) / 2
    weights = group_weights(groups)
    return Interval(
        level=level,
        low=round(weighted_quantile(residual, weights, tail), 3),
        high=round(weighted_quantile(residual, weights, 1 - tail), 3),
        table=IntervalTable(
            rul=tuple(knots.tolist()),
            low=tuple(np.round(np.minimum(factor * low, -_NARROWEST), 3).tolist()),
            high=tuple(np.round(np.maximum(factor * high, _NARROWEST), 3).tolist()),
        ),
    )


def interval_ends(
    interval: Interval, rul: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper ends `[n]` of scores, not clipped to the range of the scores."""
    table = interval.table
    if table is None:
        wide = rul.astype(np.float64)
        return wide + interval.low, wide + interval.high
    low, high = _ends((np.array(table.rul), np.array(table.low), np.array(table.high)), rul)
    return rul + low, rul + high


def share_inside(
    interval: Interval,
    truth: NDArray[np.int64],
    rul: NDArray[np.float32],
    groups: NDArray[np.int64],
) -> float:
    """Share of truths inside their interval; every group weighs the same."""
    low, high = interval_ends(interval, rul)
    return float(group_weights(groups)[(low <= truth) & (truth <= high)].sum())


def fit_temperature(truth: NDArray[np.int64], probabilities: NDArray[np.float32]) -> float:
    """The temperature that makes the held-out labels likeliest, between 1/4 and 4.

    Args:
        truth: `[n]` class index.
        probabilities: `[n, classes]` of groups the student has not learned from.
    """
    steps = np.exp(np.linspace(math.log(0.25), math.log(4.0), 200))
    rows = np.arange(len(truth))
    costs = [
        -np.log(np.maximum(temper(probabilities, float(step))[rows, truth], _SMALL)).mean()
        for step in steps
    ]
    return float(steps[int(np.argmin(costs))])


def temper(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Probabilities as a graph gives them whose logits are divided by `temperature`.

    >>> temper(np.array([[0.8, 0.2]], dtype=np.float32), 2.0).round(3).tolist()
    [[0.667, 0.333]]
    """
    logits = np.log(np.maximum(probabilities.astype(np.float64), 1e-30)) / temperature
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def fit_doubt(
    probabilities: NDArray[np.float32],
    distances: NDArray[np.float32],
    groups: NDArray[np.int64],
    rejects: float = REJECTS,
) -> tuple[float, Unknown]:
    """From when on a window is of no known activity: too far, or named with too little certainty.

    Of the windows of known activities that may be rejected, a fifth are the farthest. More would
    catch a little more of the unknown, and take back probabilities that are right.

    Args:
        probabilities: `[n, classes]` of known activities of people the student has not learned
            from, tempered as the graph tempers them.
        distances: `[n]` of these windows to the nearest activity
            (`training.uncertainty.out_of_distribution`).
        groups: `[n]` people; each weighs the same.
        rejects: share of windows of known activities that may be called unknown.

    Returns:
        The distance from which on windows are unknown, and the threshold of the largest
        probability, under which the graph brings them
        (`training.uncertainty.out_of_distribution.hold_back`).
    """
    weights = group_weights(groups)
    reach = weighted_quantile(distances.astype(np.float64), weights, 1 - _FAR * rejects)
    reach = max(reach, _SMALL)
    largest = probabilities.max(axis=1).astype(np.float64)
    largest[distances >= reach] = 0.0
    least = 1 / probabilities.shape[1] + 1e-3
    threshold = float(np.clip(weighted_quantile(largest, weights, rejects), least, 1 - 1e-3))
    threshold = round(threshold, 4)
    rejected = float(weights[largest < threshold].sum())
    return reach, Unknown(threshold=threshold, rejects=rejected)


def weighted_quantile(
    values: NDArray[np.float64], weights: NDArray[np.float64], share: float
) -> float:
    """The smallest value up to which values hold at least `share` of the weight.

    >>> weighted_quantile(np.array([3.0, 1.0, 2.0]), np.ones(3) / 3, 0.5)
    2.0
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum()
    place = int(np.searchsorted(reached, share - _SMALL))
    return float(values[order[min(place, len(order) - 1)]])


def _fit_shape(
    residual: NDArray[np.float64],
    rul: NDArray[np.float32],
    groups: NDArray[np.int64],
    max_rul: float,
    level: float,
) -> _Shape:
    """Knots, and how far truths lie below and above the scores around them; low < 0 < high.

    The two sides are root mean squares: quantiles of each side would be luck with few engines. One
    quantile of both together then brings every knot to the level.
    """
    weights, knots = group_weights(groups), np.linspace(0, max_rul, _KNOTS)
    near = np.exp(-0.5 * ((rul[None] - knots[:, None]) / _REACH) ** 2) + _SMALL
    local = weights * near / (weights * near).sum(axis=1, keepdims=True)
    low = np.minimum(-np.sqrt(local @ np.minimum(residual, 0) ** 2), -_NARROWEST)
    high = np.maximum(np.sqrt(local @ np.maximum(residual, 0) ** 2), _NARROWEST)
    need = _need(residual, rul, (knots, low, high))
    factor = np.array([weighted_quantile(need, row, level) for row in local])
    return knots, np.minimum(low * factor, -_NARROWEST), np.maximum(high * factor, _NARROWEST)


def _need(
    residual: NDArray[np.float64], rul: NDArray[np.float32], shape: _Shape
) -> NDArray[np.float64]:
    """How much of the shape each residual takes; up to 1 it lies inside."""
    low, high = _ends(shape, rul)
    return np.maximum(residual / high, residual / low)


def _ends(
    shape: _Shape, rul: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    knots, low, high = shape
    return np.interp(rul, knots, low), np.interp(rul, knots, high)
