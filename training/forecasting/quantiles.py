"""The band of a student, p10 to p90, set on errors of the whole recording before the test part.

Split conformal prediction (Vovk et al., 2005), one factor below and one above p50 for every channel
and step ahead: the residual is divided by the student's width (a power of the window's deviation,
times the learned width where there is one), and the factor is the 90 % quantile of these scores.

The size of errors moves with the season, so the validation part, a few months, is too short to
stand for a year. The scores of the ridge are therefore those of validation together with those of
the training part, out of fold: each stretch of it is forecast by a ridge that has not learned from
it. A network would have to be trained once for each stretch. Its factor is that of the ridge, times
the ratio of both factors on validation.

Windows of one series overlap and drift, so the coverage of 80 % is approximate;
`training.forecasting.evaluate` measures it on later time.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from numpy.typing import NDArray

from training.datasets.series import SeriesSet, SeriesWindows
from training.forecasting.loop import TrainedForecaster
from training.forecasting.recipe import ForecastRecipe
from training.forecasting.start import fit_folds
from training.forecasting.windows import blocks_of, training_windows, validation_windows
from training.students.forecasters import RidgeForecaster
from training.students.normalise import QUANTILES, Forecaster

__all__ = ["set_bands"]

_FOLDS = 6  # stretches of the training part: two months each in ETT
_WINDOWS = 4000  # windows of the recording whose scores are held at once

_Array = NDArray[np.float32]


def set_bands(trained: TrainedForecaster, data: SeriesSet, recipe: ForecastRecipe) -> None:
    """Set the factors of the bands of a student and of its ridge, for every channel and step.

    Args:
        trained: A finished run; the buffers `below` and `above` of both students change.
        data: Its data; the test part is not read.
        recipe: Its recipe.
    """
    known = validation_windows(data, recipe)
    own, ridge = (_factors(_scores(one, known)) for one in (trained.student, trained.ridge))
    whole = _factors(_recording_scores(trained, data, recipe))
    # A ridge without any error on validation says nothing about the ratio.
    ratio = np.where(ridge > 0, own / np.where(ridge > 0, ridge, 1), 1)
    network = np.where(ridge > 0, whole * ratio, own)
    for student, factors in ((trained.ridge, whole), (trained.student, network)):
        student.below, student.above = torch.from_numpy(factors.astype(np.float32))


def _recording_scores(
    trained: TrainedForecaster, data: SeriesSet, recipe: ForecastRecipe
) -> _Array:
    """Scores of the ridge, out of fold on the training part; both parts weigh by their length."""
    learned = training_windows(data, recipe, recipe.ridge_stride)
    known = validation_windows(data, recipe)
    strides = recipe.ridge_stride, recipe.validation_stride
    starts = len(learned) * strides[0] + len(known) * strides[1]
    share = min(*(1 / stride for stride in strides), _WINDOWS / starts)
    random = np.random.default_rng(0)  # even steps would meet the same hours of the day only
    found = [_scores(trained.ridge, _draw(known, share * strides[1], random))]
    for factors, windows in fit_folds(data, recipe, trained.factors, _FOLDS):
        body = RidgeForecaster(factors)
        ridge = Forecaster(body, recipe.length, recipe.horizon, recipe.band_power)
        found.append(_scores(ridge, _draw(windows, share * strides[0], random)))
    return np.concatenate(found, axis=1)


def _draw(windows: SeriesWindows, share: float, random: np.random.Generator) -> SeriesWindows:
    count = max(1, round(share * len(windows)))
    rows = np.sort(random.choice(len(windows), count, replace=False))
    return dataclasses.replace(windows, first=windows.first[rows], device=windows.device[rows])


def _scores(student: Forecaster, windows: SeriesWindows) -> _Array:
    """Distances of the readings below and above p50, in widths, `[2, n, channels, horizon]`."""
    found = []
    with torch.no_grad():
        for inputs, targets in blocks_of(windows):
            series = inputs.transpose(1, 2).reshape(-1, inputs.shape[1])
            truth = targets.transpose(1, 2).reshape(-1, targets.shape[1])
            middle, deviation, features = student.forecast(series)
            lower, upper = student.widths(deviation, features)
            apart = torch.stack([(middle - truth) / lower, (truth - middle) / upper])
            found.append(apart.reshape(2, len(inputs), -1, windows.horizon).numpy())
    return np.concatenate(found, axis=1)


def _factors(scores: _Array) -> _Array:
    """The factors below and above p50, `[2, channels, horizon]`."""
    low, _, high = QUANTILES
    return np.stack([_quantile(scores[0], 1 - low), _quantile(scores[1], high)])


def _quantile(scores: _Array, level: float) -> _Array:
    """The smallest score that so many scores, and one future score, don't exceed; at least 0."""
    count = len(scores)
    place = min(count, math.ceil(level * (count + 1))) - 1
    found: _Array = np.partition(scores, place, axis=0)[place]
    return np.maximum(found, 0).astype(np.float32)
