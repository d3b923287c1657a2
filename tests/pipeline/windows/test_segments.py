"""Segments keep what their rows hold, however these grow, shrink, come and go."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.windows.segments import FIRST, LIMIT, ORIGIN, Segments, spans

ROWS = 6
CALLS = st.lists(
    st.tuples(
        st.sets(st.integers(0, ROWS - 1), min_size=1),
        st.integers(0, 400),  # elements to come
        st.integers(0, 120),  # elements to keep
        st.sampled_from(["append", "append", "append", "clear"]),
    ),
    max_size=40,
)


def content(segments: Segments, row: int, first: int, end: int) -> list[tuple[int, float]]:
    start = int(segments.place[row, ORIGIN])
    numbers, pairs = (array[start + first : start + end] for array in segments.arrays)
    assert (pairs[:, 0] == -pairs[:, 1]).all()
    return list(zip(numbers.tolist(), pairs[:, 0].tolist(), strict=True))


@settings(deadline=None)
@given(calls=CALLS)
def test_rows_hold_what_was_appended_since_their_first_position(calls: list[tuple]) -> None:
    segments = Segments([(np.int64, ()), (np.float32, (2,))], 16)
    segments.add_rows(ROWS)
    held: list[list[tuple[int, float]]] = [[] for _ in range(ROWS)]
    first, number = [0] * ROWS, 0
    for some, more, keep, kind in calls:
        rows = np.array(sorted(some))
        if kind == "clear":
            for row in rows.tolist():
                segments.clear(row)
                held[row], first[row] = [], 0
            continue
        end = np.array([first[row] + len(held[row]) for row in rows])
        kept = np.maximum(end - keep, [first[row] for row in rows])
        segments.make_room(rows, kept, end, np.full(len(rows), more))
        for i, row in enumerate(rows.tolist()):
            assert segments.place[row, FIRST] == kept[i]
            assert segments.place[row, LIMIT] >= end[i] + more
            held[row] = held[row][kept[i] - first[row] :]
            first[row] = int(kept[i])
            new = np.arange(number, number + more)
            number += more
            at = int(segments.place[row, ORIGIN] + end[i])
            segments.arrays[0][at : at + more] = new
            segments.arrays[1][at : at + more] = np.column_stack([new, -new])
            held[row] += [(n, float(n)) for n in new.tolist()]
        for row in range(ROWS):
            end_of_row = first[row] + len(held[row])
            assert content(segments, row, first[row], end_of_row) == held[row]


def test_many_rows_that_grow_one_after_the_other_leave_little_unused() -> None:
    count = 3000
    segments = Segments([(np.int64, ())], 16)
    segments.add_rows(count)
    for end in range(0, 60, 5):
        for at in range(0, count, 100):
            rows = np.arange(at, at + 100)
            full = rows[segments.place[rows, LIMIT] < end + 5]
            size = len(full)
            segments.make_room(full, np.zeros(size, int), np.full(size, end), np.full(size, 5))
    assert len(segments.arrays[0]) < 1.6 * (60 + 16) * count


def test_spans_of_nothing_are_empty() -> None:
    none = np.empty(0, dtype=np.int64)
    assert spans(none, none).tolist() == []
    assert spans(np.array([3]), np.array([0])).tolist() == []
