"""The ridge of a recipe: fitted on the training windows, chosen on the validation windows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from training.datasets.series import SeriesSet, SeriesWindows
from training.forecasting.recipe import ForecastRecipe
from training.forecasting.windows import series_of, training_windows, validation_windows
from training.students.ridge import Moments, RidgeFactors, choose_ridge

__all__ = ["fit_start"]

_BLOCK = 512  # windows held at once


def fit_start(data: SeriesSet, recipe: ForecastRecipe) -> RidgeFactors:
    """Fit the ridge of a recipe; penalty and rank are those with the least validation error."""
    moments = Moments(recipe.length, recipe.horizon)
    for inputs, targets in _blocks(training_windows(data, recipe, recipe.ridge_stride)):
        moments.add(inputs, targets)
    validation = validation_windows(data, recipe)
    return choose_ridge(moments, lambda: _blocks(validation))


def _blocks(
    windows: SeriesWindows,
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    for at in range(0, len(windows), _BLOCK):
        part = slice(at, at + _BLOCK)
        yield series_of(windows.inputs(part)), series_of(windows.targets(part))
