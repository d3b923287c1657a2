"""The ridge of a recipe: fitted on the training windows, chosen on the validation windows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from training.datasets.series import SeriesSet, SeriesWindows
from training.forecasting.recipe import ForecastRecipe
from training.forecasting.windows import series_of, training_windows, validation_windows
from training.students.ridge import Moments, RidgeFactors, choose_ridge, fit_ridge

__all__ = ["fit_folds", "fit_start"]

_BLOCK = 512  # windows held at once


def fit_start(data: SeriesSet, recipe: ForecastRecipe) -> RidgeFactors:
    """Fit the ridge of a recipe; penalty and rank are those with the least validation error."""
    moments = _moments(training_windows(data, recipe, recipe.ridge_stride), recipe)
    validation = validation_windows(data, recipe)
    return choose_ridge(moments, lambda: _blocks(validation))


def fit_folds(
    data: SeriesSet, recipe: ForecastRecipe, factors: RidgeFactors, folds: int
) -> Iterator[tuple[RidgeFactors, SeriesWindows]]:
    """Fit the ridge once for each stretch of the training part, without that stretch.

    The windows of every device are cut into `folds` stretches of time, which are held out of all
    devices at once. The fit also leaves out windows whose target overlaps a target of the stretch.
    A stretch that leaves no window to fit on is passed over.

    Args:
        data: Series; the training part alone is read.
        recipe: Recipe of the run.
        factors: The chosen ridge; its penalty and rank are used.
        folds: Number of stretches.

    Yields:
        A ridge and the windows of the stretch that it has not learned from, at `ridge_stride`.
    """
    windows = training_windows(data, recipe, recipe.ridge_stride)
    fold = _folds(windows.device, folds)
    held = [np.flatnonzero(fold == place) for place in range(folds)]
    inside = [_moments(_some(windows, rows), recipe) for rows in held]
    for rows, own in zip(held, inside, strict=True):
        beside = np.setdiff1d(_near(windows, rows), rows, assume_unique=True)
        left_out = _moments(_some(windows, beside), recipe)
        rest = Moments(recipe.length, recipe.horizon)
        rest.inputs = sum(one.inputs for one in inside) - own.inputs - left_out.inputs
        rest.targets = sum(one.targets for one in inside) - own.targets - left_out.targets
        if len(rows) and len(rows) + len(beside) < len(windows):
            ridge = fit_ridge(rest, factors.penalty, len(factors.up))
            yield ridge, _some(windows, rows)


def _folds(device: NDArray[np.int64], folds: int) -> NDArray[np.int64]:
    """The stretch of every window: equal shares of the windows of its device, in order of time."""
    fold = np.empty(len(device), dtype=np.int64)
    for one in np.unique(device):
        rows = np.flatnonzero(device == one)
        fold[rows] = np.arange(len(rows)) * folds // len(rows)
    return fold


def _near(windows: SeriesWindows, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Windows of the same devices whose target overlaps the targets of these ones, or lies between.

    The rows of one device are one stretch of time.
    """
    near = np.zeros(len(windows), dtype=bool)
    for device in np.unique(windows.device[rows]):
        own = windows.first[rows][windows.device[rows] == device]
        after = windows.first > own.min() - windows.horizon
        near |= after & (windows.first < own.max() + windows.horizon) & (windows.device == device)
    return np.flatnonzero(near)


def _some(windows: SeriesWindows, rows: NDArray[np.int64]) -> SeriesWindows:
    return dataclasses.replace(windows, first=windows.first[rows], device=windows.device[rows])


def _moments(windows: SeriesWindows, recipe: ForecastRecipe) -> Moments:
    moments = Moments(recipe.length, recipe.horizon)
    for inputs, targets in _blocks(windows):
        moments.add(inputs, targets)
    return moments


def _blocks(
    windows: SeriesWindows,
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    for at in range(0, len(windows), _BLOCK):
        part = slice(at, at + _BLOCK)
        yield series_of(windows.inputs(part)), series_of(windows.targets(part))
