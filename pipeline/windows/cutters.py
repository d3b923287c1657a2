"""The buffer of a device's readings in event-time order, and the two ways to cut it into windows.

```
     keep_ts      keep_rows     released      end
        |  remembered |   needed   |  pending  |      event times: all of them; values and
        |  (ts only)  |            |           |      receive times: from keep_rows on
```

The watermark has passed the readings left of `released`. Indices count from the start of the time
array and change when room is made; nothing outside this file keeps them across a call. A cutter
gets the newly released readings, returns the windows that close, and tracks which readings it still
needs. `pipeline.windows.windower` holds a buffer and a cutter per device.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.windows.spec import Window, WindowSpec, front_padded

__all__ = ["CountCutter", "ReadingBuffer", "TimeCutter"]

_ROOM = 64
"""Rows reserved at once; 64 rows of memory save the copy on most appends."""


class ReadingBuffer:
    """Readings of one device with strictly increasing event times.

    Attributes:
        ts: Event times int64, valid in `[begin, end)`.
        begin: First remembered reading.
        released: First pending reading.
        end: One past the last reading.
    """

    __slots__ = ("_recv", "_shift", "_values", "begin", "end", "released", "ts")

    def __init__(self, channels: int) -> None:
        self.ts: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._recv: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._values: NDArray[np.float32] = np.empty((0, channels), dtype=np.float32)
        self._shift = 0  # index into ts - index into _recv and _values
        self.begin = self.released = self.end = 0

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
        end, shift = self.end, self._shift
        self.ts = _moved(self.ts, keep_ts, end, readings)
        self._recv = _moved(self._recv, keep_rows - shift, end - shift, readings)
        self._values = _moved(self._values, keep_rows - shift, end - shift, readings)
        self._shift = keep_rows - keep_ts
        self.begin = 0
        self.released -= keep_ts
        self.end -= keep_ts

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

    def load(
        self,
        ts_ms: NDArray[np.int64],
        values: NDArray[np.float32],
        recv_ms: NDArray[np.int64],
        released: int,
    ) -> None:
        """Restore saved content; `ts_ms[:released]` are released, only the last have values."""
        self.begin, self.released, self.end = 0, released, len(ts_ms)
        self._shift = len(ts_ms) - len(recv_ms)
        self.ts, self._recv, self._values = ts_ms, recv_ms, values


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
        buffer: ReadingBuffer,
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

    def keep_rows(self, buffer: ReadingBuffer, watermark_ms: int) -> int:
        """Index of the first reading whose values a coming window needs."""
        needed = self.run - max(self.next_close - self._spec.length, 0)
        return buffer.released - max(needed, 0)

    def _extend_run(
        self, buffer: ReadingBuffer, first: int, stop: int, windows: list[Window]
    ) -> None:
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
        buffer: ReadingBuffer,
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

    def keep_rows(self, buffer: ReadingBuffer, watermark_ms: int) -> int:
        """Index of the first reading of the first open window."""
        start_ms = self._first_open(watermark_ms) * self._spec.hop_ms
        return min(buffer.first_from(start_ms, buffer.begin), buffer.released)

    def _first_open(self, ts_ms: int) -> int:
        """Number of the first window that ends after `ts_ms`."""
        return (ts_ms - self._spec.length_ms) // self._spec.hop_ms + 1


def _moved(array: NDArray, start: int, stop: int, room: int) -> NDArray:  # type: ignore[type-arg]
    """Move `array[start:stop]` to the front of an array with `room` more rows, reused if large."""
    kept = stop - start
    need = kept + room + _ROOM
    if need <= len(array) <= 4 * need:
        array[:kept] = array[start:stop]
        return array
    moved = np.empty((need, *array.shape[1:]), dtype=array.dtype)
    moved[:kept] = array[start:stop]
    return moved


def _gaps_between(buffer: ReadingBuffer, start: int, stop: int, gap_ms: int | None) -> int:
    if gap_ms is None:
        return 0
    ts = buffer.ts[start:stop]
    return int(np.count_nonzero(ts[1:] - ts[:-1] > gap_ms))
