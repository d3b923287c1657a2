"""Windows of all devices of one stream of one worker. Pure: no clock, no I/O.

    row = add(snapshot)                              ->  a row for each device
    step(rows, counts, ts_ms, values, recv_ms)       ->  SlabStep for many messages at once
    advance(rows, now_ms, since_ms)                  ->  windows for every tick, while `pending`

The rules for a reading are those of `pipeline.windows.windower`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.status.counters import ReadingCounters
from pipeline.windows.slabwindows import SlabStep, SlabWindows, join_windows
from pipeline.windows.spec import Window, WindowSpec
from pipeline.windows.windower import DeviceWindower

__all__ = ["StreamSlab"]

_FIRST_ROWS = 64


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
        self._windowers: list[DeviceWindower | None] = []
        self._free: list[int] = []
        self._max_event_ms = np.zeros(_FIRST_ROWS, dtype=np.int64)
        self._watermark_ms = np.zeros(_FIRST_ROWS, dtype=np.int64)
        self._gaps = np.zeros(_FIRST_ROWS, dtype=np.int64)
        self._windows = np.zeros(_FIRST_ROWS, dtype=np.int64)

    def __len__(self) -> int:
        """Number of rows in use."""
        return len(self._windowers) - len(self._free)

    @property
    def max_event_ms(self) -> NDArray[np.int64]:
        """Largest accepted event time of each row, `NEVER_MS` before the first; int64 `[rows]`.

        To be read at once; the next `add` may move it. Rows not in use hold anything.
        """
        return self._max_event_ms

    @property
    def watermark_ms(self) -> NDArray[np.int64]:
        """No window of a row needs an earlier reading; never goes back. As `max_event_ms`."""
        return self._watermark_ms

    @property
    def gaps(self) -> NDArray[np.int64]:
        """Gaps between released readings of each row since it began. As `max_event_ms`."""
        return self._gaps

    @property
    def windows(self) -> NDArray[np.int64]:
        """Windows that each row closed since it began. As `max_event_ms`."""
        return self._windows

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
        if snapshot is None:
            windower = DeviceWindower(self.spec, self.channels, run_ms)
        else:
            windower = DeviceWindower.restore(self.spec, self.channels, snapshot)
        if self._free:
            row = self._free.pop()
            self._windowers[row] = windower
        else:
            row = len(self._windowers)
            self._windowers.append(windower)
            if row == len(self._gaps):
                for name in ("_max_event_ms", "_watermark_ms", "_gaps", "_windows"):
                    array = getattr(self, name)
                    setattr(self, name, np.concatenate([array, np.zeros_like(array)]))
        self._note(row)
        return row

    def remove(self, row: int) -> None:
        """Forget the device of `row`; a later `add` may give the row to another one."""
        self._windowers[row] = None
        self._free.append(row)

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
        windowed, duplicate, corrected = np.zeros((3, len(rows)), dtype=np.int64)
        late: list[NDArray[np.intp]] = [np.empty(0, dtype=np.intp)]
        future: list[NDArray[np.intp]] = [np.empty(0, dtype=np.intp)]
        closed: list[tuple[int, Window]] = []
        at = 0
        for i, row in enumerate(rows.tolist()):
            stop = at + int(counts[i])
            step = self._of(row).step(ts_ms[at:stop], values[at:stop], int(recv_ms[i]))
            windowed[i], duplicate[i], corrected[i] = step.windowed, step.duplicate, step.corrected
            late.append(step.late + at)
            future.append(step.future + at)
            closed += [(row, window) for window in step.windows]
            self._note(row)
            at = stop
        return SlabStep(
            windowed,
            duplicate,
            corrected,
            np.concatenate(late),
            np.concatenate(future),
            join_windows(closed),
        )

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
            moved, `[k]`.
        """
        moved = np.zeros(len(rows), dtype=np.bool_)
        closed: list[tuple[int, Window]] = []
        for i, row in enumerate(rows.tolist()):
            closed += [(row, window) for window in self._of(row).advance(now_ms, since_ms)]
            before_ms = int(self._watermark_ms[row])
            self._note(row)
            moved[i] = self._watermark_ms[row] != before_ms
        return join_windows(closed), moved

    def pending(self, rows: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Whether readings wait for the watermark or the end of a time window (ticks matter)."""
        return np.array([self._of(row).pending for row in rows.tolist()], dtype=np.bool_)

    def snapshots(self, rows: NDArray[np.int32]) -> list[bytes]:
        """The whole state of each row for `add`: values that a coming window needs, times."""
        return [self._of(row).snapshot() for row in rows.tolist()]

    def rate_hz(self, row: int) -> float | None:
        """Readings per second of event time, as they come; None before the third reading.

        Measured over the newest remembered readings; steps of three times the usual one are silence
        and do not count. It costs some microseconds, so ask for it once per look, not per reading.
        """
        return self._of(row).rate_hz

    def counters(self, row: int) -> ReadingCounters:
        """Readings, gaps and windows of a row since it began; kept in the snapshot.

        `dead_lettered` counts the readings beyond the future limit. The counters balance after
        every call.
        """
        return self._of(row).counters

    def _of(self, row: int) -> DeviceWindower:
        windower = self._windowers[row]
        if windower is None:
            msg = f"row {row} is not in use"
            raise ValueError(msg)
        return windower

    def _note(self, row: int) -> None:
        windower = self._of(row)
        self._max_event_ms[row] = windower.max_event_ms
        self._watermark_ms[row] = windower.watermark_ms
        self._gaps[row] = windower.gaps
        self._windows[row] = windower.counters.windows
