"""The readings of one row of a slab, as views of its arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.windows.cutters import ReadingBuffer
from pipeline.windows.segments import Segments

__all__ = ["RowBuffer"]


class RowBuffer(ReadingBuffer):
    """Readings of one row with strictly increasing event times.

    Indices count from the first event time of the row in the slab; `first` is its position.

    Args:
        row: The row.
        times: Where its event times are.
        rows: Where its receive times and values are; may be the same.
        released: Position of the first pending reading.
        end: One past the position of the last reading.

    Attributes:
        first: Position of index 0; it moves when room is made.
    """

    __slots__ = ("_of_rows", "_row", "_times", "first")

    def __init__(self, row: int, times: Segments, rows: Segments, released: int, end: int) -> None:
        self._row, self._times, self._of_rows = row, times, rows
        self.begin = 0
        self._look(released, end)

    def make_room(self, readings: int, keep_ts: int, keep_rows: int) -> None:
        """Drop times left of `keep_ts` and values left of `keep_rows`; make room for `readings`.

        Requires `begin <= keep_ts <= keep_rows <= released`.
        """
        released, end = self.released + self.first, self.end + self.first
        keep_ts, keep_rows = keep_ts + self.first, keep_rows + self.first
        self.ts = self._recv = np.empty(0, dtype=np.int64)  # the memory behind them moves
        self._values = np.empty((0, 0), dtype=np.float32)
        _make_room(self._times, self._row, keep_ts, end, readings)
        if self._of_rows is not self._times:
            _make_room(self._of_rows, self._row, keep_rows, end, readings)
        self._look(released, end)

    def _look(self, released: int, end: int) -> None:
        origin, first, limit = self._times.place[self._row].tolist()
        self.ts = self._times.arrays[0][origin + first : origin + limit]
        self.first, self.released, self.end = first, released - first, end - first
        origin, first, limit = self._of_rows.place[self._row].tolist()
        recv, values = self._of_rows.arrays[-2:]
        self._recv = recv[origin + first : origin + limit]
        self._values = values[origin + first : origin + limit]
        self._shift = first - self.first


def _make_room(segments: Segments, row: int, keep: int, end: int, readings: int) -> None:
    if end + readings > segments.place[row, 2]:
        numbers: NDArray[np.int64] = np.array([[row], [keep], [end], [readings]])
        segments.make_room(*numbers)
