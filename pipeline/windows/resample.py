"""Readings at any rate become readings at the rate of the student, before windows are cut. Pure.

A student is trained at one rate. Its grid has one reading every `1000 / rate_hz` ms of event time
from the first reading of a run on; a run ends at a gap. A **cell** reaches from one grid time to
the next, which belongs to it. A reading is *at* a grid time if it is no more than a tenth of a cell
away from it, or 1 ms (the rounding of time stamps) where that is more, but never more than a
quarter of a cell.

| readings in a cell            | grid reading at its end                                          |
|-------------------------------|------------------------------------------------------------------|
| one, at the grid time         | that reading, bit for bit, with its own event time               |
| one, elsewhere                | linear between the nearest nodes; the reading is a node          |
| several (a faster stream)     | linear between the nearest nodes; their mean (of values and of   |
|                               | event times) is a node, so nothing beyond the student's rate is  |
|                               | folded into what it sees (no aliasing)                           |
| none (a slower stream)        | linear between the nearest nodes; counted as made up             |

| event                                       | effect                                             |
|---------------------------------------------|----------------------------------------------------|
| the first reading at a grid time            | ends the cell; later ones belong to the next cell  |
| a reading of a later cell                   | ends the cell                                      |
| the run ends within a cell                  | readings after the last node make no grid reading  |
| time stamps with jitter                     | as in the table; the grid follows event time       |
| a sensor clock that is fast or slow         | now and then a cell has two readings, or none      |
| a gap, or a jump of more than one window    | a new run with a grid of its own                   |
| a correction of a reading that was released | late: its value is in the grid already             |

So a stream that has the rate passes unchanged, and what comes out depends on the released readings
alone, not on how they were cut into messages. `resample_series` is the definition for a complete
run; `Resampler` gives the same from a stream, bit for bit.
"""

from __future__ import annotations

import math
import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MOST_HZ",
    "NO_RUN",
    "Resampled",
    "Resampler",
    "measured_rate",
    "near_cells",
    "resample_series",
]

MOST_HZ = 1000.0
"""Highest rate of a grid: event times are whole milliseconds."""
_NEAR, _LEAST_NEAR_MS, _MOST_NEAR = 0.1, 1.0, 0.25
_ROUNDING = 1e-6
"""Room for the rounding of grid times in cells; a run of years stays within it."""
_STATE = struct.Struct("<9q3d")
NO_RUN = -(2**63)


class Resampled(NamedTuple):
    """Readings at the grid times of one run.

    Attributes:
        ts_ms: Event times int64 `[n]`, rounded.
        values: float32 `[n, channels]`.
        real: Number of real readings in each cell, int64 `[n]`.
        recv_ms: Latest receive times of the readings that made them, int64 `[n]`.
    """

    ts_ms: NDArray[np.int64]
    values: NDArray[np.float32]
    real: NDArray[np.int64]
    recv_ms: NDArray[np.int64]


def resample_series(
    ts_ms: NDArray[np.int64],
    values: NDArray[np.float32],
    rate_hz: float,
    recv_ms: NDArray[np.int64] | None = None,
) -> Resampled:
    """Resample a complete run: ascending event times without a gap.

    >>> ts = np.array([0, 25, 50, 75])
    >>> rows = np.array([[0.0], [25.0], [50.0], [75.0]], dtype=np.float32)
    >>> found = resample_series(ts, rows, rate_hz=50.0)
    >>> found.values.ravel().tolist(), found.real.tolist()
    ([0.0, 20.0, 40.0], [1, 0, 1])

    Args:
        ts_ms: Event times `[n]`.
        values: Readings `[n, channels]`.
        rate_hz: Rate of the grid, up to `MOST_HZ`.
        recv_ms: Receive times `[n]`; None: each reading is received at its event time.
    """
    received = ts_ms if recv_ms is None else recv_ms
    x = (ts_ms - ts_ms[0]) * rate_hz / 1000  # in cells
    near = near_cells(rate_hz)
    cell = np.ceil(x - near)
    ends = x >= cell - near
    is_next = np.zeros(len(x), dtype=bool)
    is_next[1:] = ends[:-1] & (cell[1:] == cell[:-1])
    cell, ends = cell + is_next, ends & ~is_next
    _, first, real = np.unique(cell, return_index=True, return_counts=True)
    node = np.repeat(np.arange(len(first)), real)
    columns = [np.bincount(node, column) / real for column in values.T.astype(np.float64)]
    complete = slice(None if ends[-1] else len(first) - 1)  # more of the last cell may come
    at, means = (np.bincount(node, x) / real)[complete], np.stack(columns, axis=1)[complete]
    recv = np.maximum.reduceat(received, first)[complete]
    is_whole = ((real == 1) & ends[first])[complete]
    of, first, real = cell[first][complete].astype(np.int64), first[complete], real[complete]

    grid = np.arange(int(max(of[is_whole].max(), at[-1] // 1)) + 1)
    left = np.searchsorted(at, grid, "right") - 1
    right = np.minimum(np.searchsorted(at, grid), len(at) - 1)
    share = (grid - at[left]) / np.where(left < right, at[right] - at[left], 1)
    found = means[left] + share[:, None] * (means[right] - means[left])
    times = np.rint(ts_ms[0] + grid * 1000 / rate_hz)
    recv_of = np.maximum(recv[left], recv[right])
    counts = np.zeros(len(grid), dtype=np.int64)
    counts[of[of < len(grid)]] = real[of < len(grid)]
    as_is = of[is_whole]
    found[as_is], times[as_is] = means[is_whole], ts_ms[first[is_whole]]
    recv_of[as_is] = recv[is_whole]
    return Resampled(times.astype(np.int64), found.astype(np.float32), counts, recv_of)


class Resampler:
    """Resamples one run after the other.

    Its state is of constant size: the last node, and the sums over the readings of an open cell.

    Args:
        rate_hz: Rate of the grid.
        channels: Channels of a reading.
        run_ms: Event time at which a run began whose first readings are not at hand; it applies if
            the first reading is later, and not to the runs after that.
    """

    __slots__ = (
        "_before_real",
        "_known_run_ms",
        "_near",
        "_next",
        "_node",
        "_node_cell",
        "_node_real",
        "_node_recv",
        "_node_x",
        "_open_cell",
        "_open_real",
        "_open_recv",
        "_open_sum",
        "_open_x",
        "_previous_x",
        "_rate",
        "_run_ms",
    )

    def __init__(self, rate_hz: float, channels: int, run_ms: int | None = None) -> None:
        self._rate = rate_hz
        self._near = near_cells(rate_hz)
        self._known_run_ms = run_ms
        self._node = np.zeros(channels)
        self._open_sum = np.zeros(channels)
        self.end_run()

    @property
    def known_run_ms(self) -> int | None:
        """The argument `run_ms`, until a run has begun."""
        return self._known_run_ms

    @property
    def run_ms(self) -> int | None:
        """Event time at which the grid of the run begins; None before its first reading."""
        return None if self._run_ms == NO_RUN else self._run_ms

    def end_run(self) -> None:
        """Begin a new run with the next reading."""
        self._run_ms = NO_RUN
        self._next = 0  # number of the next grid reading
        self._previous_x = -1.0  # the last reading, in cells
        self._node_cell, self._node_x, self._node_real, self._node_recv = -1, -1.0, 0, 0
        self._before_real = 0  # readings in the cell before that of the node
        self._open_cell, self._open_x, self._open_real, self._open_recv = 0, 0.0, 0, 0

    def push(
        self,
        ts_ms: NDArray[np.int64],
        values: NDArray[np.float32],
        recv_ms: NDArray[np.int64],
    ) -> Resampled:
        """The grid readings that the next readings of the run complete.

        They may share memory with the arguments.

        Args:
            ts_ms: Event times `[n]`, n >= 1, ascending and later than all before.
            values: Readings `[n, channels]`.
            recv_ms: Receive times `[n]`.
        """
        if self._run_ms == NO_RUN:
            self._run_ms = self._begin(int(ts_ms[0]))
            if self._run_ms < ts_ms[0]:  # what came before is not at hand
                self._enter(int(ts_ms[0]), values[0], int(recv_ms[0]))
                ts_ms, values, recv_ms = ts_ms[1:], values[1:], recv_ms[1:]
        x = (ts_ms - self._run_ms) * self._rate / 1000
        count = len(x)
        is_open = self._open_real > 0 or self._node_cell >= self._next
        if is_open or not bool((np.abs(x - self._next - np.arange(count)) <= self._near).all()):
            return self._resample(x, ts_ms, values, recv_ms)
        if count:  # each of them is a grid reading
            self._next += count
            self._previous_x, self._before_real = float(x[-1]), 0
            self._keep_node(self._next - 1, self._previous_x, 1, int(recv_ms[-1]), values[-1])
        return Resampled(ts_ms, values, np.ones(count, dtype=np.int64), recv_ms)

    def most_coming(self, ts_ms: int) -> int:
        """The most grid readings that further readings of the run up to `ts_ms` can complete."""
        if self._run_ms == NO_RUN:
            return 1 << 62
        x = (ts_ms - self._run_ms) * self._rate / 1000
        return math.floor(x + self._near) + 1 - self._next

    def snapshot(self) -> bytes:
        """The state for `restore`."""
        head = _STATE.pack(
            self._run_ms,
            self._next,
            self._node_cell,
            self._before_real,
            self._node_real,
            self._node_recv,
            self._open_cell,
            self._open_real,
            self._open_recv,
            self._node_x,
            self._open_x,
            self._previous_x,
        )
        return head + self._node.astype("<f8").tobytes() + self._open_sum.astype("<f8").tobytes()

    def restore(self, data: bytes) -> None:
        """Continue exactly where `snapshot` was taken, with the same rate and channels.

        Raises:
            ValueError: `data` has the wrong length.
        """
        channels = len(self._node)
        if len(data) != _STATE.size + 16 * channels:
            msg = f"the state of a resampler of {channels} channels does not have {len(data)} bytes"
            raise ValueError(msg)
        (
            self._run_ms,
            self._next,
            self._node_cell,
            self._before_real,
            self._node_real,
            self._node_recv,
            self._open_cell,
            self._open_real,
            self._open_recv,
            self._node_x,
            self._open_x,
            self._previous_x,
        ) = _STATE.unpack_from(data)
        numbers = np.frombuffer(data, "<f8", offset=_STATE.size).astype(np.float64)
        self._node, self._open_sum = numbers[:channels].copy(), numbers[channels:].copy()

    def _begin(self, ts_ms: int) -> int:
        """Where the grid of the run begins that has a first reading at `ts_ms`."""
        known, self._known_run_ms = self._known_run_ms, None
        return ts_ms if known is None else min(known, ts_ms)

    def _enter(self, ts_ms: int, row: NDArray[np.float32], recv_ms: int) -> None:
        """Begin within a run: the grid readings up to this reading are not known."""
        self._previous_x = (ts_ms - self._run_ms) * self._rate / 1000
        self._next = math.floor(self._previous_x + self._near) + 1
        self._keep_node(self._next - 1, self._previous_x, 0, recv_ms, row)

    def _keep_node(
        self,
        cell: int,
        x: float,
        real: int,
        recv_ms: int,
        row: NDArray[np.float32] | NDArray[np.float64],
    ) -> None:
        self._node_cell, self._node_x, self._node_real, self._node_recv = cell, x, real, recv_ms
        self._node[:] = row

    def _resample(
        self,
        x: NDArray[np.float64],
        ts_ms: NDArray[np.int64],
        values: NDArray[np.float32],
        recv_ms: NDArray[np.int64],
    ) -> Resampled:
        """The general case of `push`: as in `resample_series`, from the last node on."""
        near = self._near
        cell = np.ceil(np.concatenate([[self._previous_x], x]) - near)
        ends = np.concatenate([[self._previous_x], x]) >= cell - near
        is_next = ends[:-1] & (cell[1:] == cell[:-1])
        cell, ends = cell[1:] + is_next, ends[1:] & ~is_next
        self._previous_x = float(x[-1])

        rows = values.astype(np.float64)
        counts = np.ones(len(x), dtype=np.int64)
        if self._open_real:  # the readings of the open cell are like one more in front
            cell, ends = np.append(self._open_cell, cell), np.append(False, ends)
            x, counts = np.append(self._open_x, x), np.append(self._open_real, counts)
            rows = np.concatenate([self._open_sum[None], rows])
            recv_ms, ts_ms = np.append(self._open_recv, recv_ms), np.append(0, ts_ms)
        begins = np.append(True, cell[1:] > cell[:-1])
        first = np.flatnonzero(begins)
        if len(first) < len(x):
            node = np.cumsum(begins) - 1
            rows = np.stack([np.bincount(node, column) for column in rows.T], axis=1)
            x = np.bincount(node, x).astype(np.float64, copy=False)
            recv_ms = np.maximum.reduceat(recv_ms, first)
            counts = np.bincount(node, counts).astype(np.int64)
        of, is_whole = cell[first].astype(np.int64), (counts == 1) & ends[first]
        self._open_real = 0
        if not ends[-1]:
            self._open_cell, self._open_real = int(of[-1]), int(counts[-1])
            self._open_x, self._open_recv = float(x[-1]), int(recv_ms[-1])
            self._open_sum = rows[-1].copy()
            of, is_whole, first = of[:-1], is_whole[:-1], first[:-1]
            counts, x, rows, recv_ms = counts[:-1], x[:-1], rows[:-1], recv_ms[:-1]
        return self._emit(of, is_whole, ts_ms[first], counts, x, rows, recv_ms)

    def _emit(
        self,
        of: NDArray[np.int64],
        is_whole: NDArray[np.bool_],
        ts_ms: NDArray[np.int64],
        real: NDArray[np.int64],
        sum_x: NDArray[np.float64],
        sums: NDArray[np.float64],
        recv_ms: NDArray[np.int64],
    ) -> Resampled:
        """Grid readings between the last node and the new ones: cells, sums and receive times."""
        at = np.append(self._node_x, sum_x / real)
        means = np.concatenate([self._node[None], sums / real[:, None]])
        recv = np.append(self._node_recv, recv_ms)
        last = max(self._next - 1, int(at[-1] // 1), int(of[is_whole].max(initial=-1)))
        grid = np.arange(self._next, last + 1)
        left = np.searchsorted(at, grid, "right") - 1
        right = np.minimum(np.searchsorted(at, grid), len(at) - 1)
        share = (grid - at[left]) / np.where(left < right, at[right] - at[left], 1)
        found = means[left] + share[:, None] * (means[right] - means[left])
        times: NDArray[np.float64] = np.rint(self._run_ms + grid * 1000 / self._rate)
        recv_of = np.maximum(recv[left], recv[right])
        counts = np.zeros(len(grid), dtype=np.int64)
        cells = np.concatenate([[self._node_cell - 1, self._node_cell], of]) - self._next
        real = np.concatenate([[self._before_real, self._node_real], real])
        is_here = (cells >= 0) & (cells < len(grid))
        counts[cells[is_here]] = real[is_here]
        as_is = of[is_whole] - self._next
        found[as_is], times[as_is] = means[1:][is_whole], ts_ms[is_whole]
        recv_of[as_is] = recv_ms[is_whole]
        self._next = last + 1
        if len(of):
            self._before_real = int(real[-2]) if cells[-2] == cells[-1] - 1 else 0
            self._keep_node(int(of[-1]), float(at[-1]), int(real[-1]), int(recv[-1]), means[-1])
        return Resampled(times.astype(np.int64), found.astype(np.float32), counts, recv_of)


def measured_rate(ts_ms: NDArray[np.int64]) -> float | None:
    """Readings per second of ascending event times; None of fewer than three.

    >>> measured_rate(np.array([0, 20, 40, 60, 9000, 9020]))
    50.0
    """
    if len(ts_ms) < 3:
        return None
    steps = np.diff(ts_ms)
    usual = steps[steps <= 3 * np.median(steps)]
    return 1000 / float(usual.mean())


def near_cells(rate_hz: float) -> float:
    """Distance up to which a reading is at a grid time, in cells."""
    return min(max(_NEAR, _LEAST_NEAR_MS * rate_hz / 1000), _MOST_NEAR) + _ROUNDING
