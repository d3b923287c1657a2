"""Read what is readable of the records of a log with damaged pages."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from pipeline.log.file import FILE_ERRORS
from pipeline.log.state import OFFSET_BITS, RecordRow, record_id

__all__ = ["END", "Lost", "all_rows", "chunks"]

END = 1 << OFFSET_BITS
"""Greater than every offset: the end of a partition whose end is unreadable."""
Lost = list[tuple[int, str, tuple["int | bytes | None", ...]]]
"""Offset, reason and raw columns of records that are lost."""
_CHUNK = 500
_FAILURES = 10
"""Unreadable rows in sequence after which a page, not a row, is taken for damaged."""
_LINEAR = 1000
"""More records than one page holds."""
_ALL = "SELECT id, crc, ts_ms, stored_ms, key, headers, value FROM records"
_NEXT = f"{_ALL} WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"


def chunks(
    old: sqlite3.Connection, slot: int, earliest: int, next_offset: int
) -> Iterator[tuple[list[RecordRow], Lost]]:
    """Read the rows of a partition chunk by chunk; where a page is damaged, one by one."""
    base = record_id(slot, 0)
    start = min(earliest, *_edges(old, base, 0, earliest))
    end = max(next_offset, *(offset + 1 for offset in _edges(old, base, 0, END)))
    while start < end:
        try:
            rows = old.execute(_NEXT, (base + start, base + end, _CHUNK)).fetchall()
        except FILE_ERRORS:
            rows, lost, start = _one_by_one(old, base, start, end)
            yield rows, lost
        else:
            if not rows:
                return
            yield rows, []
            # A damaged row number breaks the order, and the next chunk must begin behind this one.
            start = max(start, *(row[0] - base for row in rows)) + 1


def all_rows(old: sqlite3.Connection) -> Iterator[RecordRow]:
    """Read every row in the order of the pages, whatever its number is.

    Steps over single rows that are unreadable; where no page leads on, reads from the other end.
    """
    for order in ("", " ORDER BY id DESC"):
        at = failures = 0
        while failures < _FAILURES:
            try:
                for row in old.execute(f"{_ALL}{order} LIMIT -1 OFFSET ?", (at,)):
                    yield row
                    at, failures = at + 1, 0
            except FILE_ERRORS:  # the row at fault, or the one before it, which was not returned
                readable = _row_at(old, order, at)
                if readable is None:
                    failures += 1
                else:
                    yield readable
                at += 1
            else:
                return


def _row_at(old: sqlite3.Connection, order: str, at: int) -> RecordRow | None:
    """The row at a place in the order of the pages; None if it is unreadable."""
    try:
        return old.execute(f"{_ALL}{order} LIMIT 1 OFFSET ?", (at,)).fetchone()  # type: ignore[no-any-return]
    except FILE_ERRORS:
        return None


def _one_by_one(
    old: sqlite3.Connection, base: int, start: int, end: int
) -> tuple[list[RecordRow], Lost, int]:
    """Read some rows from `start` on.

    Returns:
        The rows, the unreadable offsets among them, and the offset to continue at.
    """
    rows: list[RecordRow] = []
    lost: Lost = []
    while start < end and len(rows) + len(lost) < _CHUNK:
        try:
            row = old.execute(_NEXT, (base + start, base + end, 1)).fetchone()
        except FILE_ERRORS as exc:
            place = _next_offset(old, base, start, end)
            if place is None:  # an inner page is damaged: find where the tree continues
                after = _resume(old, base, start, end)
                places = range(start, min(after, start + _LINEAR))
            else:  # the tree is intact here, this record is not
                after, places = place + 1, range(place, min(place + 1, end))
            lost += [(each, f"unreadable: {exc}", (None,) * 4) for each in places]
            start = after
        else:
            if row is None:
                return rows, lost, end
            rows.append(row)
            start = max(start, row[0] - base) + 1
    return rows, lost, start


def _next_offset(old: sqlite3.Connection, base: int, start: int, end: int) -> int | None:
    """First stored offset from `start` on; `end` if there is none, None if it is unreadable."""
    try:
        row = old.execute(
            "SELECT id FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT 1",
            (base + start, base + end),
        ).fetchone()
    except FILE_ERRORS:
        return None
    return end if row is None else int(row[0]) - base


def _resume(old: sqlite3.Connection, base: int, start: int, end: int) -> int:
    """First offset behind `start` from which something is readable again.

    Probes every offset over the range of a damaged leaf, then in strides that double, which covers
    a damaged inner page or the damaged end of a partition whose end is unknown.
    """
    last, step = start, 1
    while last < end:
        probe = min(last + step, end)
        if _next_offset(old, base, probe, end) is not None:
            break
        last = probe
        if last - start >= _LINEAR:
            step *= 2
    low, high = last, min(last + step, end)
    while high - low > 1:
        middle = (low + high) // 2
        if _next_offset(old, base, middle, end) is None:
            low = middle
        else:
            high = middle
    return high


def _edges(old: sqlite3.Connection, base: int, start: int, end: int) -> tuple[int, int]:
    """First and last stored offset in `[start, end)`.

    Without records, `end` and `start - 1`. Where a page is damaged, the widest possible range.
    """
    found = []
    for which, none, unknown in (("min", end, start), ("max", start - 1, start - 1)):
        try:
            (row_id,) = old.execute(
                f"SELECT {which}(id) FROM records WHERE id >= ? AND id < ?",  # noqa: S608  (ours)
                (base + start, base + end),
            ).fetchone()
        except FILE_ERRORS:
            found.append(unknown)
        else:
            found.append(none if row_id is None else row_id - base)
    return found[0], found[1]
