"""Resampling of many rows at once, for streams that come at the rate of their student.

A stream at the rate has each reading at a grid time, so each reading is a grid reading, bit for bit
(`pipeline.windows.resample`, the first line of its table). All rows for which this holds are taken
at once; the others go through their own resampler, as soon as a window may close or as many
readings wait as may wait.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.windows.countcut import closing_windows, gather_windows
from pipeline.windows.gridcutter import MOST_WAITING
from pipeline.windows.resample import NO_RUN, near_cells
from pipeline.windows.segments import LIMIT, ORIGIN, spans
from pipeline.windows.slabstate import GRID_END, NEXT_CLOSE, RELEASED, RUN, WAITING, SlabState
from pipeline.windows.slabwindows import SlabWindows

__all__ = ["close_grid_windows"]

_RUN_MS, _NEXT, _NODE_CELL, _BEFORE_REAL, _NODE_REAL, _NODE_RECV = range(6)
_OPEN_REAL = 7
_NODE_X, _PREVIOUS_X, _NODE = 9, 11, 12


def close_grid_windows(
    state: SlabState, rows: NDArray[np.integer], numbers: NDArray[np.int64]
) -> tuple[SlabWindows | None, NDArray[np.intp]]:
    """Windows that close on rows whose readings have been released, without a gap.

    Args:
        state: The slab.
        rows: Different rows `[k]`.
        numbers: Their numbers `[k, ...]`, with the released readings that are not resampled yet in
            `WAITING`; changed.

    Returns:
        The windows, and the indices of rows that are due but need their own resampler.
    """
    rate, near = state.spec.rate_hz or 0.0, near_cells(state.spec.rate_hz or 0.0)
    waiting = numbers[:, WAITING]
    which = np.flatnonzero(waiting)
    if len(which) == 0:
        return None, which
    last = state.times.arrays[0][
        state.times.place[rows[which], ORIGIN] + numbers[which, RELEASED] - 1
    ]
    grid = state.resamplers[rows[which]]
    x = (last - grid[:, _RUN_MS]) * rate / 1000
    reached = numbers[which, RUN] - grid[:, _NEXT] + np.floor(x + near) + 1
    due = (waiting[which] > MOST_WAITING) | (reached >= numbers[which, NEXT_CLOSE])
    due |= grid[:, _RUN_MS] == NO_RUN
    if not due.any():
        return None, which[:0]
    if not due.all():
        which, grid = which[due], grid[due]
    fits = (grid[:, _OPEN_REAL] == 0) & (grid[:, _NODE_CELL] < grid[:, _NEXT])
    if state.runs:
        fits &= [row not in state.runs for row in rows[which].tolist()]
    count = waiting[which]
    first = count.cumsum() - count
    at = spans(state.times.place[rows[which], ORIGIN] + numbers[which, RELEASED] - count, count)
    ts = state.times.arrays[0][at]
    run_ms = np.where(grid[:, _RUN_MS] == NO_RUN, ts[first], grid[:, _RUN_MS])
    x = (ts - np.repeat(run_ms, count)) * rate / 1000
    within = np.arange(len(ts)) - np.repeat(first, count)
    is_off = np.abs(x - np.repeat(grid[:, _NEXT], count) - within) > near
    fits &= ~np.logical_or.reduceat(is_off, first)
    own = which[~fits]
    if len(own):
        kept = np.repeat(fits, count)
        ts, x = ts[kept], x[kept]
        which, grid, run_ms, count = which[fits], grid[fits], run_ms[fits], count[fits]
        if len(which) == 0:
            return None, own
    taken = rows[which]
    part = numbers[which]
    recv, values = _append(state, taken, part, ts, count)
    newest = count.cumsum() - 1
    grid[:, _RUN_MS] = run_ms
    grid[:, _NEXT] += count
    grid[:, _NODE_CELL] = grid[:, _NEXT] - 1
    grid[:, _BEFORE_REAL], grid[:, _NODE_REAL] = 0, 1
    grid[:, _NODE_RECV] = recv[newest]
    real = grid.view(np.float64)
    real[:, _NODE_X] = real[:, _PREVIOUS_X] = x[newest]
    real[:, _NODE : _NODE + state.channels] = values[newest]
    state.resamplers[taken] = grid
    windows = _cut(state, taken, part, run_ms)
    numbers[which] = part
    return windows, own


def _append(
    state: SlabState,
    rows: NDArray[np.integer],
    numbers: NDArray[np.int64],
    ts: NDArray[np.int64],
    count: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Make the waiting readings grid readings; returns their receive times and values."""
    start = state.rows.place[rows, ORIGIN] + numbers[:, RELEASED] - count
    at = spans(start, count)
    recv, values = (array.take(at, axis=0) for array in state.rows.arrays)
    end = numbers[:, GRID_END]
    short = np.flatnonzero(end + count > state.grid.place[rows, LIMIT])
    if len(short):
        keep = state.keep_grid(numbers)
        state.grid.make_room(rows[short], keep[short], end[short], count[short])
    at = spans(state.grid.place[rows, ORIGIN] + end, count)
    all_ts, all_recv, all_values = state.grid.arrays
    all_ts[at], all_recv[at] = ts, recv
    all_values[at, :-1], all_values[at, -1] = values, 1
    numbers[:, GRID_END] += count
    numbers[:, RUN] += count
    numbers[:, WAITING] = 0
    return recv, values


def _cut(
    state: SlabState,
    rows: NDArray[np.integer],
    numbers: NDArray[np.int64],
    run_ms: NDArray[np.int64],
) -> SlabWindows | None:
    """The windows that close in the grid."""
    closing = closing_windows(state.cut_spec, numbers, numbers[:, GRID_END])
    if closing is None:
        return None
    row, length = rows[closing.of], state.spec.length
    recv, table = gather_windows(state.grid, row, closing, length)
    is_real = np.arange(length) >= (length - closing.readings)[:, None]
    real = np.where(is_real, table[:, :, -1], 0)
    readings = real.sum(axis=1).astype(np.int64)
    missing = np.count_nonzero(is_real & (real == 0), axis=1)
    values = np.ascontiguousarray(table[:, :, :-1])
    values.flags.writeable = False
    origin, ts = state.grid.place[row, ORIGIN], state.grid.arrays[0]
    return SlabWindows(
        row=row.astype(np.int32, copy=False),
        values=values,
        start_ms=ts[origin + closing.since],
        end_ms=ts[origin + closing.stop - 1] + 1,
        readings=readings,
        gaps=np.zeros(len(row), dtype=np.int64),
        recv_ms=recv,
        made_up=missing / closing.readings,
        rate_hz=readings * (state.spec.rate_hz or 0.0) / closing.readings,
        run_ms=run_ms[closing.of],
    )
