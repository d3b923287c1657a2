"""Windows of a series set as training sees them: one series per channel, in batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.datasets.series import SeriesSet, SeriesWindows
from training.errors import DataSetError
from training.forecasting.recipe import ForecastRecipe

__all__ = ["blocks_of", "series_of", "training_windows", "validation_windows"]

_BLOCK = 256  # windows held at once outside of training


def training_windows(data: SeriesSet, recipe: ForecastRecipe, stride: int) -> SeriesWindows:
    """Cut the training windows of a recipe; `share` keeps those of the beginning of each device.

    A share leaves (rows - length) x share + length rows, as in the few-shot protocol of the
    literature and for the teachers, so that student and teacher know the same readings.

    Raises:
        DataSetError: The share holds no whole window.
    """
    windows = data.windows("train", recipe.length, recipe.horizon, stride)
    if recipe.share >= 1:
        return windows
    starts = np.cumsum([0, *(len(rows) for rows in data.series)])
    ends = np.array(
        [int((end - recipe.length) * recipe.share) + recipe.length for end, _, _ in data.borders]
    )
    inside = windows.first + recipe.horizon <= starts[windows.device] + ends[windows.device]
    if not inside.any():
        msg = (
            f"{data.name}: {recipe.share:.0%} of the training part has no window of "
            f"{recipe.length} + {recipe.horizon} readings: use a larger share or a shorter horizon"
        )
        raise DataSetError(msg)
    return dataclasses.replace(windows, first=windows.first[inside], device=windows.device[inside])


def validation_windows(data: SeriesSet, recipe: ForecastRecipe) -> SeriesWindows:
    """Cut the validation windows of a recipe."""
    return data.windows("validation", recipe.length, recipe.horizon, recipe.validation_stride)


def series_of(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn `[n, steps, channels]` into one series per channel, `[n * channels, steps]`."""
    return np.ascontiguousarray(rows.transpose(0, 2, 1)).reshape(-1, rows.shape[1])


def blocks_of(windows: SeriesWindows) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield look-backs `[n, length, channels]` and targets `[n, horizon, channels]` in order."""
    for at in range(0, len(windows), _BLOCK):
        part = slice(at, at + _BLOCK)
        yield torch.from_numpy(windows.inputs(part)), torch.from_numpy(windows.targets(part))
