"""Which training windows a forecasting teacher sees: few-shot shares and blocks of time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from training.datasets.series import SeriesSet, SeriesWindows
from training.errors import TeacherError

__all__ = ["fit_ridge", "fold_windows", "training_windows"]

_PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10_000.0)


def training_windows(
    data: SeriesSet, length: int, horizon: int, stride: int, share: float = 1.0
) -> SeriesWindows:
    """Return the training windows in the oldest `share` of every device's training rows.

    The number of rows is `(train rows - length) * share + length`, as in the few-shot protocol of
    the literature; the scaling still comes from all training rows.
    """
    windows = data.windows("train", length, horizon, stride)
    if share >= 1:
        return windows
    offset, keep = 0, np.zeros(len(windows), dtype=bool)
    for device, (rows, (end, _, _)) in enumerate(zip(data.series, data.borders, strict=True)):
        limit = offset + int((end - length) * share) + length
        keep |= (windows.device == device) & (windows.first + horizon <= limit)
        offset += len(rows)
    return replace(windows, first=windows.first[keep], device=windows.device[keep])


def fit_ridge(training: SeriesWindows, validation: SeriesWindows) -> NDArray[np.float64]:
    """Fit a linear map `[length, horizon]` of mean-removed windows, shared by all channels.

    It is a ridge in closed form; of five penalties, the one with the lowest validation error is
    taken.
    """
    windows, mean = _rows(training.inputs())
    targets = _flat(training.targets()) - mean
    rows, middle = _rows(validation.inputs())
    truth = _flat(validation.targets()) - middle
    gram, moment = windows.T @ windows, windows.T @ targets
    fits = [np.linalg.solve(gram + p * np.eye(len(gram)), moment) for p in _PENALTIES]
    best: NDArray[np.float64] = min(fits, key=lambda fit: np.square(rows @ fit - truth).mean())
    return best


def fold_windows(
    training: SeriesWindows, products: SeriesWindows, folds: int
) -> Iterator[tuple[SeriesWindows, NDArray[np.int64]]]:
    """Divide `products` into contiguous blocks of time; each is left out of training once.

    Yields:
        Training windows that share no reading with the block, and the indices of the block.

    Raises:
        TeacherError: A block leaves no training window.
    """
    for block in np.array_split(np.arange(len(products)), folds):
        first = products.first[block]
        start, stop = first.min() - products.length, first.max() + products.horizon
        is_apart = (training.first + training.horizon <= start) | (
            training.first - training.length >= stop
        )
        if not is_apart.any():
            msg = f"{folds} folds of {len(products)} windows leave no window to train on: use fewer"
            raise TeacherError(msg)
        kept = replace(training, first=training.first[is_apart], device=training.device[is_apart])
        yield kept, block


def _flat(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """`[n, steps, channels]` as `[n x channels, steps]`."""
    rows: NDArray[np.float64] = values.transpose(0, 2, 1).astype(np.float64)
    return rows.reshape(-1, values.shape[1])


def _rows(values: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Windows as rows without their mean, and the means."""
    rows = _flat(values)
    mean = rows.mean(axis=1, keepdims=True)
    return rows - mean, mean
