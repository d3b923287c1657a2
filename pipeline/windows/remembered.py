"""Event times that are remembered only to recognise duplicates: as steps of 32 bits.

A row remembers a thousand times, of which its windows need thirty. The others leave the segment of
event times when room is made there. Here they take half the memory: a step from each time to the
next one; the last of them leads to the first time in the segment.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.windows.segments import FIRST, LIMIT, ORIGIN, Segments, spans
from pipeline.windows.series import Series

__all__ = ["RememberedTimes"]

_LONG = 0xFFFFFFFF
"""Stands for a step of 49 days or more, which is kept aside."""
_ROOM = 96
_Positions = NDArray[np.int64]


class RememberedTimes:
    """Older event times of rows whose newest ones are in `times`.

    Args:
        times: Segments of event times; what is here lies left of their first positions.
    """

    def __init__(self, times: Segments) -> None:
        self._times = times
        self._steps = Segments([(np.uint32, ())], _ROOM)
        self._long: dict[int, dict[int, int]] = {}  # position and length of long steps, by row

    def add_rows(self, count: int) -> None:
        """Add rows that remember nothing."""
        self._steps.add_rows(count)

    def clear(self, row: int) -> None:
        """Forget what a row remembers."""
        self._steps.clear(row)
        self._long.pop(row, None)

    def first(self, rows: NDArray[np.integer]) -> _Positions:
        """First position of each row that is remembered, `[k]`."""
        found: _Positions = self._steps.place[rows, FIRST]
        return found

    def load(self, row: int, ts_ms: NDArray[np.int64]) -> None:
        """Remember all but the last of `ts_ms` from position 0 on; the row remembers nothing."""
        if len(ts_ms) > 1:
            self._steps.load(row, 0, (self._as_steps([row], [0], np.diff(ts_ms)),))

    def take(
        self, rows: NDArray[np.integer], keep: Sequence[int] | _Positions, until: _Positions
    ) -> None:
        """Remember what will leave the segments: positions left of `until`, which stays there.

        Args:
            rows: Different rows `[k]`.
            keep: First position of each row that must be remembered, `[k]`.
            until: First position of each row that stays, `[k]`.
        """
        first = self._times.place[rows, FIRST]
        which = np.flatnonzero(until > first)
        if len(which) == 0:
            return
        rows, keep, first = rows[which], np.asarray(keep)[which], first[which]
        count = until[which] - first
        place = self._steps.place[rows]
        short = np.flatnonzero(first + count > place[:, LIMIT])
        if len(short):
            kept = np.clip(keep, place[:, FIRST], first)[short]
            self._steps.make_room(rows[short], kept, first[short], count[short])
        at = spans(self._times.place[rows, ORIGIN] + first, count)
        ts = self._times.arrays[0]
        steps = self._as_steps(rows.tolist(), first.tolist(), ts[at + 1] - ts[at], count)
        self._steps.arrays[0][spans(self._steps.place[rows, ORIGIN] + first, count)] = steps

    def times_from(self, row: int, start: int, end: int) -> NDArray[np.int64]:
        """Event times `[start, end)` of a row."""
        first, steps, _ = self.series(np.array([row]), np.array([start]), np.array([end]))
        steps[:1] = first[: len(steps)]
        return steps.cumsum()

    def series(self, rows: NDArray[np.integer], start: _Positions, end: _Positions) -> Series:
        """Event times `[start, end)` of each row."""
        place = self._times.place[rows]
        counts, older = end - start, np.maximum(place[:, FIRST] - start, 0)
        newer = counts - older
        times = self._times.arrays[0].take(spans(place[:, ORIGIN] + end - newer, newer))
        if not older.any():
            return Series.of(times, counts)
        begin = counts.cumsum() - counts
        steps = np.empty(int(counts.sum()), dtype=np.int64)
        steps[spans(begin + older, newer)] = np.diff(times, prepend=0)
        kept, origin = self._steps.arrays[0], self._steps.place[rows, ORIGIN]
        for at, source, size in zip(
            (begin + 1).tolist(), (origin + start).tolist(), older.tolist(), strict=True
        ):
            steps[at : at + size] = kept[source : source + size]
        for i, row in enumerate(rows.tolist()) if self._long else ():
            for position, step in self._long.get(row, {}).items():
                if start[i] <= position < start[i] + older[i]:
                    steps[begin[i] + 1 + position - start[i]] = step
        filled = counts > 0
        first = np.zeros(len(rows), dtype=np.int64)
        steps[begin[filled]] = 0
        last = self._times.arrays[0].take(place[filled, ORIGIN] + end[filled] - 1)
        first[filled] = last - np.add.reduceat(steps, begin[filled])
        return Series(first, steps, counts)

    def _as_steps(
        self,
        rows: list[int],
        first: list[int],
        steps: NDArray[np.int64],
        counts: NDArray[np.int64] | None = None,
    ) -> NDArray[np.uint32]:
        """Steps from the positions `first` of rows on as they are kept."""
        is_long = steps >= _LONG
        if is_long.any():
            ends = np.array([len(steps)]) if counts is None else counts.cumsum()
            for at in np.flatnonzero(is_long).tolist():
                i = int(np.searchsorted(ends, at, side="right"))
                begin = int(ends[i - 1]) if i else 0
                self._long.setdefault(rows[i], {})[first[i] + at - begin] = int(steps[at])
            steps = np.minimum(steps, _LONG)
        for row in rows if self._long else ():
            if row in self._long:  # what is forgotten needs no length
                oldest = int(self._steps.place[row, FIRST])
                kept = {p: step for p, step in self._long.pop(row).items() if p >= oldest}
                if kept:
                    self._long[row] = kept
        return steps.astype(np.uint32)
