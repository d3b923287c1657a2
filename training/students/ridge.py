"""The closed-form forecaster: ridge regression on centred windows, shared by all channels.

It is the baseline that every forecasting student must beat, the first layer that other students
start from, and a student itself. On windows of 512 readings it is better than both language models
of the literature that forecast (docs/forecasting.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "PENALTIES",
    "RANKS",
    "Moments",
    "RidgeFactors",
    "choose_ridge",
    "fit_ridge",
    "solve_ridge",
]

PENALTIES = (0.001, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Penalties to choose from, as shares of the mean variance of a reading of the look-back."""
RANKS = (8, 12, 16, 24, 32)
"""Ranks to choose from."""

Blocks = Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class RidgeFactors:
    """A fitted ridge of low rank: `forecast = mean + (window - mean) @ down @ up`.

    Attributes:
        down: `[length, rank]`.
        up: `[rank, horizon]`.
        penalty: Chosen penalty.
        error: Mean squared error on the validation windows; nan where none was asked for.
    """

    down: NDArray[np.float32]
    up: NDArray[np.float32]
    penalty: float
    error: float


class Moments:
    """Sums of products over training windows: all that the closed form needs of the data.

    Args:
        length: Readings in the look-back.
        horizon: Readings in the target.
    """

    def __init__(self, length: int, horizon: int) -> None:
        self.inputs = np.zeros((length, length))
        self.targets = np.zeros((length, horizon))

    def add(self, inputs: NDArray[np.float32], targets: NDArray[np.float32]) -> None:
        """Add windows `[n, length]` and targets `[n, horizon]`; each is centred on its window."""
        mean = inputs.mean(axis=1, keepdims=True)
        centred = inputs - mean
        self.inputs += centred.T @ centred
        self.targets += centred.T @ (targets - mean)


def solve_ridge(moments: Moments, penalty: float) -> NDArray[np.float64]:
    """Solve the normal equations: weights `[length, horizon]` of a penalty."""
    length = len(moments.inputs)
    weight = penalty * np.trace(moments.inputs) / length
    solution: NDArray[np.float64] = np.linalg.solve(
        moments.inputs + weight * np.eye(length), moments.targets
    )
    return solution


def fit_ridge(moments: Moments, penalty: float, rank: int) -> RidgeFactors:
    """Fit the ridge of a penalty and a rank."""
    weights = solve_ridge(moments, penalty)
    directions = _directions(moments, weights)[:rank]
    return RidgeFactors(
        down=(weights @ directions.T).astype(np.float32),
        up=directions.astype(np.float32),
        penalty=penalty,
        error=float("nan"),
    )


def choose_ridge(
    moments: Moments,
    validation: Callable[[], Blocks],
    *,
    penalties: Sequence[float] = PENALTIES,
    ranks: Sequence[int] = RANKS,
) -> RidgeFactors:
    """Fit on the training moments; choose penalty, then rank, by the validation windows.

    Args:
        moments: Sums over the training windows.
        validation: Gives the validation windows in blocks `[n, length]`, `[n, horizon]`.
        penalties: Penalties to choose from.
        ranks: Ranks to choose from; ranks above length or horizon are cut to them.
    """
    length, horizon = moments.targets.shape
    known = Moments(length, horizon)
    power, readings = 0.0, 0
    for inputs, targets in validation():
        known.add(inputs, targets)
        mean = inputs.mean(axis=1, keepdims=True, dtype=np.float64)
        power += float(np.square(targets - mean).sum())
        readings += targets.size

    def error(weights: NDArray[np.float64]) -> float:
        """Mean squared error, from the moments: no pass over the windows for each candidate."""
        cross = float(np.sum(weights * known.targets))
        return (power - 2 * cross + float(np.sum(weights * (known.inputs @ weights)))) / readings

    solved = {penalty: solve_ridge(moments, penalty) for penalty in penalties}
    penalty = min(solved, key=lambda one: error(solved[one]))
    directions = _directions(moments, solved[penalty])
    found = []
    for rank in sorted({min(rank, length, horizon) for rank in ranks}):
        up = directions[:rank]
        down = solved[penalty] @ up.T
        found.append((error(down @ up), rank, down, up))
    best = min(found, key=lambda one: one[:2])
    return RidgeFactors(
        down=best[2].astype(np.float32),
        up=best[3].astype(np.float32),
        penalty=penalty,
        error=best[0],
    )


def _directions(moments: Moments, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Directions of the forecasts of the training windows, strongest first, `[rank, horizon]`."""
    _, _, found = np.linalg.svd(_root(moments.inputs) @ weights, full_matrices=False)
    directions: NDArray[np.float64] = found
    return directions


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Symmetric square root: forecasts of the training windows have the metric of `matrix`."""
    values, vectors = np.linalg.eigh(matrix)
    root: NDArray[np.float64] = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return root
