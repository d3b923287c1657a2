"""The specification of windows, a window, and the offline slicer that defines both.

`slice_windows` cuts a complete series (training, evaluation, tests) and is the definition in a few
lines. `pipeline.windows.slab.StreamSlab` gives the same windows from a stream.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.windows.resample import MOST_HZ, resample_series

__all__ = ["Window", "WindowSpec", "as_resampled", "front_padded", "slice_windows"]


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """Rules that cut one stream into windows and decide about readings out of order.

    Count windows (the default) hold `length` readings and close at reading `length`,
    `length + hop`, ... of a run. Time windows `[k * hop_ms, k * hop_ms + length_ms)` are aligned to
    the epoch and hold every reading in them. Both are half-open. Kind, lengths, hops and
    `min_readings` belong to the model and to the state of a device; the other values may change by
    configuration at any time.

    Attributes:
        length: Readings of a count window.
        hop: Readings from one count window's end to the next; may exceed `length`.
        min_readings: A count window closes once its run has this many readings; it is front-padded
            to `length` with its first reading, in phase with the full windows (at readings `n` with
            `(n - length) % hop == 0`). A time window with fewer readings is left out. 0 means
            `length`, or 1 for time windows.
        kind: Count windows or time windows.
        length_ms: Length of a time window.
        hop_ms: Distance between the starts of time windows; may exceed `length_ms`.
        lateness_ms: Distance of the watermark behind the largest event time. A reading delayed
            by exactly this much is still in time.
        idle_ms: After this much processing time without a new reading, nothing older is expected.
        future_ms: A reading further ahead of its receive time is refused.
        gap_ms: An event-time jump larger than this is a gap; None: no gaps.
        gap_policy: Effect of a gap on count windows. `reset` starts a new run, so that no window
            spans it; `mark` continues the run and counts the gap in `Window.gaps`. Time windows
            always mark.
        rate_hz: Rate to which a run is resampled before it is cut (`pipeline.windows.resample`);
            length and hop then count resampled readings. For count windows that reset at gaps.
            None: readings go into windows as they come.
    """

    length: int = 0
    hop: int = 0
    min_readings: int = 0
    kind: Literal["count", "time"] = "count"
    length_ms: int = 0
    hop_ms: int = 0
    lateness_ms: int = 200
    idle_ms: int = 500
    future_ms: int = 300_000
    gap_ms: int | None = None
    gap_policy: Literal["reset", "mark"] = "reset"
    rate_hz: float | None = None

    def __post_init__(self) -> None:
        if self.min_readings == 0:
            default = self.length if self.kind == "count" else 1
            object.__setattr__(self, "min_readings", default)
        for problem, found in self._problems().items():
            if found:
                msg = f"invalid window spec {self}: {problem}"
                raise ValueError(msg)

    def _problems(self) -> dict[str, bool]:
        counted, timed = self.kind == "count", self.kind == "time"
        counts, times = (self.length, self.hop), (self.length_ms, self.hop_ms)
        limits = (self.lateness_ms, self.idle_ms, self.future_ms)
        too_many = counted and self.min_readings > self.length
        return {
            "kind must be count or time": not counted and not timed,
            "gap_policy must be reset or mark": self.gap_policy not in ("reset", "mark"),
            "count windows need length and hop >= 1": counted and min(counts) < 1,
            "count windows take no length_ms and hop_ms": counted and times != (0, 0),
            "time windows need length_ms and hop_ms >= 1": timed and min(times) < 1,
            "time windows take no length and hop": timed and counts != (0, 0),
            "min_readings must be 1 to length": self.min_readings < 1 or too_many,
            "lateness_ms, idle_ms and future_ms must be >= 0": min(limits) < 0,
            "gap_ms must be >= 1 or None": self.gap_ms is not None and self.gap_ms < 1,
            "rate_hz needs count windows with gap_policy reset": self.rate_hz is not None
            and (timed or self.gap_policy != "reset"),
            f"rate_hz must be above 0 and at most {MOST_HZ:g}, or None": self.rate_hz is not None
            and not 0 < self.rate_hz <= MOST_HZ,
        }

    @property
    def longest_step_ms(self) -> int | None:
        """Largest step between two readings that is no gap; None: every one.

        With `rate_hz` a step of more than one window is a gap too, because the readings that would
        fill it say nothing and cost as much as real ones.
        """
        if self.rate_hz is None:
            return self.gap_ms
        window_ms = math.ceil(self.length * 1000 / self.rate_hz)
        return window_ms if self.gap_ms is None else min(self.gap_ms, window_ms)

    @property
    def first_close(self) -> int:
        """Number of readings of a run at which its first count window closes."""
        return self.length - self.hop * ((self.length - self.min_readings) // self.hop)


@dataclass(frozen=True, slots=True)
class Window:
    """One closed window, half-open `[start_ms, end_ms)`.

    Attributes:
        start_ms: Count windows: event time of the first reading; time windows: aligned start.
        end_ms: Count windows: event time of the last reading + 1; time windows: aligned end.
        values: float32 `[length, c]` (time windows: `[readings, c]`), read-only, C order. Windows
            that closed together may share memory.
        readings: Number of real readings: fewer than `length` when front-padded, and before
            resampling.
        gaps: Gaps between its readings.
        recv_ms: Latest receive time of its readings.
        made_up: Share of the resampled readings that no real reading is near, 0 to 1.
        rate_hz: Real readings per second; None without resampling.
        run_ms: Event time at which the resampling began; None without it.
    """

    start_ms: int
    end_ms: int
    values: NDArray[np.float32]
    readings: int
    gaps: int
    recv_ms: int
    made_up: float = 0.0
    rate_hz: float | None = None
    run_ms: int | None = None


def slice_windows(
    ts_ms: NDArray[np.int64],
    values: NDArray[np.float32],
    spec: WindowSpec,
    recv_ms: NDArray[np.int64] | None = None,
) -> list[Window]:
    """Cut a complete series into windows, in order of their ends; a stream must give the same.

    Readings may be in any order; of several with the same event time, the one received
    last counts, and of those received together the last one. Nothing
    is dropped, because lateness and receive times exist in a stream only.

    >>> ts = np.arange(0, 100, 20)
    >>> rows = np.arange(5, dtype=np.float32).reshape(5, 1)
    >>> [w.values.ravel().tolist() for w in slice_windows(ts, rows, WindowSpec(length=3, hop=2))]
    [[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]]
    >>> halves = WindowSpec(kind="time", length_ms=50, hop_ms=50)
    >>> [(w.start_ms, w.end_ms, w.readings) for w in slice_windows(ts, rows, halves)]
    [(0, 50, 3), (50, 100, 2)]

    Args:
        ts_ms: Event times, `[n]`.
        values: Readings `[n, c]`.
        spec: Window rules.
        recv_ms: Receive times `[n]`; None: each reading is received at its event time.
    """
    received = ts_ms if recv_ms is None else recv_ms
    order = np.lexsort((received, ts_ms))  # stable: in the order given, where all else is equal
    last = order[np.flatnonzero(np.diff(ts_ms[order], append=ts_ms.max(initial=0) + 1))]
    ts, rows, recv = ts_ms[last], values[last], received[last]
    longest_ms = spec.longest_step_ms
    is_gap = np.diff(ts) > (2**62 if longest_ms is None else longest_ms)
    if spec.rate_hz is not None:
        starts = np.flatnonzero(is_gap) + 1
        runs = zip(*(np.split(each, starts) for each in (ts, rows, recv)), strict=True)
        return [window for run in runs for window in _resampled(run, spec)]
    spans: list[
        tuple[int, int, int, int]
    ] = []  # first reading, one past the last, start_ms, end_ms
    if spec.kind == "time":
        length, hop = spec.length_ms, spec.hop_ms
        of_reading = (range((t - length) // hop + 1, t // hop + 1) for t in ts.tolist())
        for k in sorted(set[int]().union(*of_reading)):
            lo, hi = np.searchsorted(ts, (k * hop, k * hop + length)).tolist()
            if hi - lo >= spec.min_readings:
                spans.append((lo, hi, k * hop, k * hop + length))
    else:
        starts = np.flatnonzero(is_gap & (spec.gap_policy == "reset")) + 1
        for run in np.split(np.arange(len(ts)), starts):
            for n in range(spec.min_readings, len(run) + 1):
                if (n - spec.length) % spec.hop == 0:
                    lo, hi = int(run[max(0, n - spec.length)]), int(run[n - 1]) + 1
                    spans.append((lo, hi, int(ts[lo]), int(ts[hi - 1]) + 1))
    return [
        Window(
            start_ms=start,
            end_ms=end,
            values=front_padded(rows[lo:hi], spec.length),
            readings=hi - lo,
            gaps=int(is_gap[lo : hi - 1].sum()),
            recv_ms=int(recv[lo:hi].max()),
        )
        for lo, hi, start, end in spans
    ]


def _resampled(run: tuple[Any, ...], spec: WindowSpec) -> list[Window]:
    """The windows of one run (event times, values, receive times), resampled."""
    ts_ms, values, recv_ms = run
    if len(ts_ms) == 0 or spec.rate_hz is None:
        return []
    found = resample_series(ts_ms, values, spec.rate_hz, recv_ms)
    windows = slice_windows(
        found.ts_ms, found.values, replace(spec, rate_hz=None, gap_ms=None), found.recv_ms
    )
    ends = range(spec.first_close, len(found.ts_ms) + 1, spec.hop)
    return [
        as_resampled(window, found.real[n - window.readings : n], spec.rate_hz, int(ts_ms[0]))
        for n, window in zip(ends, windows, strict=True)
    ]


def as_resampled(
    window: Window, real: NDArray[np.integer] | NDArray[np.float32], rate_hz: float, run_ms: int
) -> Window:
    """A window of resampled readings; `real` are the numbers of real readings in their cells."""
    readings = int(real.sum())
    return replace(
        window,
        readings=readings,
        made_up=float(np.count_nonzero(real == 0)) / len(real),
        rate_hz=readings * rate_hz / len(real),
        run_ms=run_ms,
    )


def front_padded(rows: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Repeat the first of `rows` in front until there are `length` rows.

    >>> front_padded(np.array([[1.0], [2.0]], dtype=np.float32), 4).ravel().tolist()
    [1.0, 1.0, 1.0, 2.0]
    """
    missing = length - len(rows)
    return rows if missing <= 0 else np.concatenate([np.repeat(rows[:1], missing, axis=0), rows])
