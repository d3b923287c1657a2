"""Measures of a forecast on a part of a set: errors, band, baselines, paired intervals.

Errors are in standard deviations of the training part, over all windows, channels and steps, as in
the literature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.datasets.series import SeriesWindows
from training.forecasting.windows import blocks_of
from training.students.normalise import QUANTILES, Forecaster

__all__ = [
    "Measured",
    "PairedInterval",
    "last_value",
    "measure_baseline",
    "measure_student",
    "paired_interval",
    "seasonal_naive",
]

_DRAWS = 2000
_FEWEST_BLOCKS = 10
_NEAR = (0.78, 0.82)
"""Coverage within two points of what p10 to p90 promise."""

Forecast = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Measured:
    """The measures of one forecast.

    Attributes:
        mse: Mean squared error of p50.
        mae: Mean absolute error of p50.
        pinball: Mean pinball loss over p10, p50 and p90; nan for a forecast without a band.
        coverage: Share of readings from p10 to p90 for every step ahead, `[horizon]`; nan as above.
        window_errors: Squared error of every window, in order of time, `[n]`.
    """

    mse: float
    mae: float
    pinball: float
    coverage: NDArray[np.float64]
    window_errors: NDArray[np.float64]

    @property
    def mean_coverage(self) -> float:
        """Share of all readings from p10 to p90."""
        return float(self.coverage.mean())

    @property
    def steps_near(self) -> float:
        """Share of the steps ahead whose coverage is 78 to 82 %; nan for a forecast without a band.

        The promise of p10 to p90 is 80 %.
        """
        if np.isnan(self.coverage).all():
            return float("nan")
        low, high = _NEAR
        return float(((low <= self.coverage) & (self.coverage <= high)).mean())


@dataclass(frozen=True, slots=True)
class PairedInterval:
    """Difference of two mean squared errors on the same windows, with its 95 % interval."""

    difference: float
    low: float
    high: float


def measure_student(student: Forecaster, windows: SeriesWindows) -> Measured:
    """Measure a student on all windows of a part."""
    return _measure(student, windows)


def measure_baseline(forecast: Forecast, windows: SeriesWindows) -> Measured:
    """Measure a forecast without a band: look-backs to `[n, horizon, channels]`."""
    return _measure(lambda inputs: forecast(inputs)[..., None], windows)


def seasonal_naive(period: int, horizon: int) -> Forecast:
    """Repeat the newest season; a look-back shorter than a season repeats its newest value."""

    def forecast(inputs: Tensor) -> Tensor:
        if inputs.shape[1] < period:
            return last_value(horizon)(inputs)
        season = inputs[:, -period:]
        return season.repeat(1, -(-horizon // period), 1)[:, :horizon]

    return forecast


def last_value(horizon: int) -> Forecast:
    """Repeat the newest reading."""
    return lambda inputs: inputs[:, -1:].expand(-1, horizon, -1)


def paired_interval(
    errors: NDArray[np.float64], others: NDArray[np.float64], block: int, *, seed: int = 0
) -> PairedInterval:
    """Compute `errors` minus `others` with a moving-block bootstrap over time.

    Neighbouring windows share most of their readings, so whole blocks of time are drawn. A series
    has few blocks at long horizons; at least ten are drawn, from shorter blocks if necessary, and
    the interval is then too narrow rather than too wide.

    Args:
        errors: Error of every window of one forecast, in order of time, `[n]`.
        others: Errors of the other forecast on the same windows, `[n]`.
        block: Windows in a block: the horizon at least, to cover the overlap.
        seed: Seed of the draws.

    Raises:
        ValueError: The two have different lengths.
    """
    if len(errors) != len(others):
        msg = f"{len(errors)} errors and {len(others)} others are not of the same windows"
        raise ValueError(msg)
    apart = errors - others
    count = len(apart)
    block = max(1, min(block, count // _FEWEST_BLOCKS))
    sums = np.concatenate([[0.0], np.cumsum(apart)])
    means = (sums[block:] - sums[:-block]) / block  # the mean of every block, by its start
    draws = np.random.default_rng(seed).integers(0, len(means), (_DRAWS, count // block))
    low, high = np.quantile(means[draws].mean(axis=1), [0.025, 0.975])
    return PairedInterval(float(apart.mean()), float(low), float(high))


def _measure(forecast: Callable[[Tensor], Tensor], windows: SeriesWindows) -> Measured:
    squares, absolute, pinball = [], 0.0, 0.0
    inside = np.zeros(windows.horizon)
    readings, has_band = 0, True
    with torch.no_grad():
        for inputs, targets in blocks_of(windows):
            found = forecast(inputs)  # [n, horizon, channels, 3 or 1]
            has_band = found.shape[3] == len(QUANTILES)
            apart = targets - found[..., found.shape[3] // 2]
            squares.append(apart.square().mean(dim=(1, 2)).double().numpy())
            absolute += float(apart.abs().sum(dtype=torch.float64))
            readings += targets.numel()
            if has_band:
                low, high = found[..., 0], found[..., 2]
                within = (low <= targets) & (targets <= high)
                inside += within.double().mean(dim=2).sum(dim=0).numpy()
                pinball += _pinball(found, targets)
    errors = np.concatenate(squares)
    nothing = np.full(windows.horizon, np.nan)
    return Measured(
        mse=float(errors.mean()),
        mae=absolute / readings,
        pinball=pinball / readings if has_band else float("nan"),
        coverage=inside / len(windows) if has_band else nothing,
        window_errors=errors,
    )


def _pinball(found: Tensor, targets: Tensor) -> float:
    total = 0.0
    for place, level in enumerate(QUANTILES):
        apart = targets - found[..., place]
        loss = torch.maximum(level * apart, (level - 1) * apart)
        total += float(loss.sum(dtype=torch.float64))
    return total / len(QUANTILES)
