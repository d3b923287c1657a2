"""Count windows of resampled readings: the resampler and the cutter of its readings, as one cutter.

Released readings go into the resampler, some at a time: as soon as a window may close, and before
more of them wait than the windower keeps anyway. What comes out waits in a buffer of its own, with
one more channel: the number of real readings in the cell. So no window needs a reading itself once
it is released.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.windows.cutters import CountCutter
from pipeline.windows.resample import Resampled, Resampler
from pipeline.windows.rowbuffer import RowBuffer
from pipeline.windows.spec import Window, as_resampled

__all__ = ["MOST_WAITING", "GridCutter"]

MOST_WAITING = 31
"""Released readings that may wait; the windower keeps the values of the last 32."""


class GridCutter:
    """Windows of `length` resampled readings, one every `hop` of them.

    Args:
        rate_hz: Rate of the windows.
        resampler: The resampler of the row.
        grid: The resampled readings of the row.
        cutter: Cuts them; its spec has no rate.
        waiting: Number of released readings that are not in the resampler yet.

    Attributes:
        waiting: As above.
    """

    __slots__ = ("_cutter", "_grid", "_rate", "_resampler", "waiting")

    def __init__(
        self,
        rate_hz: float,
        resampler: Resampler,
        grid: RowBuffer,
        cutter: CountCutter,
        waiting: int,
    ) -> None:
        self._rate = rate_hz
        self._resampler = resampler
        self._cutter = cutter
        self._grid = grid
        self.waiting = waiting

    @property
    def run(self) -> int:
        """Number of resampled readings of the current run."""
        return self._cutter.run

    @property
    def next_close(self) -> int:
        """Number of resampled readings of the run at which the next window closes."""
        return self._cutter.next_close

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
        watermark (`before_ms`, `watermark_ms`) have no effect.
        """
        windows: list[Window] = []
        first -= self.waiting
        for jump in jumps:
            self._extend_run(buffer, first, jump, windows)
            first = jump
            self._resampler.end_run()
            self._cutter.begin_run()
        self.waiting = buffer.released - first
        if self.waiting and self._is_due(int(buffer.ts[buffer.released - 1])):
            self.waiting = 0
            self._extend_run(buffer, first, buffer.released, windows)
        return windows

    def keep_rows(self, buffer: RowBuffer, watermark_ms: int) -> int:
        """Index of the first pending reading: the others are in the grid."""
        return buffer.released

    def adopt(self, buffer: RowBuffer, first: int, run: int, next_close: int) -> None:
        """Continue a run that was not resampled, from the first reading that a window needs."""
        self._cutter.run, self._cutter.next_close = run - (buffer.released - first), next_close
        if first < buffer.released:
            start = self._append(_push(self._resampler, buffer, first, buffer.released))
            self._cutter.run += self._grid.end - start

    def _is_due(self, ts_ms: int) -> bool:
        """Whether readings up to `ts_ms` may close a window, or are as many as may wait."""
        coming = self._resampler.most_coming(ts_ms)
        return self.waiting > MOST_WAITING or self.run + coming >= self.next_close

    def _extend_run(self, buffer: RowBuffer, first: int, stop: int, windows: list[Window]) -> None:
        """Continue the run with readings `[first, stop)`; append the windows they close."""
        if first == stop:
            return
        start = self._append(_push(self._resampler, buffer, first, stop))
        run_ms = self._resampler.run_ms
        for window in self._cutter.close(self._grid, start, [], 0, 0):
            real = window.values[-window.readings :, -1]
            values = np.ascontiguousarray(window.values[:, :-1])
            values.flags.writeable = False
            cut = replace(window, values=values)
            windows.append(as_resampled(cut, real, self._rate, run_ms or 0))

    def _append(self, found: Resampled) -> int:
        """Add resampled readings to the grid; returns the index of the first one."""
        grid, count = self._grid, len(found.ts_ms)
        if not grid.has_room(count):
            keep = max(self._cutter.keep_rows(grid, 0), grid.begin)
            grid.make_room(count, keep, keep)
        start = grid.end
        real = found.real[:, None].astype(np.float32)
        grid.append(found.ts_ms, np.concatenate([found.values, real], axis=1), found.recv_ms)
        grid.released = grid.end
        return start


def _push(resampler: Resampler, buffer: RowBuffer, first: int, stop: int) -> Resampled:
    return resampler.push(buffer.ts[first:stop], buffer.rows(first, stop), buffer.recv(first, stop))
