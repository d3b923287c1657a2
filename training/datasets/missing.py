"""The rule for missing readings of a recorded series, the same for every reader.

1. Readings are put on a grid of `step_ms` that begins with the first reading. A reading goes to the
   nearest grid time; readings that share one are averaged.
2. A missing value is interpolated linearly in time, per channel, if at most `longest` grid times in
   a row lack it, it has neighbours on both sides, and all of these lie in the same part. A gap at a
   border is never filled, because its filling would carry readings of a later part into an earlier.
3. A grid time that still lacks a channel is dropped. It cuts the series: no window spans it.

A filled value uses the reading after the gap. So a window whose look-back ends in a filled value
knows a little of its target, as a stream that waits for the next reading does; readers keep
`longest` short.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Grid", "fill_short_gaps", "share_rows", "to_grid"]


@dataclass(frozen=True, slots=True)
class Grid:
    """Readings on a regular grid, with NaN where one is missing.

    Attributes:
        times_ms: Grid times, `[rows]` int64.
        values: Readings, `[rows, channels]` float64.
        step_ms: Distance between two grid times.
    """

    times_ms: NDArray[np.int64]
    values: NDArray[np.float64]
    step_ms: int


def to_grid(times_ms: NDArray[np.int64], values: NDArray[np.float64], step_ms: int) -> Grid:
    """Put readings in any order on a grid that begins with the earliest one (rule 1).

    >>> grid = to_grid(np.array([1000, 3100, 3000]), np.array([[1.0], [4.0], [2.0]]), 1000)
    >>> grid.times_ms.tolist(), grid.values[:, 0].tolist()
    ([1000, 2000, 3000], [1.0, nan, 3.0])
    """
    start = int(times_ms.min())
    places = (times_ms - start + step_ms // 2) // step_ms
    rows = int(places.max()) + 1
    if len(np.unique(places)) == len(places):
        alone = np.full((rows, values.shape[1]), np.nan)
        alone[places] = np.where(np.isfinite(values), values, np.nan)
        return Grid(start + step_ms * np.arange(rows, dtype=np.int64), alone, step_ms)
    known = np.isfinite(values)
    total = np.zeros((rows, values.shape[1]))
    count = np.zeros((rows, values.shape[1]))
    np.add.at(total, places, np.where(known, values, 0.0))
    np.add.at(count, places, known)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return Grid(start + step_ms * np.arange(rows, dtype=np.int64), mean, step_ms)


def fill_short_gaps(
    grid: Grid, longest: int, borders: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.float32], tuple[int, ...]]:
    """Fill short gaps and drop what stays incomplete (rules 2 and 3).

    Args:
        grid: Readings of one device.
        longest: Most grid times in a row whose missing value is filled.
        borders: Grid rows at which the parts end, ascending.

    Returns:
        Times `[kept]`, readings `[kept, channels]`, and the rows of the kept readings at which the
        parts end.
    """
    values = grid.values.copy()
    begin = 0
    for end in (*borders, len(values)):
        for channel in range(values.shape[1]):
            _interpolate(values[begin:end, channel], longest)
        begin = max(begin, end)
    kept = np.isfinite(values).all(axis=1)
    before = np.concatenate([[0], np.cumsum(kept)])
    ends = tuple(int(before[min(border, len(kept))]) for border in borders)
    return grid.times_ms[kept], values[kept].astype(np.float32), ends


def share_rows(rows: int, train: float, test: float) -> tuple[int, int, int]:
    """Split rows by shares as the literature does: the validation part is what is left over.

    >>> share_rows(966, 0.7, 0.2)
    (676, 773, 966)
    """
    return int(rows * train), rows - int(rows * test), rows


def _interpolate(values: NDArray[np.float64], longest: int) -> None:
    """Fill the short gaps of one channel `[rows]` in place."""
    lacks = np.concatenate([[False], ~np.isfinite(values), [False]]).astype(np.int8)
    starts, ends = np.flatnonzero(np.diff(lacks) == 1), np.flatnonzero(np.diff(lacks) == -1)
    for start, end in zip(starts, ends, strict=True):
        if end - start <= longest and start > 0 and end < len(values):
            places = np.arange(start, end)
            values[start:end] = np.interp(
                places, [start - 1, end], [values[start - 1], values[end]]
            )
