"""Count windows of many rows at once: which windows close, and their readings in one copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.windows.segments import Segments, spans
from pipeline.windows.slabstate import NEXT_CLOSE, RUN, WINDOWS
from pipeline.windows.slabwindows import SlabWindows
from pipeline.windows.spec import WindowSpec

__all__ = ["Closing", "close_count_windows", "closing_windows", "gather_windows"]


@dataclass(frozen=True, slots=True)
class Closing:
    """Count windows that close.

    Attributes:
        of: Index of the row of each window among the rows given, `[w]`.
        since: Position of its first reading.
        stop: One past the position of its last reading.
        readings: Number of its readings; fewer than `length` are padded in front.
    """

    of: NDArray[np.intp]
    since: NDArray[np.int64]
    stop: NDArray[np.int64]
    readings: NDArray[np.int64]


def close_count_windows(
    spec: WindowSpec,
    rows: NDArray[np.integer],
    numbers: NDArray[np.int64],
    released: NDArray[np.int64],
    times: Segments,
    values: Segments,
) -> SlabWindows | None:
    """Windows that close on rows whose runs have been extended; None of none.

    Args:
        spec: Window rules.
        rows: Different rows `[k]`.
        numbers: Their numbers `[k, ...]`; `NEXT_CLOSE` and `WINDOWS` are changed.
        released: One past the last position of the run, `[k]`.
        times: Event times of the rows.
        values: Receive times and values of the rows.
    """
    closing = closing_windows(spec, numbers, released)
    if closing is None:
        return None
    row = rows[closing.of]
    length = spec.length
    origin = times.place[row, 0]
    ts = times.arrays[0]
    recv, readings = gather_windows(values, row, closing, length)
    readings.flags.writeable = False
    gaps = np.zeros(len(row), dtype=np.int64)
    if spec.gap_ms is not None and spec.gap_policy == "mark":
        every = spans(origin + closing.since, closing.readings)
        is_gap = np.diff(ts[every], prepend=0) > spec.gap_ms
        first = closing.readings.cumsum() - closing.readings
        is_gap[first] = False
        gaps = np.add.reduceat(is_gap, first, dtype=np.int64)
    return SlabWindows(
        row=row.astype(np.int32, copy=False),
        values=readings,
        start_ms=ts[origin + closing.since],
        end_ms=ts[origin + closing.stop - 1] + 1,
        readings=closing.readings,
        gaps=gaps,
        recv_ms=recv,
        made_up=np.zeros(len(row)),
    )


def closing_windows(
    spec: WindowSpec, numbers: NDArray[np.int64], released: NDArray[np.int64]
) -> Closing | None:
    """Which windows close; counts them in `numbers`."""
    which = np.flatnonzero(numbers[:, RUN] >= numbers[:, NEXT_CLOSE])
    if len(which) == 0:
        return None
    run, close = numbers[which, RUN], numbers[which, NEXT_CLOSE]
    count = (run - close) // spec.hop + 1
    numbers[which, NEXT_CLOSE] = close + count * spec.hop
    numbers[which, WINDOWS] += count
    origin = released[which] - run  # position of the run's first reading, which may be forgotten
    if len(which) < (total := int(count.sum())):
        which, origin = np.repeat(which, count), np.repeat(origin, count)
        number = np.arange(total) - np.repeat(count.cumsum() - count, count)
        close = np.repeat(close, count) + number * spec.hop
    readings = np.minimum(close, spec.length)
    stop = origin + close
    return Closing(which, stop - readings, stop, readings)


def gather_windows(
    values: Segments, row: NDArray[np.integer], closing: Closing, length: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Latest receive time `[w]` and values `[w, length, channels]` of each window."""
    recv, table = values.arrays[-2:]
    start = values.place[row, 0] + closing.since
    if int(closing.readings.min()) == length:
        return (
            _sliding(recv, length)[start].max(axis=1),
            _sliding(table, length)[start].reshape(len(row), length, -1),
        )
    missing = length - closing.readings
    index = (start - missing)[:, None] + np.arange(length)
    np.maximum(index, start[:, None], out=index)  # the first reading stands for those missing
    return recv.take(index).max(axis=1), table.take(index, axis=0)


def _sliding(array: NDArray[Any], length: int) -> NDArray[Any]:
    """All windows of `length` rows as a view `[n, length * width]` whose windows overlap."""
    stride = array.strides[0]
    shape = (len(array) - length + 1, length * (stride // array.itemsize))
    found: NDArray[Any] = np.ndarray(shape, array.dtype, array, 0, (stride, array.itemsize))
    return found
