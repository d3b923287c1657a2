"""The readings of one device in event-time order: a buffer that forgets from the front.

```
     keep_ts      keep_rows     released      end
        |  remembered |   needed   |  pending  |      event times: all; values, receive times:
        |  (ts only)  |            |           |      from keep_rows on
```

Readings left of `released` have been passed by the watermark. Indices count from the start of the
time array and change when room is made; nothing outside this file keeps them across a call.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["ReadingBuffer"]

_ROOM = 64
"""Readings to make room for at once: costs 64 rows of memory, saves the copy on most appends."""


class ReadingBuffer:
    """Event times with values and receive times, strictly increasing, appended at the end.

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

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Values of readings `[start, stop)`: a view, to be copied before the next append."""
        return self._values[start - self._shift : stop - self._shift]

    def recv(self, start: int, stop: int) -> NDArray[np.int64]:
        """Receive times of readings `[start, stop)`: a view."""
        return self._recv[start - self._shift : stop - self._shift]

    def first_from(self, ts_ms: int, start: int) -> int:
        """Index of the first reading from `start` on that is not before `ts_ms`."""
        return start + int(self.ts[start : self.end].searchsorted(ts_ms))

    def has_room(self, readings: int) -> bool:
        """Whether `readings` can be appended without making room."""
        stop = self.end + readings
        return stop <= len(self.ts) and stop - self._shift <= len(self._recv)

    def make_room(self, readings: int, keep_ts: int, keep_rows: int) -> None:
        """Forget what is left of `keep_ts` (values: of `keep_rows`) and have room for `readings`.

        Needs `begin <= keep_ts <= keep_rows <= released`.
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
        """Add readings that are all newer than any here, oldest first. There must be room."""
        start = self.end
        stop = self.end = start + len(ts_ms)
        self.ts[start:stop] = ts_ms
        start -= self._shift
        stop -= self._shift
        self._recv[start:stop] = recv_ms
        self._values[start:stop] = values

    def merge(self, ts_ms: NDArray[np.int64], values: NDArray[np.float32], recv_ms: int) -> None:
        """Add readings between the pending ones; none of them is here yet. There must be room."""
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
        """Become what was saved: `ts_ms[:released]` released, values for the last ones only."""
        self.begin, self.released, self.end = 0, released, len(ts_ms)
        self._shift = len(ts_ms) - len(recv_ms)
        self.ts, self._recv, self._values = ts_ms, recv_ms, values


def _moved(array: NDArray, start: int, stop: int, room: int) -> NDArray:  # type: ignore[type-arg]
    """`array[start:stop]` at the front of an array with room for `room` more, reused if it fits."""
    kept = stop - start
    need = kept + room + _ROOM
    if need <= len(array) <= 4 * need:
        array[:kept] = array[start:stop]
        return array
    moved = np.empty((need, *array.shape[1:]), dtype=array.dtype)
    moved[:kept] = array[start:stop]
    return moved
