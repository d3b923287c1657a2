"""Many messages at once: those in order as arrays, the rows of the others one by one.

A row whose messages are all **in order** (each reading newer than all before it and not in the
future) is taken with all others of its kind: its readings are appended, the watermark moves once,
and what it has reached is released. The windows are the same as after each message, because
readings in order change nothing about earlier ones. All other rows take their messages one after
the other (`pipeline.windows.windower`), and so does a row with a gap, when a gap begins a run.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.windows.countcut import close_count_windows
from pipeline.windows.segments import LIMIT, ORIGIN, spans
from pipeline.windows.slabgrid import close_grid_windows
from pipeline.windows.slabstate import (
    END,
    GAPS,
    LAST_MS,
    LAST_RECV,
    MAX_EVENT,
    NEVER_MS,
    RELEASED,
    RUN,
    WAITING,
    WATERMARK,
    WINDOWED,
    SlabState,
)
from pipeline.windows.slabwindows import SlabStep, SlabWindows, join_parts, join_windows
from pipeline.windows.spec import Window
from pipeline.windows.windower import RowWindower

__all__ = ["Messages", "advance_rows", "take_messages"]

_NONE: NDArray[np.intp] = np.empty(0, dtype=np.intp)
_NONE.flags.writeable = False


class Messages(NamedTuple):
    """Messages with their readings, one after the other; see `StreamSlab.step`."""

    rows: NDArray[np.int32]
    counts: NDArray[np.int64]
    ts_ms: NDArray[np.int64]
    values: NDArray[np.float32]
    recv_ms: NDArray[np.int64]


class _Readings(NamedTuple):
    """Readings in order, row after row.

    Attributes:
        rows: Different rows `[k]`.
        counts: Number of readings of each row, at least 1, `[k]`.
        ends: Their running sum.
        ts_ms: Event times `[n]`.
        values: `[n, channels]`.
        recv_ms: Receive time of each reading, `[n]`.
        heard_ms: Latest receive time of each row, `[k]`.
    """

    rows: NDArray[np.integer]
    counts: NDArray[np.int64]
    ends: NDArray[np.int64]
    ts_ms: NDArray[np.int64]
    values: NDArray[np.float32]
    recv_ms: NDArray[np.int64]
    heard_ms: NDArray[np.int64]


def advance_rows(
    state: SlabState, rows: NDArray[np.int32], now_ms: int, since_ms: int
) -> tuple[list[SlabWindows], NDArray[np.bool_]]:
    """Advance processing time; see `StreamSlab.advance`."""
    parts: list[SlabWindows] = []
    closed: list[tuple[int, Window]] = []
    before_ms = state.numbers[rows, WATERMARK]
    heard_before_ms = state.numbers[rows, LAST_RECV]
    if state.spec.kind == "time":
        for row in rows.tolist():
            taken = RowWindower(state, row)
            closed += [(row, window) for window in taken.advance(now_ms, since_ms)]
            taken.store()
    else:
        numbers = state.numbers[rows]
        heard_ms = np.minimum(numbers[:, LAST_RECV], now_ms)
        state.numbers[rows, LAST_RECV] = numbers[:, LAST_RECV] = heard_ms
        is_idle = now_ms - np.maximum(heard_ms, since_ms) >= state.spec.idle_ms
        is_idle &= numbers[:, RELEASED] < numbers[:, END]
        if is_idle.any():
            idle, part = rows[is_idle], numbers[is_idle]
            part[:, WATERMARK] = np.maximum(part[:, WATERMARK], part[:, MAX_EVENT])
            _release(state, idle, part, before_ms[is_idle], parts, closed)
    moved = state.numbers[rows, WATERMARK] != before_ms
    moved |= state.numbers[rows, LAST_RECV] != heard_before_ms
    return join_parts([*parts, *join_windows(closed)]), moved


def take_messages(state: SlabState, messages: Messages) -> SlabStep:
    """Take messages in the order of the log; see `StreamSlab.step`."""
    readings, order, message_ends = _by_row(messages)
    k = len(readings.rows)
    windowed = messages.counts.astype(np.int64)
    duplicate, corrected = np.zeros((2, len(windowed)), dtype=np.int64)
    if k == 0:
        return SlabStep(windowed, duplicate, corrected, _NONE, _NONE, [])
    parts: list[SlabWindows] = []
    closed: list[tuple[int, Window]] = []
    late: list[NDArray[np.intp]] = []
    future: list[NDArray[np.intp]] = []
    numbers = state.numbers[readings.rows]
    is_odd = _disordered(state, readings, numbers)
    if is_odd is None:
        _take_in_order(state, readings, numbers, parts, closed)
    else:
        if not is_odd.all():
            steady = ~is_odd
            _take_in_order(state, _selected(readings, steady), numbers[steady], parts, closed)
        starts = messages.counts.cumsum() - messages.counts
        for i in np.flatnonzero(is_odd).tolist():
            first = int(message_ends[i - 1]) if i else 0
            row = int(readings.rows[i])
            taken = RowWindower(state, row)
            for at in order[first : int(message_ends[i])].tolist():
                start = int(starts[at])
                stop = start + int(messages.counts[at])
                recv_ms = int(messages.recv_ms[at])
                step = taken.step(messages.ts_ms[start:stop], messages.values[start:stop], recv_ms)
                windowed[at], duplicate[at] = step.windowed, step.duplicate
                corrected[at] = step.corrected
                late.append(step.late + start)
                future.append(step.future + start)
                closed += [(row, window) for window in step.windows]
            taken.store()
    return SlabStep(
        windowed,
        duplicate,
        corrected,
        np.sort(np.concatenate(late)) if late else _NONE,
        np.sort(np.concatenate(future)) if future else _NONE,
        join_parts([*parts, *join_windows(closed)]),
    )


def _by_row(
    messages: Messages,
) -> tuple[_Readings, NDArray[np.intp], NDArray[np.int64]]:
    """Readings row after row; with the messages of each row, in order, and where they end."""
    rows, counts, ts_ms, values, recv_ms = messages
    order = np.arange(len(rows))
    if len(rows) and not counts.all():
        order = np.flatnonzero(counts)
        rows, counts, recv_ms = rows[order], counts[order], recv_ms[order]
    received = recv_ms if len(ts_ms) == len(rows) else np.repeat(recv_ms, counts)
    ends = counts.cumsum()
    sort = np.argsort(rows, kind="stable")
    in_order = rows[sort]
    is_last = np.ones(len(rows), dtype=np.bool_)
    np.not_equal(in_order[1:], in_order[:-1], out=is_last[:-1])
    if is_last.all():
        alone = np.arange(1, len(rows) + 1)
        return _Readings(rows, counts, ends, ts_ms, values, received, recv_ms), order, alone
    last = np.flatnonzero(is_last)
    first = np.append(0, last[:-1] + 1)
    heard_ms = np.maximum.reduceat(recv_ms[sort], first)
    at = sort
    if len(ts_ms) > len(rows):
        at = spans((ends - counts)[sort], counts[sort])
    counts = np.add.reduceat(counts[sort], first)
    found = _Readings(
        in_order[last], counts, counts.cumsum(), ts_ms[at], values[at], received[at], heard_ms
    )
    return found, order[sort], last + 1


def _disordered(
    state: SlabState, readings: _Readings, numbers: NDArray[np.int64]
) -> NDArray[np.bool_] | None:
    """Which rows have readings that are not in order, `[k]`; None if none has."""
    ts_ms = readings.ts_ms
    before = np.maximum(numbers[:, MAX_EVENT], numbers[:, WATERMARK])
    if len(ts_ms) > len(before):
        newest, before = before, np.empty_like(ts_ms)
        before[1:] = ts_ms[:-1]
        before[readings.ends - readings.counts] = newest
    latest = np.minimum(readings.recv_ms + state.spec.future_ms, LAST_MS)
    is_odd = (ts_ms <= before) | (ts_ms > latest)
    if not is_odd.any():
        return None
    return np.logical_or.reduceat(is_odd, readings.ends - readings.counts)


def _selected(readings: _Readings, which: NDArray[np.bool_]) -> _Readings:
    """The readings of some rows."""
    rows, counts, _, ts_ms, values, recv_ms, heard_ms = readings
    of = np.repeat(which, counts)
    counts = counts[which]
    return _Readings(
        rows[which],
        counts,
        counts.cumsum(),
        ts_ms[of],
        values[of],
        recv_ms[of],
        heard_ms[which],
    )


def _take_in_order(
    state: SlabState,
    readings: _Readings,
    numbers: NDArray[np.int64],
    parts: list[SlabWindows],
    closed: list[tuple[int, Window]],
) -> None:
    """Take readings in order; adds the windows to `parts`, those of single rows to `closed`."""
    rows = readings.rows
    newest = readings.ts_ms[readings.ends - 1]
    _append(state, readings, numbers)
    numbers[:, MAX_EVENT] = newest
    numbers[:, LAST_RECV] = np.maximum(numbers[:, LAST_RECV], readings.heard_ms)
    numbers[:, WINDOWED] += readings.counts
    watermark = np.maximum(newest - state.spec.lateness_ms, NEVER_MS)
    before_ms = numbers[:, WATERMARK].copy()
    numbers[:, WATERMARK] = np.maximum(before_ms, watermark)
    _release(state, rows, numbers, before_ms, parts, closed)


def _append(state: SlabState, readings: _Readings, numbers: NDArray[np.int64]) -> None:
    rows, counts = readings.rows, readings.counts
    end = numbers[:, END]
    times, values = state.times.place[rows], state.rows.place[rows]
    if (end + counts > np.minimum(times[:, LIMIT], values[:, LIMIT])).any():
        state.make_room(rows, numbers, counts)
        times, values = state.times.place[rows], state.rows.place[rows]
    at_times, at_values = times[:, ORIGIN] + end, values[:, ORIGIN] + end
    if len(readings.ts_ms) > len(rows):
        at_times, at_values = spans(at_times, counts), spans(at_values, counts)
    state.times.arrays[0][at_times] = readings.ts_ms
    state.rows.arrays[0][at_values] = readings.recv_ms
    state.rows.arrays[1][at_values] = readings.values
    numbers[:, END] += counts


def _release(
    state: SlabState,
    rows: NDArray[np.integer],
    numbers: NDArray[np.int64],
    before_ms: NDArray[np.int64],
    parts: list[SlabWindows],
    closed: list[tuple[int, Window]],
) -> None:
    """Release what the watermark has reached, and store the numbers.

    Args:
        state: The slab.
        rows: Different rows `[k]`.
        numbers: Their numbers `[k, ...]` with the new watermarks.
        before_ms: Their former watermarks `[k]`.
        parts: Gets the windows that close.
        closed: Gets windows of rows with a gap.
    """
    before = numbers[:, RELEASED].copy()
    released = _reached(state, rows, numbers)
    count = released - before
    numbers[:, RELEASED] = released
    jumps = _jumps(state, rows, numbers, before, count)
    own: list[tuple[int, int, list[int]]] = []
    if jumps and state.spec.gap_policy == "reset" and state.spec.kind == "count":
        own = [(i, int(before[i]), found) for i, found in jumps.items()]
        steady = np.ones(len(rows), dtype=np.bool_)
        steady[list(jumps)] = False
        part = numbers[steady]
        windows, due = _close(state, rows[steady], part, count[steady], before_ms[steady])
        numbers[steady] = part
        due = np.flatnonzero(steady)[due]
    else:
        windows, due = _close(state, rows, numbers, count, before_ms)
    state.numbers[rows] = numbers
    if windows is not None:
        parts.append(windows)
    own += [(i, int(released[i]), []) for i in due.tolist()]
    for i, first, at in own:
        row = int(rows[i])
        taken = RowWindower(state, row)
        closed += [(row, window) for window in taken.release(first, at, int(before_ms[i]))]
        taken.store()


def _reached(
    state: SlabState, rows: NDArray[np.integer], numbers: NDArray[np.int64]
) -> NDArray[np.int64]:
    """One past the last position of each row that the watermark has reached."""
    low: NDArray[np.int64] = numbers[:, RELEASED]
    high: NDArray[np.int64] = numbers[:, END]
    watermark = numbers[:, WATERMARK]
    if (watermark >= numbers[:, MAX_EVENT]).all():
        reached: NDArray[np.int64] = numbers[:, END].copy()
        return reached
    origin, ts = state.times.place[rows, ORIGIN], state.times.arrays[0]
    for _ in range(int((high - low).max()).bit_length()):
        middle = (low + high) >> 1
        is_reached = (ts.take(origin + middle, mode="clip") <= watermark) & (low < high)
        low = np.where(is_reached, middle + 1, low)
        high = np.where(is_reached, high, middle)
    return low


def _jumps(
    state: SlabState,
    rows: NDArray[np.integer],
    numbers: NDArray[np.int64],
    before: NDArray[np.int64],
    count: NDArray[np.int64],
) -> dict[int, list[int]]:
    """Counts gaps in front of the readings released since `before`; their positions by row."""
    longest_ms = state.longest_ms
    if longest_ms is None:
        return {}
    ts = state.times.arrays[0]
    at = spans(state.times.place[rows, ORIGIN] + before, count)
    is_jump = ts.take(at) - ts.take(at - 1, mode="clip") > longest_ms
    found = np.flatnonzero(is_jump)
    if len(found) == 0:
        return {}
    ends = count.cumsum()
    of = np.searchsorted(ends, found, side="right")
    position = before[of] + found - (ends - count)[of]
    jumps: dict[int, list[int]] = {}
    for i, p in zip(of.tolist(), position.tolist(), strict=True):
        if p > 0:  # the first reading of a row has none before it
            jumps.setdefault(i, []).append(p)
            numbers[i, GAPS] += 1
    return jumps


def _close(
    state: SlabState,
    rows: NDArray[np.integer],
    numbers: NDArray[np.int64],
    count: NDArray[np.int64],
    before_ms: NDArray[np.int64],
) -> tuple[SlabWindows | None, NDArray[np.intp]]:
    """Windows that close on `count` released readings; with the rows that close theirs alone."""
    if state.spec.kind == "time":
        length_ms, hop_ms = state.spec.length_ms, state.spec.hop_ms
        end_ms = ((before_ms - length_ms) // hop_ms + 1) * hop_ms + length_ms
        return None, np.flatnonzero(end_ms <= numbers[:, WATERMARK])
    if state.spec.rate_hz is not None:
        numbers[:, WAITING] += count
        return close_grid_windows(state, rows, numbers)
    numbers[:, RUN] += count
    released = numbers[:, RELEASED]
    windows = close_count_windows(state.spec, rows, numbers, released, state.times, state.rows)
    return windows, _NONE
