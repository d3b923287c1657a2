"""Copy the records of a damaged log, each under the row number that its checksum proves.

Rows are read partition by partition, in the order of their numbers (`pipeline.log.salvage`). One
flipped bit in a number breaks that order: a search misses the rows behind it, or the record stands
among those of another partition. The checksum covers the number, so trying its bits finds the right
one. If a partition still lacks records, every row of the table is read, whatever its number is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.log.salvage import END, all_rows, chunks
from pipeline.log.state import OFFSET_BITS, RecordRow, is_intact, record_id, stored_size

__all__ = ["DamagedRecord", "Slot", "copy_records"]

_INSERT = "INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?, ?, ?, ?)"
_ID_BITS = 63


@dataclass(frozen=True, slots=True)
class DamagedRecord:
    """A record that could not be kept, with the reason; offset -1 if the offset is not known."""

    topic: str
    partition: int
    offset: int
    reason: str


@dataclass(slots=True)
class Slot:
    """One partition, as the damaged log describes it, and what was copied of it.

    Attributes:
        records: Number of records that it should have; None if that is unreadable.
        lost_end: Whether the last record of a compacted topic is lost.
        kept: Records copied.
        size_bytes: Their size.
        first: Lowest offset copied.
        last: Highest offset copied.
        last_lost: Highest offset of a record that is lost.
    """

    slot: int
    topic: str
    partition: int
    next_offset: int
    earliest: int
    compacted: int
    records: int | None
    lost_end: bool = False
    kept: int = 0
    size_bytes: int = 0
    first: int = END
    last: int = -1
    last_lost: int = -1


def copy_records(
    old: sqlite3.Connection, new: sqlite3.Connection, slots: Sequence[Slot]
) -> tuple[int, list[DamagedRecord]]:
    """Copy what is intact; returns the number of records, and those that are lost.

    Raises:
        sqlite3.Error: The new file cannot be written.
    """
    copy = _Copy(new, slots)
    for slot in slots:
        for rows, lost in chunks(old, slot.slot, slot.earliest, slot.next_offset):
            new.execute("BEGIN")
            for row in rows:
                if not copy.keep(row):
                    offset = row[0] - record_id(slot.slot, 0)
                    copy.lose(slot, offset, "checksum", (row[2], *row[4:]))
            for offset, reason, raw in lost:
                copy.lose(slot, offset, reason, raw)
            new.execute("COMMIT")
    if any(copy.shortfall(slot) for slot in slots):
        new.execute("BEGIN")
        for row in all_rows(old):
            copy.keep(row)
        new.execute("COMMIT")
    for slot in slots:
        copy.finish(slot)
    return sum(slot.kept for slot in slots), [each for slot in slots for each in copy.damaged(slot)]


class _Copy:
    def __init__(self, new: sqlite3.Connection, slots: Iterable[Slot]) -> None:
        self._new = new
        self._slots = {slot.slot: slot for slot in slots}
        self._lost: dict[int, dict[int, str]] = {slot: {} for slot in self._slots}

    def keep(self, row: RecordRow) -> bool:
        """Copy a record unless it was copied before; False if it is damaged."""
        row_id = _right_id(row, self._slots)
        if row_id is None:
            return False
        if self._new.execute(_INSERT, (row_id, *row[1:])).rowcount:
            slot = self._slots[row_id >> OFFSET_BITS]
            offset = row_id - record_id(slot.slot, 0)
            slot.kept += 1
            slot.size_bytes += stored_size(*row[4:])
            slot.first, slot.last = min(slot.first, offset), max(slot.last, offset)
            self._lost[slot.slot].pop(offset, None)
        return True

    def lose(
        self, slot: Slot, offset: int, reason: str, raw: tuple[int | bytes | None, ...]
    ) -> None:
        """Set a damaged record aside."""
        lost = self._lost[slot.slot]
        if not 0 <= offset < END:
            offset = -1
        elif offset in lost or self._has(slot, offset):  # the damaged number is another record's
            return
        lost[offset] = reason
        slot.last_lost = max(slot.last_lost, offset)
        self._new.execute(
            "INSERT INTO damaged VALUES (?, ?, ?, ?, ?, ?, ?)", (slot.slot, offset, reason, *raw)
        )

    def _has(self, slot: Slot, offset: int) -> bool:
        where = (record_id(slot.slot, offset),)
        return bool(self._new.execute("SELECT 1 FROM records WHERE id = ?", where).fetchone())

    def shortfall(self, slot: Slot) -> bool:
        """Whether records are missing, or their number is not known."""
        return slot.records is None or slot.kept < slot.records

    def damaged(self, slot: Slot) -> list[DamagedRecord]:
        """The records of a partition that are lost."""
        found = [
            DamagedRecord(slot.topic, slot.partition, offset, reason)
            for offset, reason in sorted(self._lost[slot.slot].items())
        ]
        if slot.records is not None and (rest := slot.records - slot.kept - len(found)) > 0:
            reason = f"{rest} records: no intact row has them"
            found.append(DamagedRecord(slot.topic, slot.partition, -1, reason))
        return found

    def finish(self, slot: Slot) -> None:
        """Write the row of a partition after all its records."""
        end, last = slot.next_offset, max(slot.last, slot.earliest - 1)
        # Table recovery waits for the last record of a changelog, so the end follows one.
        if slot.compacted and slot.kept:
            end = last + 1
            slot.lost_end = last < slot.last_lost or last + 1 < slot.next_offset < END
        elif end == END or last >= end:  # offsets of lost records are not reused
            end = max(last, slot.last_lost) + 1
        self._new.execute(
            "UPDATE slots SET next_offset = ?, earliest = ?, records = ?, bytes = ? WHERE slot = ?",
            (end, min(slot.first, end), slot.kept, slot.size_bytes, slot.slot),
        )


def _right_id(row: RecordRow, slots: Iterable[int]) -> int | None:
    """The row number that the checksum proves: as it is, or with one bit flipped; else None.

    The checksum tells any two flipped bits, so damage elsewhere is never taken for one of these.
    """
    row_id, crc, ts_ms, stored_ms, *parts = row
    if type(stored_ms) is not int:  # the checksum does not cover the store time
        return None
    for each in (row_id, *(row_id ^ 1 << bit for bit in range(_ID_BITS))):
        slot = each >> OFFSET_BITS
        if slot in slots and is_intact(crc, slot, each - record_id(slot, 0), ts_ms, *parts):
            return each
    return None
