"""The readings of one row of a slab, as views of its arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.windows.segments import LIMIT, Segments

__all__ = ["RowBuffer"]


class RowBuffer:
    """Readings of one row with strictly increasing event times.

    Indices count from the first event time of the row in the slab; `first` is its position.

    Args:
        row: The row.
        times: Where its event times are.
        rows: Where its receive times and values are; may be the same.
        released: Position of the first pending reading.
        end: One past the position of the last reading.

    Attributes:
        ts: Event times int64, valid in `[begin, end)`.
        begin: First remembered reading.
        released: First pending reading.
        end: One past the last reading.
        first: Position of index 0; it moves when room is made.
    """

    __slots__ = (
        "_of_rows",
        "_recv",
        "_row",
        "_shift",
        "_times",
        "_values",
        "begin",
        "end",
        "first",
        "released",
        "ts",
    )

    def __init__(self, row: int, times: Segments, rows: Segments, released: int, end: int) -> None:
        self._row, self._times, self._of_rows = row, times, rows
        self.begin = 0
        self.first: int
        self.released: int
        self.end: int
        self._shift: int
        self.ts: NDArray[np.int64]
        self._recv: NDArray[np.int64]
        self._values: NDArray[np.float32]
        self._look(released, end)

    @property
    def first_row(self) -> int:
        """Index of the first reading whose values are here."""
        return self._shift

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Values of readings `[start, stop)` as a view; copy it before the next append."""
        return self._values[start - self._shift : stop - self._shift]

    def recv(self, start: int, stop: int) -> NDArray[np.int64]:
        """Receive times of readings `[start, stop)` as a view."""
        return self._recv[start - self._shift : stop - self._shift]

    def first_from(self, ts_ms: int, start: int) -> int:
        """Index of the first reading from `start` on with an event time >= `ts_ms`."""
        return start + int(self.ts[start : self.end].searchsorted(ts_ms))

    def has_room(self, readings: int) -> bool:
        """Whether `readings` can be appended without making room."""
        stop = self.end + readings
        return stop <= len(self.ts) and stop - self._shift <= len(self._recv)

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

    def append(
        self,
        ts_ms: NDArray[np.int64],
        values: NDArray[np.float32],
        recv_ms: int | NDArray[np.int64],
    ) -> None:
        """Append readings newer than all others, oldest first; requires room for them."""
        start = self.end
        stop = self.end = start + len(ts_ms)
        self.ts[start:stop] = ts_ms
        start -= self._shift
        stop -= self._shift
        self._recv[start:stop] = recv_ms
        self._values[start:stop] = values

    def merge(self, ts_ms: NDArray[np.int64], values: NDArray[np.float32], recv_ms: int) -> None:
        """Insert readings among the pending ones; requires room, and none may be a duplicate."""
        first = self.released
        old = self.end
        self.append(ts_ms, values, recv_ms)
        order = np.argsort(self.ts[first : self.end], kind="stable")
        if old > first:
            self.ts[first : self.end] = self.ts[first : self.end][order]
            self.recv(first, self.end)[:] = self.recv(first, self.end)[order]
            self.rows(first, self.end)[:] = self.rows(first, self.end)[order]

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
    if end + readings > segments.place[row, LIMIT]:
        numbers: NDArray[np.int64] = np.array([[row], [keep], [end], [readings]])
        segments.make_room(*numbers)
