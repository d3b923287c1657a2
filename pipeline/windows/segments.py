"""Rows of different lengths in shared arrays: each row has a segment, and all rows move at once.

A **position** counts the readings of a row since it began, whatever has been dropped since. Element
`p` of a row lies at `origin + p` of every array, so code that reads and writes many rows at once
adds two arrays and uses the sum as an index. A segment holds `[first, limit)`; it moves to the end
of the arrays when it grows, and when a quarter of the arrays is unused, the segments close up. The
arrays grow by an eighth, in place, so that no moment needs twice the memory.

An array taken from here must not be kept across a call, because the memory behind it moves.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["FIRST", "LIMIT", "ORIGIN", "Segments", "spans"]

ORIGIN, FIRST, LIMIT = range(3)
"""Columns of `Segments.place`."""
_LEAST_ROOM = 4
_LEAST_GROWTH = 1024
_ROWS_AT_ONCE = 1024
_MOVED_AT_ONCE = 1 << 15


class Segments:
    """Segments of many rows in arrays that share their index.

    Args:
        columns: Type of each array and the shape of one element.
        room: Most elements reserved beyond what a row needs.

    Attributes:
        arrays: The arrays, one for each column.
        place: Index of position 0, first position and one past the last position for which there
            is memory, of each row; int64 `[rows, 3]`.
    """

    def __init__(self, columns: Sequence[tuple[DTypeLike, tuple[int, ...]]], room: int) -> None:
        self.arrays: list[NDArray[Any]] = [np.empty((0, *shape), dtype) for dtype, shape in columns]
        self.place: NDArray[np.int64] = np.zeros((0, 3), dtype=np.int64)
        self._room = room
        self._used = self._unused = 0  # elements up to the last segment; of these in no segment

    def add_rows(self, count: int) -> None:
        """Add rows without a segment."""
        self.place = np.concatenate([self.place, np.zeros((count, 3), dtype=np.int64)])

    def clear(self, row: int) -> None:
        """Give up the segment of a row."""
        _, first, limit = self.place[row].tolist()
        self._unused += limit - first
        self.place[row] = 0

    def load(self, row: int, first: int, content: Sequence[NDArray[Any]]) -> None:
        """Give a row without a segment one with `content`, from position `first` on."""
        size = len(content[0])
        need = size + _LEAST_ROOM
        self._reserve(need)
        start = self._used
        self._used += need
        self.place[row] = start - first, first, first + need
        for array, part in zip(self.arrays, content, strict=True):
            array[start : start + size] = part

    def make_room(
        self,
        rows: NDArray[np.integer],
        keep: NDArray[np.int64],
        end: NDArray[np.int64],
        more: NDArray[np.int64],
    ) -> None:
        """Drop what is left of `keep`, and make room for `more` elements after `end`.

        Args:
            rows: Different rows `[k]`.
            keep: First position of each row that is kept, `[k]`.
            end: One past its last position, `[k]`.
            more: Number of elements to come, `[k]`.
        """
        for at in range(_ROWS_AT_ONCE, len(rows), _ROWS_AT_ONCE):  # a move takes little memory
            part = slice(at, at + _ROWS_AT_ONCE)
            self.make_room(rows[part], keep[part], end[part], more[part])
        rows, more = rows[:_ROWS_AT_ONCE], more[:_ROWS_AT_ONCE]
        keep, end = keep[:_ROWS_AT_ONCE], end[:_ROWS_AT_ONCE]
        place = self.place[rows]
        size = place[:, LIMIT] - place[:, FIRST]
        need = end - keep + more
        room = np.clip(need >> 1, _LEAST_ROOM, self._room)
        grows = (need + (room + 1 >> 1) > size) | (size > 4 * (need + room))
        capacity = np.where(grows, need + room, size)
        self._reserve(int(capacity[grows].sum()))
        place = self.place[rows]  # which may have moved
        old = place[:, ORIGIN] + keep
        start = place[:, ORIGIN] + place[:, FIRST]
        total = capacity[grows].cumsum()
        start[grows] = self._used + total - capacity[grows]
        if len(total):
            self._used += int(total[-1])
            self._unused += int(size[grows].sum())
        kept = end - keep
        source, target = spans(old, kept), spans(start, kept)
        for array in self.arrays:
            array[target] = array.take(source, axis=0)
        place[:, ORIGIN] = start - keep
        place[:, FIRST] = keep
        place[:, LIMIT] = keep + capacity
        self.place[rows] = place

    def _reserve(self, count: int) -> None:
        """Have room for `count` elements after the last segment."""
        length = len(self.arrays[0])
        if self._used + count > length and 4 * self._unused > self._used:
            self._close_up()
            length = len(self.arrays[0])
        if self._used + count > length:
            self._resize(max(self._used + count, length + max(length >> 3, _LEAST_GROWTH)))

    def _close_up(self) -> None:
        """Move all segments to the front, in their order."""
        size = self.place[:, LIMIT] - self.place[:, FIRST]
        rows = np.flatnonzero(size)
        size = size[rows]
        start = self.place[rows, ORIGIN] + self.place[rows, FIRST]
        order = np.argsort(start)
        rows, size, start = rows[order], size[order], start[order]
        ends = size.cumsum()
        target = ends - size
        self._used, self._unused = int(ends[-1]) if len(ends) else 0, 0
        cuts = np.searchsorted(ends, np.arange(0, self._used, _MOVED_AT_ONCE)).tolist()
        for low, high in itertools.pairwise([*cuts, len(rows)]):
            source = spans(start[low:high], size[low:high])
            at = spans(target[low:high], size[low:high])
            for array in self.arrays:
                array[at] = array.take(source, axis=0)
        self.place[rows, ORIGIN] = target - self.place[rows, FIRST]
        if len(self.arrays[0]) > 2 * self._used:
            self._resize(self._used + (self._used >> 3))

    def _resize(self, length: int) -> None:
        for array in self.arrays:
            array.resize((length, *array.shape[1:]), refcheck=False)


def spans(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The indices `starts[i] ... starts[i] + counts[i] - 1` for one i after the other.

    >>> spans(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist()
    [5, 6, 9, 10, 11]
    """
    ends = counts.cumsum()
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - ends + counts, counts) + np.arange(total)
