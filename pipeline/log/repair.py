"""Bring a damaged log back: ``python -m pipeline.log.repair state/log.db``.

Every record that can be read and matches its checksum is copied, with its offset, into a new file;
groups keep their positions. What is damaged is set aside in the new file's table `damaged` as far
as it can be read. The old file stays beside it as ``<name>.damaged``. Readers pass over the missing
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
    OFFSET_BITS,
    check_file,
    check_format,
    connect,
    create_tables,
    is_intact,
    lock_file,
    record_id,
    stored_size,
)
from pipeline.log.state import are_limits, is_group_offset, is_position, read_state

__all__ = ["DamagedRecord", "RepairReport", "main", "repair_log"]

_END = 1 << OFFSET_BITS
"""Behind every offset: the end of a partition whose end cannot be read."""
_CHUNK = 500
_LINEAR = 1000
"""More records than one page can hold."""
_INSERT = "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)"
_NEXT = (
    "SELECT id, crc, ts_ms, stored_ms, key, headers, value FROM records"
    " WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
)

_Row = tuple[int, int, int, int, "bytes | None", "bytes | None", "bytes | None"]


@dataclass(frozen=True, slots=True)
class DamagedRecord:
    """A record that could not be kept, and why."""

    topic: str
    partition: int
    offset: int
    reason: str


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What the repair found; `backup` is the old file, None when the log was sound."""

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
    """Salvage a log in place.

    Raises:
        LogLocked: a gateway is using it.
        LogCorrupt: not even the positions can be read; start with a new file.
        LogError: the file is of another program or a newer format, or it cannot be read.
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
                lost_positions: list[DamagedRecord] = []
                slots = _copy_positions(old, new, lost_positions)
                report = _copy_records(old, new, slots, lost_positions)
                new.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except FILE_ERRORS as exc:
            _remove(fresh)
            msg = (
                f"the positions in {path} cannot be read ({exc}), so its records can't be placed: "
                "move the file away and start with a new one"
            )
            raise LogCorrupt(msg) from exc
        except LogError:
            _remove(fresh)
            raise
        if not report.damaged and _is_sound(path):
            _remove(fresh)
            return report
        return RepairReport(report.kept, report.damaged, _replace(path, fresh))


def _text(raw: bytes) -> str:
    """What is no UTF-8 is marked: damage in one name must not hide the other rows."""
    return raw.decode("utf-8", "replace")


def _copy_positions(
    old: sqlite3.Connection, new: sqlite3.Connection, lost: list[DamagedRecord]
) -> list[_Slot]:
    new.execute("BEGIN")
    topics = old.execute(
        "SELECT name, compacted, retention_ms, retention_bytes, partitions FROM topics"
    ).fetchall()
    if not all(are_limits(*row[:4]) and type(row[4]) is int for row in topics):
        msg = "a topic cannot be read"
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
        if not is_position(slot, topic, partition, 0, 0) or topic not in compacted:
            msg = f"a partition of {topic!r} cannot be read"
            raise sqlite3.DatabaseError(msg)
        if not is_position(*row):  # its records tell where it begins and ends
            lost.append(DamagedRecord(topic, partition, -1, "its first and last offset"))
            row = (slot, topic, partition, _END, 0, 0, 0, 0)
        new.execute("INSERT INTO slots VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        slots.append(_Slot(slot, topic, partition, row[3], row[4], compacted[topic]))
    places = {slot.slot: slot for slot in slots}
    for row in old.execute("SELECT grp, slot, offset, committed, pins FROM offsets").fetchall():
        group, slot, *_ = row
        if is_group_offset(*row) and slot in places and "\ufffd" not in group:
            new.execute("INSERT INTO offsets VALUES (?, ?, ?, ?, ?)", row)
        else:  # it begins at the first record again: twice is harmless
            topic, partition = (
                (places[slot].topic, places[slot].partition) if slot in places else ("?", -1)
            )
            reason = f"the position of the group {group!r}"
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
    lost_positions: list[DamagedRecord],
) -> RepairReport:
    damaged = list(lost_positions)
    kept_total = 0
    for slot in slots:
        kept = size = 0
        first, last, ends = slot.next_offset, slot.earliest - 1, -1
        for rows, lost in _chunks(old, slot):
            new.execute("BEGIN")
            for row in rows:
                offset = row[0] - record_id(slot.slot, 0)
                if not is_intact(row[1], slot.slot, offset, row[2], *row[4:]) or _is_odd(row):
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
        # Table recovery waits for the record before a changelog's end: there must be one.
        if slot.compacted and kept:
            end = last + 1
        elif end == _END or last >= end:  # no lost record's offset is used again
            end = max(last, ends) + 1
        new.execute(
            "UPDATE slots SET next_offset = ?, earliest = ?, records = ?, bytes = ? WHERE slot = ?",
            (end, min(first, end), kept, size, slot.slot),
        )
        kept_total += kept
    return RepairReport(kept_total, tuple(damaged), None)


def _is_odd(row: _Row) -> bool:
    """Whether what the checksum leaves out cannot be: when the record was stored."""
    return type(row[3]) is not int


_Lost = list[tuple[int, str, tuple["int | bytes | None", ...]]]


def _chunks(old: sqlite3.Connection, slot: _Slot) -> Iterator[tuple[list[_Row], _Lost]]:
    """Rows chunk by chunk; where a page is damaged, one by one."""
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
    """Some rows from `start` on, what cannot be read among them, and where to go on."""
    rows: list[_Row] = []
    lost: _Lost = []
    while start < end and len(rows) + len(lost) < _CHUNK:
        try:
            row = old.execute(_NEXT, (base + start, base + end, 1)).fetchone()
        except FILE_ERRORS as exc:
            place = _next_offset(old, base, start, end)
            if place is None:  # a page of the tree: where does it lead on?
                after = _resume(old, base, start, end)
                places = range(start, min(after, start + _LINEAR))
            else:  # the tree is sound here, this record is not
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
    """The first stored offset from `start` on, `end` if there is none; None: it cannot be told."""
    try:
        row = old.execute(
            "SELECT id FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT 1",
            (base + start, base + end),
        ).fetchone()
    except FILE_ERRORS:
        return None
    return end if row is None else int(row[0]) - base


def _resume(old: sqlite3.Connection, base: int, start: int, end: int) -> int:
    """The first offset behind `start` from which something can be read again.

    Step by step over what a damaged leaf can hold, then in strides that double: a damaged inner
    page, or the damaged end of a partition whose own end is not known.
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
    """First and last stored offset from `start` to before `end`.

    Without any: the end and what is before the start. Behind damage: as if all might be there.
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


def _is_sound(path: Path) -> bool:
    """Whether the log would open, and take records."""
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
    """Repair the log named on the command line; 0 when it is usable afterwards."""
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
    state = "sound" if report.backup is None else f"repaired, the old file is {report.backup}"
    sys.stdout.write(f"{report.kept} records kept, {len(report.damaged)} lost: {state}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
