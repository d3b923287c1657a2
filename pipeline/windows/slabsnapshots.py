"""Rows of a slab as snapshots, and back (`pipeline.windows.snapshots` has the format)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SnapshotError
from pipeline.windows.segments import ORIGIN, spans
from pipeline.windows.series import Series
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
from pipeline.windows.snapshots import SavedGrids, SavedRows, decode_state, encode_states
from pipeline.windows.windower import RowWindower

__all__ = ["restore_row", "row_snapshots"]

_ROWS_AT_ONCE = 1024


def row_snapshots(state: SlabState, rows: NDArray[np.integer]) -> list[bytes]:
    """Snapshots of rows."""
    found: list[bytes] = []
    for at in range(0, len(rows), _ROWS_AT_ONCE):
        saved = _saved_rows(state, rows[at : at + _ROWS_AT_ONCE])
        found += encode_states(state.spec, state.channels, saved)
    return found


def _saved_rows(state: SlabState, rows: NDArray[np.integer]) -> SavedRows:
    numbers = state.numbers[rows]
    keep_times, keep_rows = state.keep(rows, numbers)
    end = numbers[:, END]
    times = state.remembered.series(rows, keep_times, end)
    at = spans(state.rows.place[rows, ORIGIN] + keep_rows, end - keep_rows)
    recv, values = (array.take(at, axis=0) for array in state.rows.arrays)
    versions = [b""] * len(rows)
    if state.versions:
        versions = [_encode_versions(state.versions.get(row)) for row in rows.tolist()]
    return SavedRows(
        numbers=numbers[:, :SAVED],
        released=numbers[:, RELEASED] - keep_times,
        times=times,
        recv=Series.of(recv, end - keep_rows),
        values=values,
        versions=versions,
        grid=None if state.spec.rate_hz is None else _saved_grids(state, rows, numbers),
    )


def _saved_grids(
    state: SlabState, rows: NDArray[np.integer], numbers: NDArray[np.int64]
) -> SavedGrids:
    keep = state.keep_grid(numbers)
    counts = numbers[:, GRID_END] - keep
    at = spans(state.grid.place[rows, ORIGIN] + keep, counts)
    ts, recv, values = (array.take(at, axis=0) for array in state.grid.arrays)
    return SavedGrids(
        rate_hz=state.spec.rate_hz or 0.0,
        waiting=numbers[:, WAITING],
        resamplers=state.resamplers[rows],
        times=Series.of(ts, counts),
        recv=Series.of(recv, counts),
        values=values,
    )


def _encode_versions(versions: Mapping[tuple[int, int], None] | None) -> bytes:
    return np.array(list(versions), dtype="<i8").tobytes() if versions else b""


def restore_row(state: SlabState, row: int, data: bytes) -> None:
    """Fill an empty row from a snapshot.

    Raises:
        SnapshotError: See `StreamSlab.add`; the row may be filled in part.
    """
    found = decode_state(state.spec, state.channels, data)
    grid, rate_hz = found.grid, state.spec.rate_hz
    numbers = state.numbers[row]
    continues = grid is not None and grid.rate_hz == rate_hz if rate_hz else grid is None
    run = found.run, found.next_close
    begin = numbers[RUN : NEXT_CLOSE + 1].tolist()
    numbers[:SAVED] = found.numbers
    numbers[RUN : NEXT_CLOSE + 1] = run if continues else begin
    numbers[RELEASED : END + 1] = found.released, len(found.ts_ms)
    first_row = len(found.ts_ms) - len(found.recv_ms)
    newest = min(first_row, max(found.released - 1, 0))
    state.times.load(row, newest, (found.ts_ms[newest:],))
    state.remembered.load(row, found.ts_ms[: newest + 1])
    state.rows.load(row, first_row, (found.recv_ms, found.values))
    if len(found.versions):
        state.versions[row] = dict.fromkeys(map(tuple, found.versions.tolist()))
    if rate_hz is None:
        return
    if grid is None:
        adopting = RowWindower(state, row)
        try:
            adopting.adopt(*run)
        except ValueError as exc:
            msg = f"window snapshot of {len(data)} bytes is damaged: {exc}"
            raise SnapshotError(msg) from exc
        adopting.store()
    elif continues:
        if len(grid.resampler) != 8 * state.resamplers.shape[1]:
            msg = (
                f"window snapshot of {len(data)} bytes is damaged: the state of a resampler of "
                f"{state.channels} channels does not have {len(grid.resampler)} bytes"
            )
            raise SnapshotError(msg)
        numbers[WAITING : GRID_END + 1] = grid.waiting, len(grid.ts_ms)
        state.grid.load(row, 0, (grid.ts_ms, grid.recv_ms, grid.values))
        state.resamplers[row] = np.frombuffer(grid.resampler, dtype=np.int64)
