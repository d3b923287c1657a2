"""What becomes of each reading, and when windows close, on one row of a slab. Pure.

    row = RowWindower(state, number)            a device of `pipeline.windows.slab`, for some calls
    row.step(ts_ms, values, recv_ms)  ->  RowStep
    row.advance(now_ms, since_ms)     ->  windows
    row.store()

All messages take this path, except those in order, for which `pipeline.windows.slabstep` has the
same rules for many rows at once.

Readings wait in event-time order until the **watermark** (largest event time - lateness) reaches
them; then they are released, and windows close on released readings only. The windows therefore
equal those of `pipeline.windows.spec.slice_windows` over the same readings, whatever the order of
arrival within the lateness, the duplicates, and the split into messages.

A message is judged as a whole by the watermark before it. Each reading becomes exactly one of five
things (`received == windowed + duplicate + corrected + late + future`, always):

| reading                                              | becomes                                  |
|------------------------------------------------------|------------------------------------------|
| ts > recv_ms + future_ms                             | future: refused, moves no watermark      |
| ts of a known reading                                | see the next table                       |
| ts < watermark, and not known                        | late: returned, changes nothing          |
| twice in one message, neither future nor late        | the first windowed, the second as below  |
| any other; also ts == watermark, since no window that needs it has closed | windowed            |

A reading is known while it is pending or remembered. Another one with its event time is the same
reading again, or a **correction**: a device that sends one moment in several messages sends an
incomplete reading first.

| values                                               | becomes                                  |
|------------------------------------------------------|------------------------------------------|
| those of the known reading                           | duplicate                                |
| those of an earlier version of it                    | duplicate: a redelivery corrects nothing |
| others, and a coming window needs the reading        | corrected: of all versions, the one that |
|                                                      | was received last counts (equal receive  |
|                                                      | times: the later one in the log) in all  |
|                                                      | windows that have not closed yet         |
| others, and every window with the reading has closed | late: returned, changes nothing; the     |
|                                                      | same values again are a duplicate        |
| not comparable, since the known values are forgotten | duplicate                                |

With `WindowSpec.rate_hz`, windows need no reading any more once it is released, because its values
are in the grid then (`pipeline.windows.resample`).

So a moment with n versions counts as one windowed and n - 1 corrected readings, whichever of them
wins. Values of the last 32 released readings, and of all that a coming window needs, are compared;
versions are remembered for the last 256 corrections.

| event                                    | effect                                               |
|------------------------------------------|------------------------------------------------------|
| jump forward (within the future limit)   | all pending readings are released; a gap if > gap_ms;|
|                                          | readings from before the jump are late from then on  |
| clock set back (device reset)            | late and counted, until event time has caught up     |
| lateness 0                               | readings are released by their own message           |
| gap, policy reset                        | a new run of count windows, front-padded again       |
| gap, policy mark; time windows           | counted in `Window.gaps`, the run continues          |
| idle for idle_ms                         | watermark = largest event time: nothing is pending   |
| idle for longer, time windows            | the watermark advances with processing time, so that |
|                                          | the last windows close when their end has passed     |
| idle, then a reading between the old     | late: it would have been in a window that may have   |
| watermark and the largest event time     | closed                                               |

Only a message with at least one windowed reading ends idleness. A device whose clock was set back
sends late readings for hours, and older pending readings must not wait for that. A correction ends
no idleness either.

The event times of the last `max(length, 1024)` released readings are remembered (with time windows,
also those of all readings in open windows). An older duplicate counts as late.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from pipeline.windows.cutters import CountCutter, TimeCutter
from pipeline.windows.gridcutter import GridCutter
from pipeline.windows.resample import Resampler
from pipeline.windows.rowbuffer import RowBuffer
from pipeline.windows.slabstate import COMPARED, LAST_MS, NEVER_MS, SlabState
from pipeline.windows.spec import Window

__all__ = ["RowStep", "RowWindower"]

_MOST_VERSIONS = 256
_NONE: NDArray[np.intp] = np.empty(0, dtype=np.intp)
_NONE.flags.writeable = False


@dataclass(frozen=True, slots=True)
class RowStep:
    """The result of one message.

    Attributes:
        windows: Windows it closed, in order of their ends.
        windowed: Number of accepted readings.
        duplicate: Number of duplicate readings.
        corrected: Number of readings that are other versions of a known reading.
        late: Indices of its late readings, ascending.
        future: Indices of its readings beyond the future limit, ascending.
    """

    windows: list[Window]
    windowed: int
    duplicate: int
    corrected: int
    late: NDArray[np.intp]
    future: NDArray[np.intp]


class RowWindower:
    """One row of a slab, taken out for a few messages: `store` puts its numbers back.

    Positions count from the first remembered reading here. The readings themselves stay in the
    arrays of the slab, so nothing else may change these in between.

    Args:
        state: The slab.
        row: The row.
    """

    __slots__ = (
        "_buffer",
        "_corrected",
        "_cutter",
        "_duplicate",
        "_future",
        "_gaps",
        "_grid",
        "_late",
        "_resampler",
        "_row",
        "_spec",
        "_state",
        "_versions",
        "_windowed",
        "_windows",
        "last_recv_ms",
        "max_event_ms",
        "watermark_ms",
    )

    def __init__(self, state: SlabState, row: int) -> None:
        self._state, self._row, self._spec = state, row, state.spec
        (
            self.watermark_ms,
            self.max_event_ms,
            self.last_recv_ms,
            run,
            next_close,
            self._windowed,
            self._duplicate,
            self._late,
            self._future,
            self._gaps,
            self._windows,
            self._corrected,
            released,
            end,
            waiting,
            grid_end,
        ) = state.numbers[row].tolist()
        self._versions = state.versions.get(row, {})
        self._buffer = RowBuffer(row, state.times, state.rows, released, end)
        self._grid: RowBuffer | None = None
        self._resampler: Resampler | None = None
        self._cutter: CountCutter | TimeCutter | GridCutter
        if state.spec.rate_hz is not None:
            cutter = CountCutter(state.cut_spec)
            self._grid = RowBuffer(row, state.grid, state.grid, grid_end, grid_end)
            self._resampler = state.resampler(row)
            self._cutter = GridCutter(
                state.spec.rate_hz, self._resampler, self._grid, cutter, waiting
            )
            cutter.run, cutter.next_close = run, next_close
        elif state.spec.kind == "count":
            self._cutter = CountCutter(state.spec)
            self._cutter.run, self._cutter.next_close = run, next_close
        else:
            self._cutter = TimeCutter(state.spec)

    def store(self) -> None:
        """Put the numbers back into the slab."""
        buffer, cutter, state = self._buffer, self._cutter, self._state
        waiting = grid_end = 0
        if isinstance(cutter, GridCutter) and self._grid is not None:
            waiting, grid_end = cutter.waiting, self._grid.end + self._grid.first
        if self._resampler is not None:
            state.keep_resampler(self._row, self._resampler)
        if self._versions:
            state.versions[self._row] = self._versions
        state.numbers[self._row] = (
            self.watermark_ms,
            self.max_event_ms,
            self.last_recv_ms,
            cutter.run,
            cutter.next_close,
            self._windowed,
            self._duplicate,
            self._late,
            self._future,
            self._gaps,
            self._windows,
            self._corrected,
            buffer.released + buffer.first,
            buffer.end + buffer.first,
            waiting,
            grid_end,
        )

    @property
    def pending(self) -> bool:
        """Whether readings wait for the watermark or the end of a time window (ticks matter)."""
        buffer = self._buffer
        if buffer.released < buffer.end:
            return True
        return self._spec.kind == "time" and self._needed() < buffer.end

    def step(self, ts_ms: NDArray[np.int64], values: NDArray[np.float32], recv_ms: int) -> RowStep:
        """Take one message; see `StreamSlab.step`."""
        n = len(ts_ms)
        if n == 0:
            return RowStep([], 0, 0, 0, _NONE, _NONE)
        last = int(ts_ms[-1])
        latest = min(recv_ms + self._spec.future_ms, LAST_MS)
        in_order = ts_ms[0] > max(self.max_event_ms, self.watermark_ms) and last <= latest
        if in_order and (n == 1 or bool((ts_ms[1:] > ts_ms[:-1]).all())):
            self._make_room(n)
            self._buffer.append(ts_ms, values, recv_ms)
            self._windowed += n
            return RowStep(self._accepted(last, recv_ms), n, 0, 0, _NONE, _NONE)
        return self._step_disordered(ts_ms, values, recv_ms, latest)

    def advance(self, now_ms: int, since_ms: int) -> list[Window]:
        """Advance processing time; see `StreamSlab.advance`."""
        self.last_recv_ms = min(self.last_recv_ms, now_ms)
        quiet_ms = now_ms - max(self.last_recv_ms, since_ms)
        if quiet_ms < self._spec.idle_ms or not self.pending:
            return []
        passed = self.max_event_ms
        if self._spec.kind == "time":
            passed = min(passed + quiet_ms - self._spec.idle_ms, LAST_MS)
        return self._move_watermark(passed)

    def release(self, first: int, jumps: list[int], before_ms: int) -> list[Window]:
        """Windows that close on readings released from position `first` on.

        Args:
            first: Position of the first of them.
            jumps: Positions of those with a gap before them.
            before_ms: The watermark before they were released.
        """
        at = self._buffer.first
        windows = self._cutter.close(
            self._buffer, first - at, [jump - at for jump in jumps], before_ms, self.watermark_ms
        )
        self._windows += len(windows)
        return windows

    def adopt(self, run: int, next_close: int) -> None:
        """Continue a run that was not resampled, from the first reading that a window needs."""
        if isinstance(self._cutter, GridCutter):
            released = self._buffer.released
            needed = run - max(next_close - self._spec.length, 0)
            first = max(released - max(needed, 0), self._buffer.first_row)
            self._cutter.adopt(self._buffer, first, run, next_close)

    def _step_disordered(
        self,
        ts_ms: NDArray[np.int64],
        values: NDArray[np.float32],
        recv_ms: int,
        latest: int,
    ) -> RowStep:
        """Take any message: separate future, known, late and repeated readings, merge the rest."""
        buffer = self._buffer
        future = ts_ms > latest
        known = self._known(int(ts_ms.min()))
        place = np.minimum(np.searchsorted(known, ts_ms), max(len(known) - 1, 0))
        is_known = known[place] == ts_ms if len(known) else np.zeros(len(ts_ms), dtype=bool)
        is_known &= ~future
        late = ~future & ~is_known & (ts_ms < self.watermark_ms)
        new = np.flatnonzero(~(future | is_known | late))
        _, first = np.unique(ts_ms[new], return_index=True)
        taken = new[first]
        is_known[np.delete(new, first)] = True
        if len(taken):
            self._make_room(len(taken))
            buffer.merge(ts_ms[taken], values[taken], recv_ms)
        again = np.flatnonzero(is_known)
        corrected, too_late = self._compare(ts_ms, values, recv_ms, again)
        late[too_late] = True
        duplicate = len(again) - corrected - len(too_late)

        self._windowed += len(taken)
        self._duplicate += duplicate
        self._corrected += corrected
        self._late += int(late.sum())
        self._future += int(future.sum())
        windows: list[Window] = []
        if len(taken):
            windows = self._accepted(int(ts_ms[taken[-1]]), recv_ms)
        return RowStep(
            windows=windows,
            windowed=len(taken),
            duplicate=duplicate,
            corrected=corrected,
            late=np.flatnonzero(late),
            future=np.flatnonzero(future),
        )

    def _compare(
        self,
        ts_ms: NDArray[np.int64],
        values: NDArray[np.float32],
        recv_ms: int,
        again: NDArray[np.intp],
    ) -> tuple[int, list[int]]:
        """Compare the readings `again` with the known ones of their event times, and correct these.

        Returns:
            The number of corrections, and the readings that correct what no window needs any more;
            the others are duplicates.
        """
        if len(again) == 0:
            return 0, []
        buffer = self._buffer
        first, needed = self._keep_rows(), self._needed()
        at = first + np.searchsorted(buffer.ts[first : buffer.end], ts_ms[again])
        is_comparable = ts_ms[again] >= buffer.ts[first] if first < buffer.end else at < first
        again, at = again[is_comparable], at[is_comparable]
        differs = (buffer.rows(first, buffer.end)[at - first] != values[again]).any(axis=1)
        corrected, too_late = 0, []
        for i, index in zip(again[differs].tolist(), at[differs].tolist(), strict=True):
            row, recv = buffer.rows(index, index + 1)[0], buffer.recv(index, index + 1)
            version = (int(ts_ms[i]), _digest(values[i]))
            if version in self._versions or bool((row == values[i]).all()):
                continue
            if index < needed:
                too_late.append(i)
            else:
                corrected += 1
                if recv_ms >= recv[0]:
                    version = (version[0], _digest(row))
                    row[:], recv[0] = values[i], recv_ms
            self._versions[version] = None
            if len(self._versions) > _MOST_VERSIONS:
                del self._versions[next(iter(self._versions))]
        return corrected, too_late

    def _accepted(self, max_event_ms: int, recv_ms: int) -> list[Window]:
        """Move the watermark after readings up to `max_event_ms` are buffered."""
        self.max_event_ms = max(self.max_event_ms, max_event_ms)
        self.last_recv_ms = max(self.last_recv_ms, recv_ms)
        watermark_ms = max(self.max_event_ms - self._spec.lateness_ms, NEVER_MS)
        return self._move_watermark(max(watermark_ms, self.watermark_ms))

    def _move_watermark(self, watermark_ms: int) -> list[Window]:
        """Release what the watermark has reached; returns the closed windows."""
        buffer = self._buffer
        before = self.watermark_ms
        self.watermark_ms = max(before, watermark_ms)
        first = buffer.released
        if first < buffer.end:
            if self.watermark_ms >= self.max_event_ms:
                buffer.released = buffer.end
            else:
                waiting = buffer.ts[first : buffer.end]
                buffer.released += int(waiting.searchsorted(self.watermark_ms, "right"))
        longest_ms = self._state.longest_ms
        jumps = [] if longest_ms is None else self._jumps(first, longest_ms)
        self._gaps += len(jumps)
        windows = self._cutter.close(buffer, first, jumps, before, self.watermark_ms)
        self._windows += len(windows)
        return windows

    def _jumps(self, first: int, longest_ms: int) -> list[int]:
        """Indices of the released readings from `first` on with a gap before them."""
        before = max(first - 1, self._buffer.begin)
        ts = self._buffer.ts[before : self._buffer.released]
        if len(ts) < 2:
            return []
        found = np.flatnonzero(ts[1:] - ts[:-1] > longest_ms)
        return [int(at) + before + 1 for at in found] if len(found) else []

    def _known(self, earliest_ms: int) -> NDArray[np.int64]:
        """Remembered and pending event times; perhaps without those before `earliest_ms`."""
        buffer = self._buffer
        start = self._keep_times()
        if start >= 0 or buffer.end == 0 or earliest_ms >= buffer.ts[0]:
            return buffer.ts[max(start, 0) : buffer.end]
        first = buffer.first
        return self._state.remembered.times_from(self._row, start + first, buffer.end + first)

    def _make_room(self, readings: int) -> None:
        buffer = self._buffer
        if not buffer.has_room(readings):
            keep_rows = self._keep_rows()
            keep_ts = min(keep_rows, max(buffer.released - 1, 0))
            if buffer.end + readings > len(buffer.ts):
                keep = np.array([[self._keep_times()], [keep_ts]]) + buffer.first
                self._state.remembered.take(np.array([self._row]), *keep)
            buffer.make_room(readings, keep_ts, keep_rows)

    def _keep_rows(self) -> int:
        """Index of the first reading whose values are kept; see `SlabState.keep`."""
        buffer = self._buffer
        return min(self._needed(), max(buffer.released - COMPARED, buffer.first_row))

    def _keep_times(self) -> int:
        """Index of the first remembered reading, negative if it is not in the buffer."""
        buffer = self._buffer
        first = int(self._state.remembered.first(np.array([self._row]))[0]) - buffer.first
        keep_times = max(buffer.released - self._state.most_remembered, first)
        return min(keep_times, self._keep_rows())

    def _needed(self) -> int:
        """Index of the first reading that a coming window needs."""
        return self._cutter.keep_rows(self._buffer, self.watermark_ms)


def _digest(row: NDArray[np.float32]) -> int:
    """64 bits of the values of a reading; equal values give equal digests."""
    data = (row + np.float32(0)).tobytes()  # the two zeros are equal
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little", signed=True)
