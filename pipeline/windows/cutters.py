"""The two ways to cut the readings of one row into windows.

A cutter gets the newly released readings, returns the windows that close, and tracks which readings
it still needs. `pipeline.windows.windower` has a buffer and a cutter for each row;
`pipeline.windows.countcut` cuts count windows of many rows at once.
"""

from __future__ import annotations

import numpy as np

from pipeline.windows.rowbuffer import RowBuffer
from pipeline.windows.spec import Window, WindowSpec, front_padded

__all__ = ["CountCutter", "TimeCutter"]


class CountCutter:
    """Windows of `length` readings, one every `hop` readings of a run.

    Attributes:
        run: Number of readings released in the current run.
        next_close: Number of readings of the run at which the next window closes.
    """

    __slots__ = ("_spec", "next_close", "run")

    def __init__(self, spec: WindowSpec) -> None:
        self._spec = spec
        self.run = 0
        self.next_close = spec.first_close

    def close(
        self,
        buffer: RowBuffer,
        first: int,
        jumps: list[int],
        before_ms: int,
        watermark_ms: int,
    ) -> list[Window]:
        """Windows that close on the readings released from `first` on, in order of their ends.

        `jumps` are the indices of released readings with a gap before them. The old and the new
        watermark (`before_ms`, `watermark_ms`) have no effect on count windows.
        """
        windows: list[Window] = []
        if first == buffer.released:
            return windows
        if self._spec.gap_policy == "reset":
            for jump in jumps:
                self._extend_run(buffer, first, jump, windows)
                first = jump
                self.begin_run()
        self._extend_run(buffer, first, buffer.released, windows)
        return windows

    def begin_run(self) -> None:
        """Begin a new run with the next reading."""
        self.run, self.next_close = 0, self._spec.first_close

    def keep_rows(self, buffer: RowBuffer, watermark_ms: int) -> int:
        """Index of the first reading whose values a coming window needs."""
        needed = self.run - max(self.next_close - self._spec.length, 0)
        return buffer.released - max(needed, 0)

    def _extend_run(self, buffer: RowBuffer, first: int, stop: int, windows: list[Window]) -> None:
        """Continue the run with readings `[first, stop)`; append the windows they close."""
        origin = first - self.run  # index of the run's first reading, which may be forgotten
        run = self.run = stop - origin
        if self.next_close > run:
            return
        length, hop = self._spec.length, self._spec.hop
        gap_ms = self._spec.gap_ms if self._spec.gap_policy == "mark" else None
        lowest = origin + max(self.next_close - length, 0)
        highest = origin + self.next_close + (run - self.next_close) // hop * hop
        rows = buffer.rows(lowest, highest).copy()
        rows.flags.writeable = False
        recv = buffer.recv(lowest, highest).tolist()
        ts = buffer.ts[lowest:highest].tolist()
        while self.next_close <= run:
            until = origin + self.next_close - lowest
            since = max(until - length, 0)
            gaps = _gaps_between(buffer, lowest + since, lowest + until, gap_ms)
            values = rows[since:until]
            if until - since < length:
                values = front_padded(values, length)
                values.flags.writeable = False
            recv_ms = max(recv[since:until])
            readings = until - since
            windows.append(Window(ts[since], ts[until - 1] + 1, values, readings, gaps, recv_ms))
            self.next_close += hop


class TimeCutter:
    """Windows `[k * hop_ms, k * hop_ms + length_ms)`; their only state is the watermark."""

    __slots__ = ("_spec", "next_close", "run")

    def __init__(self, spec: WindowSpec) -> None:
        self._spec = spec
        self.run = self.next_close = 0  # belong to count windows; the snapshot has them for both

    def close(
        self,
        buffer: RowBuffer,
        first: int,
        jumps: list[int],
        before_ms: int,
        watermark_ms: int,
    ) -> list[Window]:
        """Non-empty windows whose end the watermark has passed since it was `before_ms`."""
        length_ms, hop_ms = self._spec.length_ms, self._spec.hop_ms
        k = self._first_open(before_ms)
        if k * hop_ms + length_ms > watermark_ms:
            return []
        start = buffer.first_from(k * hop_ms, buffer.begin)
        windows: list[Window] = []
        while start < buffer.released:
            k = max(k, self._first_open(int(buffer.ts[start])))
            start_ms, end_ms = k * hop_ms, k * hop_ms + length_ms
            if end_ms > watermark_ms:
                break
            start = buffer.first_from(start_ms, start)
            stop = buffer.first_from(end_ms, start)
            if stop - start >= self._spec.min_readings:
                values = buffer.rows(start, stop).copy()
                values.flags.writeable = False
                gaps = _gaps_between(buffer, start, stop, self._spec.gap_ms)
                recv_ms = int(buffer.recv(start, stop).max())
                windows.append(Window(start_ms, end_ms, values, stop - start, gaps, recv_ms))
            k += 1
        return windows

    def keep_rows(self, buffer: RowBuffer, watermark_ms: int) -> int:
        """Index of the first reading of the first open window."""
        start_ms = self._first_open(watermark_ms) * self._spec.hop_ms
        return min(buffer.first_from(start_ms, buffer.begin), buffer.released)

    def _first_open(self, ts_ms: int) -> int:
        """Number of the first window that ends after `ts_ms`."""
        return (ts_ms - self._spec.length_ms) // self._spec.hop_ms + 1


def _gaps_between(buffer: RowBuffer, start: int, stop: int, gap_ms: int | None) -> int:
    if gap_ms is None:
        return 0
    ts = buffer.ts[start:stop]
    return int(np.count_nonzero(ts[1:] - ts[:-1] > gap_ms))
