"""Rows of a slab as snapshots, and back (`pipeline.windows.snapshots` has the format)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SnapshotError
from pipeline.windows.segments import ORIGIN
from pipeline.windows.slabstate import (
    END,
    GRID_END,
    NEXT_CLOSE,
    RELEASED,
    RUN,
    SAVED,
    WAITING,
    SlabState,
)
from pipeline.windows.snapshots import GridState, WindowerState, decode_state, encode_state
from pipeline.windows.windower import RowWindower

__all__ = ["restore_row", "row_snapshots"]

_NAMES = (
    "watermark_ms",
    "max_event_ms",
    "last_recv_ms",
    "run",
    "next_close",
    "windowed",
    "duplicate",
    "late",
    "future",
    "gaps",
    "windows",
    "corrected",
)


def row_snapshots(state: SlabState, rows: NDArray[np.integer]) -> list[bytes]:
    """Snapshots of rows."""
    found = []
    numbers = state.numbers[rows]
    keep_times, keep_rows = state.keep(rows, numbers)
    keep_grid = state.keep_grid(numbers)
    for i, row in enumerate(rows.tolist()):
        released, end = numbers[i, [RELEASED, END]].tolist()
        origin = int(state.times.place[row, ORIGIN])
        ts = state.times.arrays[0][origin + int(keep_times[i]) : origin + end]
        origin = int(state.rows.place[row, ORIGIN])
        recv, values = (a[origin + int(keep_rows[i]) : origin + end] for a in state.rows.arrays)
        grid = None
        if state.spec.rate_hz is not None:
            origin = int(state.grid.place[row, ORIGIN])
            kept = slice(origin + int(keep_grid[i]), origin + int(numbers[i, GRID_END]))
            grid = GridState(
                state.spec.rate_hz,
                int(numbers[i, WAITING]),
                state.resamplers[row].tobytes(),
                *(array[kept] for array in state.grid.arrays),
            )
        versions = list(state.versions.get(row, ()))
        found.append(
            encode_state(
                state.spec,
                state.channels,
                WindowerState(
                    **dict(zip(_NAMES, numbers[i, :SAVED].tolist(), strict=True)),
                    released=released - int(keep_times[i]),
                    ts_ms=ts,
                    recv_ms=recv,
                    values=values,
                    versions=np.array(versions, dtype=np.int64).reshape(-1, 2),
                    grid=grid,
                ),
            )
        )
    return found


def restore_row(state: SlabState, row: int, data: bytes) -> None:
    """Fill an empty row from a snapshot.

    Raises:
        SnapshotError: See `StreamSlab.add`; the row may be filled in part.
    """
    found = decode_state(state.spec, state.channels, data)
    numbers = state.numbers[row]
    run = numbers[[RUN, NEXT_CLOSE]]
    numbers[:SAVED] = [getattr(found, name) for name in _NAMES]
    numbers[[RELEASED, END]] = found.released, len(found.ts_ms)
    first_row = len(found.ts_ms) - len(found.recv_ms)
    state.times.load(row, 0, (found.ts_ms,))
    state.rows.load(row, first_row, (found.recv_ms, found.values))
    if len(found.versions):
        state.versions[row] = dict.fromkeys(map(tuple, found.versions.tolist()))
    grid, rate_hz = found.grid, state.spec.rate_hz
    if grid is None and rate_hz is None:
        return
    numbers[[RUN, NEXT_CLOSE]] = run
    if grid is None:
        adopting = RowWindower(state, row)
        adopting.adopt(found.run, found.next_close)
        adopting.store()
    elif grid.rate_hz == rate_hz:
        if len(grid.resampler) != 8 * state.resamplers.shape[1]:
            msg = (
                f"window snapshot of {len(data)} bytes is damaged: the state of a resampler of "
                f"{state.channels} channels does not have {len(grid.resampler)} bytes"
            )
            raise SnapshotError(msg)
        numbers[[RUN, NEXT_CLOSE]] = found.run, found.next_close
        numbers[[WAITING, GRID_END]] = grid.waiting, len(grid.ts_ms)
        state.grid.load(row, 0, (grid.ts_ms, grid.recv_ms, grid.values))
        state.resamplers[row] = np.frombuffer(grid.resampler, dtype=np.int64)
