"""Windows of one device from a stream of readings. Pure: no clock, no I/O.

    step(ts_ms, values, recv_ms)  ->  Step      for every message of the device
    advance(now_ms, since_ms)     ->  windows   for every tick, while `pending`

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

from pipeline.errors import SnapshotError
from pipeline.status.counters import ReadingCounters
from pipeline.windows.cutters import CountCutter, ReadingBuffer, TimeCutter
from pipeline.windows.gridcutter import MOST_WAITING, GridCutter
from pipeline.windows.resample import measured_rate
from pipeline.windows.snapshots import WindowerState, decode_state, encode_state
from pipeline.windows.spec import Window, WindowSpec

__all__ = [
    "NEVER_MS",
    "DeviceWindower",
    "Step",
]

NEVER_MS = -(2**62)
"""Less than every event time: the watermark of a device that has sent nothing."""

_LAST_MS = 2**62
"""Greater than every event time, so that differences of accepted times fit into 64 bits."""
_REMEMBERED = 1024
_COMPARED = MOST_WAITING + 1
_MOST_VERSIONS = 256
_MEASURED = 256
"""Newest readings over which the rate is measured."""
_NONE: NDArray[np.intp] = np.empty(0, dtype=np.intp)
_NONE.flags.writeable = False


@dataclass(frozen=True, slots=True)
class Step:
    """The result of one message.

    Attributes:
        windows: Windows it closed, in order of their ends.
        windowed: Number of accepted readings.
        duplicate: Number of duplicate readings.
        corrected: Number of readings that are other versions of a known reading.
        late: Indices of its late readings, ascending.
        future: Indices of its readings beyond the future limit, ascending.
        gaps: Gaps between readings released by it.
    """

    windows: list[Window]
    windowed: int
    duplicate: int
    corrected: int
    late: NDArray[np.intp]
    future: NDArray[np.intp]
    gaps: int


class DeviceWindower:
    """Windows of one stream of one device.

    Args:
        spec: Window rules of the stream.
        channels: Channels of a reading.
        run_ms: See `pipeline.windows.resample.Resampler`; for a windower that begins within a run.

    Attributes:
        spec: Window rules of the stream.
        channels: Channels of a reading.
        max_event_ms: Largest accepted event time, `NEVER_MS` before the first.
        last_recv_ms: Latest receive time of a message with an accepted reading, `NEVER_MS` before
            the first; never later than the last tick.
        watermark_ms: No window needs an earlier reading; never goes back.
    """

    __slots__ = (
        "_buffer",
        "_corrected",
        "_cutter",
        "_duplicate",
        "_future",
        "_gaps",
        "_late",
        "_remembered",
        "_versions",
        "_windowed",
        "_windows",
        "channels",
        "last_recv_ms",
        "max_event_ms",
        "spec",
        "watermark_ms",
    )

    def __init__(self, spec: WindowSpec, channels: int, run_ms: int | None = None) -> None:
        self.spec = spec
        self.channels = channels
        self.max_event_ms = self.last_recv_ms = self.watermark_ms = NEVER_MS
        self._buffer = ReadingBuffer(channels)
        self._remembered = max(spec.length, _REMEMBERED)
        self._cutter = _make_cutter(spec, channels, run_ms)
        self._windowed = self._duplicate = self._late = self._future = 0
        self._gaps = self._windows = self._corrected = 0
        self._versions: dict[tuple[int, int], None] = {}  # event times and digests that lost

    @property
    def pending(self) -> bool:
        """Whether readings wait for the watermark or the end of a time window (ticks matter)."""
        buffer = self._buffer
        if buffer.released < buffer.end:
            return True
        return self.spec.kind == "time" and self._needed() < buffer.end

    @property
    def gaps(self) -> int:
        """Gaps between released readings since the windower began."""
        return self._gaps

    @property
    def rate_hz(self) -> float | None:
        """Readings per second of event time, as they come; None before the third reading.

        Measured over the newest remembered readings; steps of three times the usual one are silence
        and do not count. It costs some microseconds, so ask for it once per look, not per reading.
        """
        buffer = self._buffer
        return measured_rate(buffer.ts[max(buffer.begin, buffer.end - _MEASURED) : buffer.end])

    @property
    def counters(self) -> ReadingCounters:
        """Readings, gaps and windows since the windower began; kept in the snapshot.

        `dead_lettered` counts the readings beyond the future limit. The counters balance after
        every call.
        """
        counted = (self._windowed, self._duplicate, self._corrected, self._late, self._future)
        return ReadingCounters(
            received=sum(counted),
            windowed=self._windowed,
            duplicate=self._duplicate,
            corrected=self._corrected,
            late=self._late,
            dead_lettered=self._future,
            gaps=self._gaps,
            windows=self._windows,
        )

    def step(self, ts_ms: NDArray[np.int64], values: NDArray[np.float32], recv_ms: int) -> Step:
        """Take one message; call it for every message, in the order of the log.

        Args:
            ts_ms: Event times int64 `[n]`, any order; n may be 0.
            values: float32 `[n, channels]`; copied, so the caller may reuse both.
            recv_ms: Receive time of the message.

        Returns:
            The result. Every reading is in exactly one of the five groups, and a returned window
            never changes.

        Raises:
            ValueError: The shapes do not match; nothing has changed.
        """
        n = len(ts_ms)
        if values.shape != (n, self.channels):
            msg = f"{n} event times need values [{n}, {self.channels}], not {list(values.shape)}"
            raise ValueError(msg)
        if n == 0:
            return Step([], 0, 0, 0, _NONE, _NONE, 0)
        last = int(ts_ms[-1])
        latest = min(recv_ms + self.spec.future_ms, _LAST_MS)
        in_order = ts_ms[0] > max(self.max_event_ms, self.watermark_ms) and last <= latest
        if in_order and (n == 1 or bool((ts_ms[1:] > ts_ms[:-1]).all())):
            self._make_room(n)
            self._buffer.append(ts_ms, values, recv_ms)
            self._windowed += n
            windows, gaps = self._accepted(last, recv_ms)
            return Step(windows, n, 0, 0, _NONE, _NONE, gaps)
        return self._step_disordered(ts_ms, values, recv_ms, latest)

    def advance(self, now_ms: int, since_ms: int) -> list[Window]:
        """Advance processing time to `now_ms`; the bridge has been connected since `since_ms`.

        Closes nothing until the device was silent for `idle_ms` while the bridge was connected. A
        receive time after `now_ms` counts as now, because the gateway's clock was set back; the
        silence starts again. The result depends only on the arguments, never on a clock, so ticks
        replayed from the log close the same windows.

        Returns:
            Windows that closed, in order of their ends.
        """
        self.last_recv_ms = min(self.last_recv_ms, now_ms)
        quiet_ms = now_ms - max(self.last_recv_ms, since_ms)
        if quiet_ms < self.spec.idle_ms or not self.pending:
            return []
        passed = self.max_event_ms
        if self.spec.kind == "time":
            passed = min(passed + quiet_ms - self.spec.idle_ms, _LAST_MS)
        return self._move_watermark(passed)[0]

    def snapshot(self) -> bytes:
        """The whole state for `restore`: values that a coming window needs, times, counters."""
        buffer = self._buffer
        keep_ts, keep_rows = self._keep()
        return encode_state(
            self.spec,
            self.channels,
            WindowerState(
                watermark_ms=self.watermark_ms,
                max_event_ms=self.max_event_ms,
                last_recv_ms=self.last_recv_ms,
                run=self._cutter.run,
                next_close=self._cutter.next_close,
                windowed=self._windowed,
                duplicate=self._duplicate,
                late=self._late,
                future=self._future,
                gaps=self._gaps,
                windows=self._windows,
                corrected=self._corrected,
                released=buffer.released - keep_ts,
                ts_ms=buffer.ts[keep_ts : buffer.end],
                recv_ms=buffer.recv(keep_rows, buffer.end),
                values=buffer.rows(keep_rows, buffer.end),
                versions=np.array(list(self._versions), dtype=np.int64).reshape(-1, 2),
                grid=self._cutter.state() if isinstance(self._cutter, GridCutter) else None,
            ),
        )

    @classmethod
    def restore(cls, spec: WindowSpec, channels: int, data: bytes) -> DeviceWindower:
        """Create a windower that continues exactly where `snapshot` was taken.

        `lateness_ms`, `idle_ms`, `future_ms`, `gap_ms` and `gap_policy` may differ. `rate_hz` may
        differ too: windows that were not resampled before are from now on, and otherwise a new run
        begins.

        Raises:
            SnapshotError: `data` is truncated, damaged, of another version, or has another number
                of channels or another kind, length, hop or min_readings of windows.
        """
        state = decode_state(spec, channels, data)
        windower = cls(spec, channels)
        windower.watermark_ms = state.watermark_ms
        windower.max_event_ms = state.max_event_ms
        windower.last_recv_ms = state.last_recv_ms
        windower._windowed = state.windowed
        windower._duplicate = state.duplicate
        windower._late = state.late
        windower._future = state.future
        windower._gaps = state.gaps
        windower._windows = state.windows
        windower._corrected = state.corrected
        windower._versions = dict.fromkeys(map(tuple, state.versions.tolist()))
        windower._buffer.load(state.ts_ms, state.values, state.recv_ms, state.released)
        try:
            windower._continue_run(state)
        except ValueError as exc:
            msg = f"window snapshot of {len(data)} bytes is damaged: {exc}"
            raise SnapshotError(msg) from exc
        return windower

    def _continue_run(self, state: WindowerState) -> None:
        """Continue the run of a snapshot, if its windows have the rate of these."""
        cutter, grid = self._cutter, state.grid
        if not isinstance(cutter, GridCutter):
            if grid is None:
                cutter.run, cutter.next_close = state.run, state.next_close
        elif grid is None:
            released = self._buffer.released
            needed = state.run - max(state.next_close - self.spec.length, 0)
            first = max(released - max(needed, 0), self._buffer.first_row)
            cutter.adopt(self._buffer, first, state.run, state.next_close)
        elif grid.rate_hz == self.spec.rate_hz:
            cutter.load(grid, state.run, state.next_close)

    def _step_disordered(
        self,
        ts_ms: NDArray[np.int64],
        values: NDArray[np.float32],
        recv_ms: int,
        latest: int,
    ) -> Step:
        """Take any message: separate future, known, late and repeated readings, merge the rest."""
        buffer = self._buffer
        future = ts_ms > latest
        known = buffer.ts[self._keep()[0] : buffer.end]
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
        gaps = 0
        if len(taken):
            windows, gaps = self._accepted(int(ts_ms[taken[-1]]), recv_ms)
        return Step(
            windows=windows,
            windowed=len(taken),
            duplicate=duplicate,
            corrected=corrected,
            late=np.flatnonzero(late),
            future=np.flatnonzero(future),
            gaps=gaps,
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
        first, needed = self._keep()[1], self._needed()
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

    def _accepted(self, max_event_ms: int, recv_ms: int) -> tuple[list[Window], int]:
        """Move the watermark after readings up to `max_event_ms` are buffered; returns as below."""
        self.max_event_ms = max(self.max_event_ms, max_event_ms)
        self.last_recv_ms = max(self.last_recv_ms, recv_ms)
        watermark_ms = max(self.max_event_ms - self.spec.lateness_ms, NEVER_MS)
        return self._move_watermark(max(watermark_ms, self.watermark_ms))

    def _move_watermark(self, watermark_ms: int) -> tuple[list[Window], int]:
        """Release what the watermark has reached; returns the closed windows and the gaps found."""
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
        longest_ms = self.spec.longest_step_ms
        jumps = [] if longest_ms is None else self._jumps(first, longest_ms)
        self._gaps += len(jumps)
        windows = self._cutter.close(buffer, first, jumps, before, self.watermark_ms)
        self._windows += len(windows)
        return windows, len(jumps)

    def _jumps(self, first: int, longest_ms: int) -> list[int]:
        """Indices of the released readings from `first` on with a gap before them."""
        before = max(first - 1, self._buffer.begin)
        ts = self._buffer.ts[before : self._buffer.released]
        if len(ts) < 2:
            return []
        found = np.flatnonzero(ts[1:] - ts[:-1] > longest_ms)
        return [int(at) + before + 1 for at in found] if len(found) else []

    def _make_room(self, readings: int) -> None:
        if not self._buffer.has_room(readings):
            self._buffer.make_room(readings, *self._keep())

    def _keep(self) -> tuple[int, int]:
        """Indices of the first remembered reading and of the first one whose values are kept.

        Both depend on the readings only, not on when room was made, so a restored windower
        recognises the same duplicates and corrections.
        """
        buffer = self._buffer
        keep_rows = min(self._needed(), max(buffer.released - _COMPARED, buffer.first_row))
        return min(max(buffer.released - self._remembered, buffer.begin), keep_rows), keep_rows

    def _needed(self) -> int:
        """Index of the first reading that a coming window needs."""
        return self._cutter.keep_rows(self._buffer, self.watermark_ms)


def _make_cutter(
    spec: WindowSpec, channels: int, run_ms: int | None
) -> CountCutter | TimeCutter | GridCutter:
    if spec.rate_hz is not None:
        return GridCutter(spec, spec.rate_hz, channels, run_ms)
    return CountCutter(spec) if spec.kind == "count" else TimeCutter(spec)


def _digest(row: NDArray[np.float32]) -> int:
    """64 bits of the values of a reading; equal values give equal digests."""
    data = (row + np.float32(0)).tobytes()  # the two zeros are equal
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little", signed=True)
