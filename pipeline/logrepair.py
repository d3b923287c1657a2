"""Bring a damaged log back: ``python -m pipeline.logrepair state/log.db``.

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
from pipeline.logfile import (
    check_file,
    checksum,
    connect,
    create_tables,
    lock_file,
    record_id,
    stored_size,
)

__all__ = ["DamagedRecord", "RepairReport", "main", "repair_log"]

_CHUNK = 500
_INSERT = "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)"
_SELECT = "SELECT id, crc, ts_ms, stored_ms, key, headers, value FROM records"

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
                create_tables(new, fresh)
                slots = _copy_positions(old, new)
                report = _copy_records(old, new, slots)
                new.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.DatabaseError as exc:
            _remove(fresh)
            msg = (
                f"the positions in {path} cannot be read ({exc}), so its records can't be placed: "
                "move the file away and start with a new one"
            )
            raise LogCorrupt(msg) from exc
        if not report.damaged and _is_sound(path):
            _remove(fresh)
            return report
        return RepairReport(report.kept, report.damaged, _replace(path, fresh))


def _copy_positions(old: sqlite3.Connection, new: sqlite3.Connection) -> list[_Slot]:
    new.execute("BEGIN")
    for table, places in (("topics", 5), ("slots", 8), ("offsets", 5), ("damaged", 7)):
        rows = old.execute(f"SELECT * FROM {table}")  # noqa: S608  (our own table names)
        marks = ", ".join("?" * places)
        new.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608
    new.execute("COMMIT")
    return [
        _Slot(*row)
        for row in new.execute(
            "SELECT slot, topic, partition, next_offset, earliest, compacted"
            " FROM slots JOIN topics ON topics.name = slots.topic ORDER BY slot"
        )
    ]


def _copy_records(
    old: sqlite3.Connection, new: sqlite3.Connection, slots: list[_Slot]
) -> RepairReport:
    damaged: list[DamagedRecord] = []
    kept_total = 0
    for slot in slots:
        kept = size = 0
        first, last = slot.next_offset, slot.earliest - 1
        for rows, lost in _chunks(old, slot):
            new.execute("BEGIN")
            for row in rows:
                offset = row[0] - record_id(slot.slot, 0)
                if checksum(slot.slot, offset, row[2], *row[4:]) != row[1]:
                    lost.append((offset, "checksum", (row[2], *row[4:])))
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
        # Table recovery waits for the record before a changelog's end: there must be one.
        end = last + 1 if slot.compacted and kept else slot.next_offset
        new.execute(
            "UPDATE slots SET next_offset = ?, earliest = ?, records = ?, bytes = ? WHERE slot = ?",
            (end, min(first, end), kept, size, slot.slot),
        )
        kept_total += kept
    return RepairReport(kept_total, tuple(damaged), None)


_Lost = list[tuple[int, str, tuple["int | bytes | None", ...]]]


def _chunks(old: sqlite3.Connection, slot: _Slot) -> Iterator[tuple[list[_Row], _Lost]]:
    """Rows chunk by chunk; where a page is damaged, one by one."""
    base = record_id(slot.slot, 0)
    for start in range(slot.earliest, slot.next_offset, _CHUNK):
        stop = min(start + _CHUNK, slot.next_offset)
        try:
            rows = old.execute(
                f"{_SELECT} WHERE id >= ? AND id < ? ORDER BY id", (base + start, base + stop)
            ).fetchall()
        except sqlite3.DatabaseError:
            yield _one_by_one(old, base, start, stop)
        else:
            yield rows, []


def _one_by_one(
    old: sqlite3.Connection, base: int, start: int, stop: int
) -> tuple[list[_Row], _Lost]:
    rows: list[_Row] = []
    lost: _Lost = []
    for offset in range(start, stop):
        try:
            row = old.execute(f"{_SELECT} WHERE id = ?", (base + offset,)).fetchone()
        except sqlite3.DatabaseError as exc:
            lost.append((offset, f"unreadable: {exc}", (None, None, None, None)))
        else:
            if row is not None:
                rows.append(row)
    return rows, lost


def _is_sound(path: Path) -> bool:
    try:
        check_file(path)
    except LogCorrupt:
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
        sys.stderr.write("usage: python -m pipeline.logrepair PATH\n")
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
