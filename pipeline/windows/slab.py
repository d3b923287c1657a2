"""Windows of all devices of one stream of one worker. Pure: no clock, no I/O.

    row = add(snapshot)                              ->  a row for each device
    step(rows, counts, ts_ms, values, recv_ms)       ->  SlabStep for many messages at once
    advance(rows, now_ms, since_ms)                  ->  windows for every tick, while `pending`

The rules for a reading are those of `pipeline.windows.windower`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SnapshotError
from pipeline.status.counters import ReadingCounters
from pipeline.windows.resample import measured_rate
from pipeline.windows.slabsnapshots import restore_row, row_snapshots
from pipeline.windows.slabstate import (
    CORRECTED,
    DUPLICATE,
    END,
    FUTURE,
    GAPS,
    LATE,
    MAX_EVENT,
    RELEASED,
    WATERMARK,
    WINDOWED,
    WINDOWS,
    SlabState,
)
from pipeline.windows.slabstep import Messages, advance_rows, take_messages
from pipeline.windows.slabwindows import SlabStep, SlabWindows
from pipeline.windows.spec import WindowSpec

__all__ = ["StreamSlab"]

_MEASURED = 256
"""Newest readings over which the rate is measured."""


class StreamSlab:
    """Windows of many devices of one stream.

    Args:
        spec: Window rules of the stream.
        channels: Channels of a reading.

    Attributes:
        spec: Window rules of the stream.
        channels: Channels of a reading.
    """

    def __init__(self, spec: WindowSpec, channels: int) -> None:
        self.spec = spec
        self.channels = channels
        self._state = SlabState(spec, channels)

    def __len__(self) -> int:
        """Number of rows in use."""
        return len(self._state)

    @property
    def max_event_ms(self) -> NDArray[np.int64]:
        """Largest accepted event time of each row, `NEVER_MS` before the first; int64 `[rows]`.

        To be read at once; the next `add` may move it. Rows not in use hold anything.
        """
        return self._state.numbers[:, MAX_EVENT]

    @property
    def watermark_ms(self) -> NDArray[np.int64]:
        """No window of a row needs an earlier reading; never goes back. As `max_event_ms`."""
        return self._state.numbers[:, WATERMARK]

    @property
    def gaps(self) -> NDArray[np.int64]:
        """Gaps between released readings of each row since it began. As `max_event_ms`."""
        return self._state.numbers[:, GAPS]

    @property
    def windows(self) -> NDArray[np.int64]:
        """Windows that each row closed since it began. As `max_event_ms`."""
        return self._state.numbers[:, WINDOWS]

    def add(self, snapshot: bytes | None = None, run_ms: int | None = None) -> int:
        """Add a device, new or as it was when `snapshot` was taken; returns its row.

        `lateness_ms`, `idle_ms`, `future_ms`, `gap_ms` and `gap_policy` may have changed since.
        `rate_hz` may have changed too: windows that were not resampled before are from now on, and
        otherwise a new run begins.

        Args:
            snapshot: What `snapshots` gave.
            run_ms: See `pipeline.windows.resample.Resampler`; for a device that begins within a
                run.

        Raises:
            SnapshotError: `snapshot` is truncated, damaged, of another version, or has another
                number of channels or another kind, length, hop or min_readings of windows; nothing
                has changed.
        """
        row = self._state.add()
        if snapshot is not None:
            try:
                restore_row(self._state, row, snapshot)
            except SnapshotError:
                self._state.remove(row)
                raise
        elif run_ms is not None and self.spec.rate_hz is not None:
            self._state.runs[row] = run_ms
        return row

    def remove(self, row: int) -> None:
        """Forget the device of `row`; a later `add` may give the row to another one."""
        self._state.remove(row)

    def step(
        self,
        rows: NDArray[np.int32],
        counts: NDArray[np.int64],
        ts_ms: NDArray[np.int64],
        values: NDArray[np.float32],
        recv_ms: NDArray[np.int64],
    ) -> SlabStep:
        """Take messages, in the order of the log; a row may occur several times.

        The result is the same as if each message had been given alone. Every reading is in exactly
        one of the five groups, and a returned window never changes.

        Args:
            rows: Row of each message, int32 `[m]`.
            counts: Number of readings of each message, int64 `[m]`; their sum is n.
            ts_ms: Event times int64 `[n]`, message after message, in any order within a message.
            values: float32 `[n, channels]`; copied, so the caller may reuse all arrays.
            recv_ms: Receive time of each message, int64 `[m]`.

        Raises:
            ValueError: The shapes do not match; nothing has changed.
        """
        n = int(counts.sum())
        if values.shape != (n, self.channels) or len(ts_ms) != n:
            msg = f"{n} readings need values [{n}, {self.channels}], not {list(values.shape)}"
            raise ValueError(msg)
        messages = Messages(rows, counts, ts_ms, values, recv_ms)
        return take_messages(self._state, messages)

    def advance(
        self, rows: NDArray[np.int32], now_ms: int, since_ms: int
    ) -> tuple[list[SlabWindows], NDArray[np.bool_]]:
        """Advance processing time to `now_ms`; the bridge has been connected since `since_ms`.

        Closes nothing until a device was silent for `idle_ms` while the bridge was connected. A
        receive time after `now_ms` counts as now, because the gateway's clock was set back; the
        silence starts again. The result depends only on the arguments, never on a clock, so ticks
        replayed from the log close the same windows.

        Args:
            rows: Different rows, int32 `[k]`.
            now_ms: Processing time.
            since_ms: Begin of the connection.

        Returns:
            Windows that closed, one item for each shape, and whether the watermark of each row has
            moved, or its receive time has become now, `[k]`.
        """
        return advance_rows(self._state, rows, now_ms, since_ms)

    def pending(self, rows: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Whether readings wait for the watermark or the end of a time window (ticks matter)."""
        numbers = self._state.numbers[rows]
        waits: NDArray[np.bool_] = numbers[:, RELEASED] < numbers[:, END]
        if self.spec.kind == "time":
            waits |= self._state.needed(rows, numbers) < numbers[:, END]
        return waits

    def snapshots(self, rows: NDArray[np.int32]) -> list[bytes]:
        """The whole state of each row for `add`: values that a coming window needs, times."""
        return row_snapshots(self._state, rows)

    def rate_hz(self, row: int) -> float | None:
        """Readings per second of event time, as they come; None before the third reading.

        Measured over the newest remembered readings; steps of three times the usual one are silence
        and do not count. It costs some microseconds, so ask for it once per look, not per reading.
        """
        state = self._state
        end = int(state.numbers[row, END])
        start = max(int(state.remembered.first(np.array([row]))[0]), end - _MEASURED)
        return measured_rate(state.remembered.times_from(row, start, end))

    def counters(self, row: int) -> ReadingCounters:
        """Readings, gaps and windows of a row since it began; kept in the snapshot.

        `dead_lettered` counts the readings beyond the future limit. The counters balance after
        every call.
        """
        numbers = self._state.numbers[row]
        windowed, duplicate, late, future = numbers[[WINDOWED, DUPLICATE, LATE, FUTURE]].tolist()
        gaps, windows, corrected = numbers[[GAPS, WINDOWS, CORRECTED]].tolist()
        return ReadingCounters(
            received=windowed + duplicate + corrected + late + future,
            windowed=windowed,
            duplicate=duplicate,
            corrected=corrected,
            late=late,
            dead_lettered=future,
            gaps=gaps,
            windows=windows,
        )
