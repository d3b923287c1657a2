"""Repair a damaged log: ``python -m pipeline.log.repair state/log.db``.

Every record that is readable and matches its checksum is copied, with its offset, into a new file;
groups keep their offsets. Damaged records go into the table `damaged` of the new file as far as
they are readable. The old file stays beside it as ``<name>.damaged``. Readers skip the missing
offsets. The gateway must be stopped.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import LogCorrupt, LogError
from pipeline.log.file import (
    FILE_ERRORS,
    check_file,
    check_format,
    connect,
    create_tables,
    lock_file,
)
from pipeline.log.state import (
    OFFSET_BITS,
    is_group_row,
    is_intact,
    is_partition_row,
    is_topic_row,
    read_state,
    record_id,
    stored_size,
)

__all__ = ["DamagedRecord", "RepairReport", "main", "repair_log"]

_END = 1 << OFFSET_BITS
"""Greater than every offset: the end of a partition whose end is unreadable."""
_CHUNK = 500
_LINEAR = 1000
"""More records than one page holds."""
_INSERT = "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)"
_NEXT = (
    "SELECT id, crc, ts_ms, stored_ms, key, headers, value FROM records"
    " WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
)

_Row = tuple[int, int, int, int, "bytes | None", "bytes | None", "bytes | None"]
_Lost = list[tuple[int, str, tuple["int | bytes | None", ...]]]
"""Offset, reason and raw columns of records that are lost."""


@dataclass(frozen=True, slots=True)
class DamagedRecord:
    """A record that could not be kept, with the reason."""

    topic: str
    partition: int
    offset: int
    reason: str


@dataclass(frozen=True, slots=True)
class RepairReport:
    """Result of a repair.

    Attributes:
        kept: Number of records in the new file.
        damaged: Records that were lost.
        backup: The old file; None when the log was intact.
    """

    kept: int
    damaged: tuple[DamagedRecord, ...]
    backup: Path | None


@dataclass(slots=True)
class _Slot:
    slot: int
    topic: str
    partition: int
    next_offset: int
    earliest: int
    compacted: int


def repair_log(path: Path) -> RepairReport:
    """Repair a log in place.

    Raises:
        LogLocked: A gateway is using the log.
        LogCorrupt: The offsets are unreadable; start with a new file.
        LogError: The file belongs to another program, has a newer format, or cannot be read.
    """
    path = path.resolve()
    if not path.is_file():
        msg = f"there is no log {path}"
        raise LogError(msg)
    fresh = path.with_name(path.name + ".repairing")
    _remove(fresh)
    with closing(lock_file(path)):
        try:
            with (
                closing(connect(path, durability="full", read_only=True)) as old,
                closing(connect(fresh, durability="full")) as new,
            ):
                old.text_factory = _text
                check_format(old, path)
                create_tables(new, fresh)
                lost_offsets: list[DamagedRecord] = []
                slots = _copy_offsets(old, new, lost_offsets)
                report = _copy_records(old, new, slots, lost_offsets)
                new.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except FILE_ERRORS as exc:
            _remove(fresh)
            msg = (
                f"the offsets in {path} are unreadable ({exc}), so its records cannot be placed; "
                "move the file away and start with a new one"
            )
            raise LogCorrupt(msg) from exc
        except LogError:
            _remove(fresh)
            raise
        if not report.damaged and _is_intact_log(path):
            _remove(fresh)
            return report
        return RepairReport(report.kept, report.damaged, _replace(path, fresh))


def _text(raw: bytes) -> str:
    """Decode text leniently, because damage in one name must not hide the other rows."""
    return raw.decode("utf-8", "replace")


def _copy_offsets(
    old: sqlite3.Connection, new: sqlite3.Connection, lost: list[DamagedRecord]
) -> list[_Slot]:
    new.execute("BEGIN")
    topics = old.execute(
        "SELECT name, compacted, retention_ms, retention_bytes, partitions FROM topics"
    ).fetchall()
    if not all(is_topic_row(*row[:4]) and type(row[4]) is int for row in topics):
        msg = "a row of the table topics is malformed"
        raise sqlite3.DatabaseError(msg)
    new.executemany(
        "INSERT INTO topics (name, compacted, retention_ms, retention_bytes, partitions)"
        " VALUES (?, ?, ?, ?, ?)",
        topics,
    )
    compacted = {name: is_compacted for name, is_compacted, *_ in topics}
    slots = []
    for row in old.execute("SELECT * FROM slots ORDER BY slot").fetchall():
        slot, topic, partition, *_ = row
        if not is_partition_row(slot, topic, partition, 0, 0) or topic not in compacted:
            msg = f"the row of a partition of {topic!r} is malformed"
            raise sqlite3.DatabaseError(msg)
        if not is_partition_row(*row):  # derived from its records instead
            lost.append(DamagedRecord(topic, partition, -1, "its first and last offset"))
            row = (slot, topic, partition, _END, 0, 0, 0, 0)
        new.execute("INSERT INTO slots VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        slots.append(_Slot(slot, topic, partition, row[3], row[4], compacted[topic]))
    places = {slot.slot: slot for slot in slots}
    for row in old.execute("SELECT grp, slot, offset, committed, pins FROM offsets").fetchall():
        group, slot, *_ = row
        if is_group_row(*row) and slot in places and "\ufffd" not in group:
            new.execute("INSERT INTO offsets VALUES (?, ?, ?, ?, ?)", row)
        else:  # the group reads from the first record again, which is harmless
            topic, partition = (
                (places[slot].topic, places[slot].partition) if slot in places else ("?", -1)
            )
            reason = f"the offset of the group {group!r}"
            lost.append(DamagedRecord(topic, partition, -1, reason))
    new.executemany(
        "INSERT INTO damaged VALUES (?, ?, ?, ?, ?, ?, ?)", old.execute("SELECT * FROM damaged")
    )
    new.execute("COMMIT")
    return slots


def _copy_records(
    old: sqlite3.Connection,
    new: sqlite3.Connection,
    slots: list[_Slot],
    lost_offsets: list[DamagedRecord],
) -> RepairReport:
    damaged = list(lost_offsets)
    kept_total = 0
    for slot in slots:
        kept = size = 0
        first, last, ends = slot.next_offset, slot.earliest - 1, -1
        for rows, lost in _chunks(old, slot):
            new.execute("BEGIN")
            for row in rows:
                offset = row[0] - record_id(slot.slot, 0)
                if not is_intact(row[1], slot.slot, offset, row[2], *row[4:]) or _has_bad_time(row):
                    lost.append((offset, "checksum", (row[2], *row[4:])))
                    ends = max(ends, offset)
                    continue
                new.execute(_INSERT, row)
                kept, size = kept + 1, size + stored_size(*row[4:])
                first, last = min(first, offset), max(last, offset)
            for offset, reason, raw in lost:
                damaged.append(DamagedRecord(slot.topic, slot.partition, offset, reason))
                new.execute(
                    "INSERT INTO damaged VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (slot.slot, offset, reason, *raw),
                )
            new.execute("COMMIT")
        end = slot.next_offset
        # Table recovery waits for the last record of a changelog, so the end follows one.
        if slot.compacted and kept:
            end = last + 1
        elif end == _END or last >= end:  # offsets of lost records are not reused
            end = max(last, ends) + 1
        new.execute(
            "UPDATE slots SET next_offset = ?, earliest = ?, records = ?, bytes = ? WHERE slot = ?",
            (end, min(first, end), kept, size, slot.slot),
        )
        kept_total += kept
    return RepairReport(kept_total, tuple(damaged), None)


def _has_bad_time(row: _Row) -> bool:
    """Whether the store time, which the checksum does not cover, is malformed."""
    return type(row[3]) is not int


def _chunks(old: sqlite3.Connection, slot: _Slot) -> Iterator[tuple[list[_Row], _Lost]]:
    """Read rows chunk by chunk; where a page is damaged, one by one."""
    base = record_id(slot.slot, 0)
    start = min(slot.earliest, *_edges(old, base, 0, slot.earliest))
    end = max(slot.next_offset, *(offset + 1 for offset in _edges(old, base, 0, _END)))
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
            start = rows[-1][0] - base + 1


def _one_by_one(
    old: sqlite3.Connection, base: int, start: int, end: int
) -> tuple[list[_Row], _Lost, int]:
    """Read some rows from `start` on.

    Returns:
        The rows, the unreadable offsets among them, and the offset to continue at.
    """
    rows: list[_Row] = []
    lost: _Lost = []
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
            start = row[0] - base + 1
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


def _is_intact_log(path: Path) -> bool:
    """Whether the log opens and accepts records."""
    try:
        check_file(path)
        with closing(connect(path, durability="full")) as db:
            create_tables(db, path)
            read_state(db, 0)
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO damaged (slot) VALUES (-1)")
            db.execute("UPDATE slots SET records = records")
            db.execute("ROLLBACK")
    except (LogError, *FILE_ERRORS):
        return False
    return True


def _replace(path: Path, fresh: Path) -> Path:
    backup = path.with_name(path.name + ".damaged")
    for end in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + end).replace(backup.with_name(backup.name + end))
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return backup


def _remove(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """Repair the log named on the command line; returns 0 when it is usable afterwards."""
    paths = sys.argv[1:] if arguments is None else arguments
    if len(paths) != 1:
        sys.stderr.write("usage: python -m pipeline.log.repair PATH\n")
        return 2
    try:
        report = repair_log(Path(paths[0]))
    except LogError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    for lost in report.damaged:
        sys.stdout.write(f"lost {lost.topic}[{lost.partition}] {lost.offset}: {lost.reason}\n")
    state = "intact" if report.backup is None else f"repaired, the old file is {report.backup}"
    sys.stdout.write(f"{report.kept} records kept, {len(report.damaged)} lost: {state}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
