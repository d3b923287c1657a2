"""The state of all rows of a slab, as arrays: numbers, event times, values, resampled readings.

```
      keep_times         keep_rows     released      end
   may go  |  remembered  |   needed   |   pending   |     event times: the older ones as steps
   may go  |    may go    |  here      |   here      |     receive times and values
```

The watermark has passed the readings left of `released`. All of these are positions
(`pipeline.windows.segments`). What may go is dropped when room is made.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.windows.gridcutter import MOST_WAITING
from pipeline.windows.remembered import RememberedTimes
from pipeline.windows.resample import Resampler
from pipeline.windows.segments import FIRST, LIMIT, Segments
from pipeline.windows.spec import WindowSpec

__all__ = [
    "COMPARED",
    "CORRECTED",
    "DUPLICATE",
    "END",
    "FUTURE",
    "GAPS",
    "GRID_END",
    "LAST_MS",
    "LAST_RECV",
    "LATE",
    "MAX_EVENT",
    "NEVER_MS",
    "NEXT_CLOSE",
    "RELEASED",
    "RUN",
    "SAVED",
    "WAITING",
    "WATERMARK",
    "WINDOWED",
    "WINDOWS",
    "SlabState",
]

NEVER_MS = -(2**62)
"""Less than every event time: the watermark of a device that has sent nothing."""

LAST_MS = 2**62
"""Greater than every event time, so that differences of accepted times fit into 64 bits."""
COMPARED = MOST_WAITING + 1
"""Newest released readings whose values are compared with those of another one of their time."""

WATERMARK, MAX_EVENT, LAST_RECV, RUN, NEXT_CLOSE, WINDOWED = range(6)
DUPLICATE, LATE, FUTURE, GAPS, WINDOWS, CORRECTED = range(6, 12)
RELEASED, END, WAITING, GRID_END = range(12, 16)
SAVED = 12
"""The first numbers stand in a snapshot in this order (`pipeline.windows.snapshots`)."""
_NUMBERS = 16
_REMEMBERED = 1024
_ROOM_OF_TIMES = 96
_ROOM_OF_ROWS = 16
_FIRST_ROWS = 64
_Position = NDArray[np.int64]


class SlabState:
    """Numbers and readings of all rows.

    Args:
        spec: Window rules of the stream.
        channels: Channels of a reading.

    Attributes:
        spec: Window rules of the stream.
        channels: Channels of a reading.
        numbers: int64 `[rows, 16]`; the columns are the constants of this module.
        times: Newest event times.
        remembered: Older event times.
        rows: Receive times and values `[channels]`.
        grid: Event times, receive times and values of resampled readings, these with the number of
            real readings as one more channel; empty without resampling.
        resamplers: States of resamplers as in `Resampler.snapshot`, int64 `[rows, 12 + 2 c]`.
        versions: For rows with corrections: event times and digests of versions that lost.
        runs: For rows that begin within a run: the `run_ms` of `Resampler`.
        most_remembered: Released readings of a row whose event times are remembered.
        longest_ms: `WindowSpec.longest_step_ms`.
        cut_spec: Window rules after resampling.
    """

    def __init__(self, spec: WindowSpec, channels: int) -> None:
        self.spec = spec
        self.channels = channels
        self.numbers: NDArray[np.int64] = np.zeros((0, _NUMBERS), dtype=np.int64)
        self.times = Segments([(np.int64, ())], _ROOM_OF_TIMES)
        self.remembered = RememberedTimes(self.times)
        self.rows = Segments([(np.int64, ()), (np.float32, (channels,))], _ROOM_OF_ROWS)
        grid_columns = [(np.int64, ()), (np.int64, ()), (np.float32, (channels + 1,))]
        self.grid = Segments(grid_columns, max(_ROOM_OF_ROWS, min(spec.hop, _ROOM_OF_TIMES)))
        self.versions: dict[int, dict[tuple[int, int], None]] = {}
        self.runs: dict[int, int] = {}
        self.most_remembered = max(spec.length, _REMEMBERED)
        self.longest_ms = spec.longest_step_ms
        self.cut_spec = spec if spec.rate_hz is None else replace(spec, rate_hz=None, gap_ms=None)
        self._new_numbers = np.zeros(_NUMBERS, dtype=np.int64)
        self._new_numbers[[WATERMARK, MAX_EVENT, LAST_RECV]] = NEVER_MS
        self._new_numbers[NEXT_CLOSE] = spec.first_close if spec.kind == "count" else 0
        self._new_resampler = np.empty(0, dtype=np.int64)
        if spec.rate_hz is not None:
            state = Resampler(spec.rate_hz, channels).snapshot()
            self._new_resampler = np.frombuffer(state, dtype=np.int64)
        self.resamplers: NDArray[np.int64] = np.zeros((0, len(self._new_resampler)), np.int64)
        self._free: list[int] = []
        self._in_use = 0

    def __len__(self) -> int:
        """Number of rows in use."""
        return self._in_use

    def add(self) -> int:
        """Add an empty row."""
        if not self._free:
            count = len(self.numbers)
            more = max(_FIRST_ROWS, count >> 2)
            added = np.zeros((more, _NUMBERS), dtype=np.int64)
            self.numbers = np.concatenate([self.numbers, added])
            for each in (self.times, self.remembered, self.rows, self.grid):
                each.add_rows(more)
            width = len(self._new_resampler)
            self.resamplers = np.concatenate([self.resamplers, np.zeros((more, width), np.int64)])
            self._free = list(range(count + more - 1, count - 1, -1))
        row = self._free.pop()
        self._in_use += 1
        self.numbers[row] = self._new_numbers
        self.resamplers[row] = self._new_resampler
        return row

    def remove(self, row: int) -> None:
        """Forget a row; `add` may give it to another device."""
        for each in (self.times, self.remembered, self.rows, self.grid):
            each.clear(row)
        self.versions.pop(row, None)
        self.runs.pop(row, None)
        self._free.append(row)
        self._in_use -= 1

    def keep(
        self, rows: NDArray[np.integer], numbers: NDArray[np.int64]
    ) -> tuple[_Position, _Position]:
        """First position of each row that is remembered, and first one whose values are kept.

        Both depend on the readings only, not on when room was made, so a restored row recognises
        the same duplicates and corrections.
        """
        released = numbers[:, RELEASED]
        keep_rows = np.maximum(released - COMPARED, self.rows.place[rows, FIRST])
        keep_rows = np.minimum(keep_rows, self.needed(rows, numbers))
        first = self.remembered.first(rows)
        keep_times = np.maximum(released - self.most_remembered, first)
        return np.minimum(keep_times, keep_rows), keep_rows

    def needed(self, rows: NDArray[np.integer], numbers: NDArray[np.int64]) -> _Position:
        """First position of each row that a coming window needs."""
        released = numbers[:, RELEASED]
        if self.spec.rate_hz is not None:  # they are in the grid
            return released
        if self.spec.kind == "count":
            before = np.maximum(numbers[:, NEXT_CLOSE] - self.spec.length, 0)
            return released - np.maximum(numbers[:, RUN] - before, 0)
        return self._needed_by_time(rows, numbers)

    def keep_grid(self, numbers: NDArray[np.int64]) -> _Position:
        """First resampled reading of each row that a coming window needs."""
        before = np.maximum(numbers[:, NEXT_CLOSE] - self.spec.length, 0)
        return numbers[:, GRID_END] - np.maximum(numbers[:, RUN] - before, 0)

    def resampler(self, row: int) -> Resampler:
        """The resampler of a row."""
        resampler = Resampler(self.spec.rate_hz or 0.0, self.channels, self.runs.pop(row, None))
        resampler.restore(self.resamplers[row].tobytes())
        return resampler

    def keep_resampler(self, row: int, resampler: Resampler) -> None:
        """Put the resampler of a row back."""
        self.resamplers[row] = np.frombuffer(resampler.snapshot(), dtype=np.int64)
        if resampler.known_run_ms is not None:
            self.runs[row] = resampler.known_run_ms

    def make_room(
        self, rows: NDArray[np.integer], numbers: NDArray[np.int64], more: NDArray[np.int64]
    ) -> None:
        """Make room for `more` readings of each row where there is none."""
        stop = numbers[:, END] + more
        limit = np.minimum(self.times.place[rows, LIMIT], self.rows.place[rows, LIMIT])
        short = np.flatnonzero(stop > limit)
        rows, numbers, more, stop = rows[short], numbers[short], more[short], stop[short]
        keep_times, keep_rows = self.keep(rows, numbers)
        at = np.flatnonzero(stop > self.times.place[rows, LIMIT])
        if len(at):
            newest = np.minimum(keep_rows, np.maximum(numbers[:, RELEASED] - 1, 0))[at]
            self.remembered.take(rows[at], keep_times[at], newest)
            self.times.make_room(rows[at], newest, numbers[at, END], more[at])
        at = np.flatnonzero(stop > self.rows.place[rows, LIMIT])
        if len(at):
            self.rows.make_room(rows[at], keep_rows[at], numbers[at, END], more[at])

    def _needed_by_time(self, rows: NDArray[np.integer], numbers: NDArray[np.int64]) -> _Position:
        needed = np.empty(len(rows), dtype=np.int64)
        length_ms, hop_ms = self.spec.length_ms, self.spec.hop_ms
        ts = self.times.arrays[0]
        for i, row in enumerate(rows.tolist()):
            watermark_ms, released, end = numbers[i, [WATERMARK, RELEASED, END]].tolist()
            origin, first, _ = self.times.place[row].tolist()
            start_ms = ((watermark_ms - length_ms) // hop_ms + 1) * hop_ms
            found = int(ts[origin + first : origin + end].searchsorted(start_ms)) + first
            needed[i] = min(found, released)
        return needed
