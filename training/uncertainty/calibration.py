"""The mathematics of calibration, for groups a student has not learned from. Pure numpy.

All scores here belong to held-out groups (or are out of fold): the student that gave them has seen
neither these windows nor their neighbours.

**Numbers (RUL)**: a split conformal interval whose width follows the score. The exchangeable unit
is the engine, not the window: neighbouring windows share all but one reading, so 4000 windows of 20
engines carry little more information than 20 engines. Every engine has the same weight, shared by
its windows, because the product scores every window of an engine (hierarchical conformal
prediction, Lee, Barber and Willett 2023). A random window of a new engine is then covered with at
least the level. The shape is fitted to the residuals around every score, so that the promise also
holds for a given score.

Which windows: those of the last part of each life (`late_windows`), because a window long before
the end, whose truth is the cap, is easier, and an official test stops engines in the last part.
Windows in which operating settings switch have a table of their own, where enough engines show
them: a student errs more there, and one table for both would cover too much of the one and too
little of the other.

**Classes (activities)**: one temperature for the logits and one share of doubt, folded into the
graph, and the rule for a window of no known class: it is too far from all of them, or no
probability is large enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.tasks.classes import Unknown
from models.tasks.number import Interval, IntervalTable, Switching

__all__ = [
    "LEVEL",
    "REJECTS",
    "OperatingSettings",
    "cross_coverage",
    "fit_interval",
    "fit_interval_by_settings",
    "fit_tempering",
    "fit_unknown",
    "group_weights",
    "interval_ends",
    "late_windows",
    "temper",
    "weighted_quantile",
]

LEVEL = 0.9
"""Share of truths that an interval covers."""
REJECTS = 0.05
"""Share of windows of known classes that may be called unknown."""
_FAR = 0.2  # of the rejected windows: the share rejected for their distance
_KNOTS = 11
_KERNEL = 10.0  # cycles: deviation of the Gaussian weights of residuals around a knot
_NARROWEST = 1.0  # cycles
_FOLDS = 5
_LATE = 0.2  # of the windows below the cap: the share of windows at the cap that are late too
_FEWEST_ENGINES = 40  # with settings that switch, and as many with settings that do not
_SMALL = 1e-12
_DOUBTS = np.concatenate([[0.0], np.geomspace(0.001, 0.2, 40)])

_Shape = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def group_weights(groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weight windows, sum 1: the same weight for every group, shared by its windows.

    >>> group_weights(np.array([1, 1, 2])).tolist()
    [0.25, 0.25, 0.5]
    """
    _, members, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(1 / (len(counts) * counts[members]), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class OperatingSettings:
    """The operating settings of windows; see `models.tasks.number.Switching`.

    Attributes:
        channels: Places of the settings among the channels.
        spreads: Spread of each setting from which a window switches.
        switches: `[n]` which windows do.
    """

    channels: tuple[int, ...]
    spreads: tuple[float, ...]
    switches: NDArray[np.bool_]

    def where(self, chosen: NDArray[np.bool_]) -> OperatingSettings:
        """Return those of some of the windows."""
        return replace(self, switches=self.switches[chosen])


def late_windows(
    truth: NDArray[np.int64], groups: NDArray[np.int64], max_rul: float
) -> NDArray[np.bool_]:
    """Tell which windows are in the last part of a life, `[n]`.

    These are all windows below the cap, and the last ones at the cap: a fifth as many, e.g. 25 of
    125. Engines that are never below the cap are late as a whole, as nothing is known of their end.

    Args:
        truth: Truths `[n]`, capped at `max_rul`; those of an engine in the order of time.
        groups: Engines `[n]`.
        max_rul: The cap.

    >>> late_windows(np.array([9, 9, 9, 8, 7, 6, 5, 4]), np.zeros(8, int), 9).tolist()
    [False, False, True, True, True, True, True, True]
    """
    late = truth < max_rul
    for group in np.unique(groups):
        at = np.flatnonzero(groups == group)
        capped = at[truth[at] >= max_rul]
        below = len(at) - len(capped)
        late[capped[len(capped) - math.ceil(_LATE * below) :] if below else capped] = True
    return late


def fit_interval_by_settings(
    truth: NDArray[np.int64],
    rul: NDArray[np.float32],
    groups: NDArray[np.int64],
    settings: OperatingSettings | None,
    *,
    max_rul: float,
    level: float = LEVEL,
) -> Interval:
    """Calibrate the interval, with a table for windows whose operating settings switch.

    Arguments as for `fit_interval`. Without settings, or with fewer than forty engines that show
    windows of one kind, there is one table for all.
    """
    whole = fit_interval(truth, rul, groups, max_rul=max_rul, level=level)
    if settings is None:
        return whole
    kinds = (~settings.switches, settings.switches)
    if min(len(np.unique(groups[kind])) for kind in kinds) < _FEWEST_ENGINES:
        return whole
    steady, switching = (
        fit_interval(truth[kind], rul[kind], groups[kind], max_rul=max_rul, level=level).table
        for kind in kinds
    )
    if switching is None:
        return whole
    there = Switching(channels=settings.channels, spreads=settings.spreads, table=switching)
    return whole.model_copy(update={"table": steady, "switching": there})


def cross_coverage(
    truth: NDArray[np.int64],
    rul: NDArray[np.float32],
    groups: NDArray[np.int64],
    settings: OperatingSettings | None,
    *,
    max_rul: float,
    level: float = LEVEL,
) -> NDArray[np.bool_]:
    """Tell which truths lie inside intervals that were calibrated on engines of other folds, `[n]`.

    All windows are judged, and only the late ones calibrate; arguments as for `fit_interval`.
    """
    late, inside = late_windows(truth, groups, max_rul), np.zeros(len(truth), np.bool_)
    names = np.unique(groups)
    folds = np.array_split(np.random.default_rng(0).permutation(names), min(_FOLDS, len(names)))
    for fold in folds:
        is_out = np.isin(groups, fold)
        known = late & (~is_out if len(folds) > 1 else is_out)
        interval = fit_interval_by_settings(
            truth[known],
            rul[known],
            groups[known],
            None if settings is None else settings.where(known),
            max_rul=max_rul,
            level=level,
        )
        switches = None if settings is None else settings.switches[is_out]
        low, high = interval_ends(interval, rul[is_out], switches)
        found = (low.clip(0, max_rul) <= truth[is_out]) & (truth[is_out] <= high.clip(0, max_rul))
        inside[is_out] = found
    return inside


def fit_interval(
    truth: NDArray[np.int64],
    rul: NDArray[np.float32],
    groups: NDArray[np.int64],
    *,
    max_rul: float,
    level: float = LEVEL,
) -> Interval:
    """Calibrate the interval of numbers such as RUL.

    The shape (lower and upper end as functions of the score) is the distance of truths below and
    above scores of this size. The factor that stretches it is the conformal quantile of the share
    of the shape that each residual needs, where the shape comes from the engines of other folds.

    Args:
        truth: Truths `[n]`, e.g. RUL in cycles, capped.
        rul: Scores `[n]` of engines the student has not learned from.
        groups: Engines `[n]`.
        max_rul: Upper end of the scores.
        level: Required share of covered windows of a new engine. With fewer than
            level / (1 - level) engines no finite interval can promise it; the largest need is then
            the factor.

    Returns:
        The interval; its `low` and `high` are plain quantiles over all scores, for readers that do
        not support the table.
    """
    residual = np.asarray(truth - rul.astype(np.float64), dtype=np.float64)
    weights, count = group_weights(groups), len(np.unique(groups))
    # A new engine has the same weight as each engine seen.
    seen = count / (count + 1)
    need = _need_out_of_fold(residual, rul, groups, max_rul, level)
    factor = weighted_quantile(need, weights, min(level / seen, 1.0))
    knots, low, high = _fit_shape(residual, rul, groups, max_rul, level)
    tail = (1 - level) / 2
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
    interval: Interval,
    rul: NDArray[np.float32],
    switches: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute lower and upper ends `[n]` in float64, not clipped to the range of the scores.

    Args:
        interval: Interval of a manifest.
        rul: Scores `[n]`.
        switches: Whether the operating settings of each window switch, `[n]`; None: of no window.
    """
    if interval.table is None:
        wide = rul.astype(np.float64)
        return wide + interval.low, wide + interval.high
    low, high = _ends(_shape_of(interval.table), rul)
    if interval.switching is not None and switches is not None:
        others = _ends(_shape_of(interval.switching.table), rul)
        low, high = np.where(switches, others[0], low), np.where(switches, others[1], high)
    return rul + low, rul + high


def fit_tempering(
    truth: NDArray[np.int64], probabilities: NDArray[np.float32]
) -> tuple[float, float]:
    """Find the temperature and the doubt with the largest likelihood of the held-out labels.

    A student that is nearly always right, and now and then wrong with certainty, has no good
    temperature: one that is right for the few makes the many too doubtful. The doubt takes the few.

    Args:
        truth: Class indices `[n]`.
        probabilities: Probabilities `[n, classes]` of groups the student has not learned from.

    Returns:
        Temperature from 1/4 to 4, and the share of equal probabilities from 0 to 0.2; see `temper`.
    """
    rows, classes = np.arange(len(truth)), probabilities.shape[1]
    best = (math.inf, 1.0, 0.0)
    for step in np.exp(np.linspace(math.log(0.25), math.log(4.0), 200)):
        hit = temper(probabilities, float(step))[rows, truth]
        for doubt in _DOUBTS:
            cost = -np.log(np.maximum(hit * (1 - doubt) + doubt / classes, _SMALL)).mean()
            best = min(best, (float(cost), float(step), float(doubt)))
    return best[1], best[2]


def temper(
    probabilities: NDArray[np.float32], temperature: float, doubt: float = 0.0
) -> NDArray[np.float64]:
    """Divide the logits behind probabilities, and mix them with equal ones, as the graph does.

    >>> temper(np.array([[0.8, 0.2]], dtype=np.float32), 2.0).round(3).tolist()
    [[0.667, 0.333]]
    >>> temper(np.array([[0.8, 0.2]], dtype=np.float32), 1.0, 0.1).round(3).tolist()
    [[0.77, 0.23]]

    Args:
        probabilities: Probabilities `[n, classes]`.
        temperature: The logits are divided by it.
        doubt: Share of equal probabilities in the result.
    """
    logits = np.log(np.maximum(probabilities.astype(np.float64), 1e-30)) / temperature
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    found = weights / weights.sum(axis=1, keepdims=True)
    return np.asarray(found * (1 - doubt) + doubt / found.shape[1])


def fit_unknown(
    probabilities: NDArray[np.float32],
    distances: NDArray[np.float32],
    groups: NDArray[np.int64],
    rejects: float = REJECTS,
) -> tuple[float, Unknown]:
    """Fit the limits beyond which a window is of no known class: too far, or too uncertain.

    A fifth of the rejected windows of known classes are rejected for their distance. A larger
    share would catch slightly more unknown windows, and shrink probabilities that are right.

    Args:
        probabilities: Probabilities `[n, classes]` of known classes of people the student has not
            learned from, tempered as the graph tempers them.
        distances: Distances `[n]` of these windows to the nearest class
            (`training.uncertainty.out_of_distribution`).
        groups: People `[n]`; each has the same weight.
        rejects: Share of windows of known classes that may be called unknown.

    Returns:
        The distance from which windows are unknown, and the threshold of the largest probability;
        the graph shrinks the probabilities of farther windows below it
        (`training.uncertainty.out_of_distribution.shrink_probabilities`).
    """
    weights = group_weights(groups)
    max_distance = weighted_quantile(distances.astype(np.float64), weights, 1 - _FAR * rejects)
    max_distance = max(max_distance, _SMALL)
    largest = probabilities.max(axis=1).astype(np.float64)
    largest[distances >= max_distance] = 0.0
    least = 1 / probabilities.shape[1] + 1e-3
    threshold = float(np.clip(weighted_quantile(largest, weights, rejects), least, 1 - 1e-3))
    threshold = round(threshold, 4)
    rejected = float(weights[largest < threshold].sum())
    return max_distance, Unknown(threshold=threshold, rejects=rejected)


def weighted_quantile(
    values: NDArray[np.float64], weights: NDArray[np.float64], share: float
) -> float:
    """Find the smallest value that has at least `share` of the weight at or below it.

    >>> weighted_quantile(np.array([3.0, 1.0, 2.0]), np.ones(3) / 3, 0.5)
    2.0
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum()
    place = int(np.searchsorted(reached, share - _SMALL))
    return float(values[order[min(place, len(order) - 1)]])


def _shape_of(table: IntervalTable) -> _Shape:
    return np.array(table.rul), np.array(table.low), np.array(table.high)


def _need_out_of_fold(
    residual: NDArray[np.float64],
    rul: NDArray[np.float32],
    groups: NDArray[np.int64],
    max_rul: float,
    level: float,
) -> NDArray[np.float64]:
    """Compute the need of each residual, with the shape of the engines of other folds."""
    names = np.unique(groups)
    need = np.zeros(len(residual))
    folds = np.array_split(np.random.default_rng(0).permutation(names), min(_FOLDS, len(names)))
    for fold in folds:
        is_out = np.isin(groups, fold)
        known = ~is_out if len(folds) > 1 else is_out
        shape = _fit_shape(residual[known], rul[known], groups[known], max_rul, level)
        need[is_out] = _need(residual[is_out], rul[is_out], shape)
    return need


def _fit_shape(
    residual: NDArray[np.float64],
    rul: NDArray[np.float32],
    groups: NDArray[np.int64],
    max_rul: float,
    level: float,
) -> _Shape:
    """Fit knots and the distances of truths below and above the scores there; low < 0 < high.

    The two sides are root mean squares, because quantiles of each side would depend on luck with
    few engines. One quantile of both together then brings every knot to the level.
    """
    weights, knots = group_weights(groups), np.linspace(0, max_rul, _KNOTS)
    near = np.exp(-0.5 * ((rul[None] - knots[:, None]) / _KERNEL) ** 2) + _SMALL
    local = weights * near / (weights * near).sum(axis=1, keepdims=True)
    low = np.minimum(-np.sqrt(local @ np.minimum(residual, 0) ** 2), -_NARROWEST)
    high = np.maximum(np.sqrt(local @ np.maximum(residual, 0) ** 2), _NARROWEST)
    need = _need(residual, rul, (knots, low, high))
    factor = np.array([weighted_quantile(need, row, level) for row in local])
    return knots, np.minimum(low * factor, -_NARROWEST), np.maximum(high * factor, _NARROWEST)


def _need(
    residual: NDArray[np.float64], rul: NDArray[np.float32], shape: _Shape
) -> NDArray[np.float64]:
    """Compute the multiple of the shape that contains each residual; up to 1 it lies inside."""
    low, high = _ends(shape, rul)
    return np.maximum(residual / high, residual / low)


def _ends(
    shape: _Shape, rul: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    knots, low, high = shape
    return np.interp(rul, knots, low), np.interp(rul, knots, high)
