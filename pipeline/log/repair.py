"""Repair a damaged log: ``python -m pipeline.log.repair state/log.db``, or ``kpstream log repair``.

A damaged write-ahead file is mended first (`ingest.durable.walrepair`), and a damaged header or
stored schema is replaced (`pipeline.log.firstpage`). Then every record that is readable and matches
its checksum is copied, with its offset, into a new file (`pipeline.log.recordcopy`); groups keep
their offsets. Damaged records go into the table `damaged` of the new file as far as they are
readable. The old file stays beside it as ``<name>.damaged``. Readers skip the missing offsets. The
gateway must be stopped.

Records that the mark has and the files have not are not the repair's to give up: it raises LogLost,
unless the loss is accepted. An accepted loss is counted in the mark, and its offsets are not
used again.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ingest.durable.mark import Mark, MarkFile, boot_id, mark_path, read_mark, sync_folder
from ingest.durable.walrepair import MendReport, mend_wal
from ingest.statefile import check_database
from pipeline.errors import LogCorrupt, LogError
from pipeline.log.file import FILE_ERRORS, connect, file_error, lock_file
from pipeline.log.firstpage import readable_log, remove_log
from pipeline.log.inspection import inspect_log, lost_error, lost_records, read_ends
from pipeline.log.recordcopy import DamagedRecord, Slot, copy_records
from pipeline.log.salvage import END
from pipeline.log.state import is_group_row, is_partition_row, is_topic_row, read_state
from pipeline.log.tables import (
    FORMAT,
    check_format,
    create_tables,
    offset_crc,
    read_identity,
    slot_crc,
    topic_crc,
)

__all__ = ["DamagedRecord", "RepairReport", "main", "repair_log", "report_text"]

_TOPICS = "name, partitions, compacted, retention_ms, retention_bytes"
_SLOTS = "slot, topic, partition, next_offset, earliest, records, bytes, stored_ms"
_OFFSETS = "grp, slot, offset, committed, pins"


@dataclass(frozen=True, slots=True)
class RepairReport:
    """Result of a repair.

    Attributes:
        kept: Number of records in the new file.
        damaged: Records that were lost.
        backup: The old file; None when the log was intact.
        missing: Offsets whose loss was accepted, by topic and partition.
        mended: What was mended in the write-ahead file.
    """

    kept: int
    damaged: tuple[DamagedRecord, ...]
    backup: Path | None
    missing: Mapping[tuple[str, int], range] = field(default_factory=dict)
    mended: MendReport | None = None


def repair_log(path: Path, *, accept_loss: bool = False) -> RepairReport:
    """Repair a log in place.

    Args:
        path: The file.
        accept_loss: Go on without the confirmed records that only the mark knows of.

    Raises:
        LogLocked: A gateway is using the log.
        LogCorrupt: The offsets are unreadable; start with a new file.
        LogLost: Confirmed records are gone, and their loss is not accepted; nothing is changed
            except that the write-ahead file may be mended.
        LogError: The file belongs to another program, has a newer format, or cannot be read.
    """
    path = path.resolve()
    try:
        check_database(path)
        mark = read_mark(mark_path(path))
    except OSError as exc:
        raise file_error(path, exc) from exc
    if not path.is_file() or not path.stat().st_size:
        if mark is None:
            msg = f"there is no log {path}"
            raise LogError(msg)
        return _start_anew(path, mark, accept_loss=accept_loss)
    with closing(lock_file(path)):
        mended = mend_wal(path)
        fresh = path.with_name(path.name + ".repairing")
        remove_log(fresh)
        try:
            report, identity = _copy(path, fresh, mark, accept_loss=accept_loss)
        except BaseException:
            remove_log(fresh)
            raise
        report = replace(report, mended=mended)
        if not report.damaged and not report.missing and _is_intact_log(path):
            remove_log(fresh)
            return report
        backup = _replace(path, fresh)
        lost = lost_records(report.missing) + (0 if mark is None else mark.accepted_lost)
        _write_mark(path, Mark(identity, boot_id(), True, accepted_lost=lost))
        return replace(report, backup=backup)


def _start_anew(path: Path, mark: Mark, *, accept_loss: bool) -> RepairReport:
    """Leave a log that is gone; the next start makes a new one."""
    missing = mark.lost({})
    if not accept_loss:
        raise lost_error(path, "it is gone", missing)
    with closing(lock_file(path)):
        backup = path.with_name(path.name + ".damaged")
        _move(path, backup)
        accepted = mark.accepted_lost + lost_records(missing)
        _write_mark(path, Mark("", boot_id(), True, accepted_lost=accepted), {})
    return RepairReport(0, (), backup, missing)


def _copy(
    path: Path, fresh: Path, mark: Mark | None, *, accept_loss: bool
) -> tuple[RepairReport, str]:
    """Copy what is intact into a new file; returns also the identity of the log."""
    try:
        with (
            readable_log(path) as readable,
            closing(connect(readable, durability="full", read_only=True)) as old,
            closing(connect(fresh, durability="full")) as new,
        ):
            old.text_factory = _text
            check_format(old, path)
            known = _identity(old)
            if known is None and mark is not None:  # damaged, so not another log's
                known = mark.identity
            create_tables(new, fresh, known or None)
            identity = read_identity(new)
            lost_offsets: list[DamagedRecord] = []
            is_own = mark is not None and mark.identity == identity
            ends = _ends(mark) if mark is not None and is_own else {}
            slots = _copy_offsets(old, new, lost_offsets, ends)
            kept, damaged = copy_records(old, new, slots)
            missing = _missing(new, mark, slots, identity)
            if missing and not accept_loss:
                raise lost_error(path, "its files do not reach the mark", missing)
            new.execute("BEGIN")
            _skip(new, missing, slots)
            _seal(new)
            new.execute("COMMIT")
            new.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except (LogCorrupt, *FILE_ERRORS) as exc:
        what = "no first page fits" if isinstance(exc, LogCorrupt) else exc
        msg = (
            f"the offsets in {path} are unreadable ({what}), so its records cannot be placed; "
            "move the file away and start with a new one: `kpstream log accept-loss` then counts "
            "what is lost"
        )
        raise LogCorrupt(msg) from exc
    return RepairReport(kept, (*lost_offsets, *damaged), None, missing), identity


def _identity(old: sqlite3.Connection) -> str | None:
    """The identity of a log, "" in the old format; None if it is unreadable."""
    try:
        return read_identity(old)
    except FILE_ERRORS:
        return None


def _ends(mark: Mark) -> dict[tuple[str, int], int]:
    return {
        (topic, partition): end
        for topic, ends in mark.ends.items()
        for partition, end in enumerate(ends)
    }


def _missing(
    new: sqlite3.Connection, mark: Mark | None, slots: list[Slot], identity: str
) -> dict[tuple[str, int], range]:
    """What the mark has and the repaired log has not.

    In a compacted topic, a damaged last record is listed as damaged, and its offset is used again.
    """
    if mark is None:
        return {}
    if mark.identity != identity:
        return mark.lost({})
    reused = {slot.topic for slot in slots if slot.compacted and slot.lost_end}
    found = mark.lost(read_ends(new))
    return {where: span for where, span in found.items() if where[0] not in reused}


def _skip(
    new: sqlite3.Connection, missing: Mapping[tuple[str, int], range], slots: list[Slot]
) -> None:
    """Continue behind the missing offsets, except in compacted topics.

    Table recovery waits for the last record of a changelog, so its end follows one.
    """
    for slot in slots:
        span = missing.get((slot.topic, slot.partition))
        if span is not None and not slot.compacted:
            new.execute(
                "UPDATE slots SET next_offset = ?, earliest = iif(records, earliest, ?)"
                " WHERE slot = ?",
                (span.stop, span.stop, slot.slot),
            )


def _seal(new: sqlite3.Connection) -> None:
    """Hold groups back to the ends, and write the checksums of all rows."""
    new.execute(
        "UPDATE offsets SET offset = min(offset, ifnull((SELECT next_offset FROM slots"
        " WHERE slots.slot = offsets.slot), offset))"
    )
    for row in new.execute("SELECT * FROM topics").fetchall():
        new.execute("UPDATE topics SET crc = ? WHERE name = ?", (topic_crc(*row[:-1]), row[0]))
    for row in new.execute("SELECT * FROM slots").fetchall():
        new.execute("UPDATE slots SET crc = ? WHERE slot = ?", (slot_crc(*row[:-1]), row[0]))
    for row in new.execute("SELECT * FROM offsets").fetchall():
        new.execute(
            "UPDATE offsets SET crc = ? WHERE grp = ? AND slot = ?",
            (offset_crc(*row[:-1]), *row[:2]),
        )


def _write_mark(path: Path, mark: Mark, ends: Mapping[str, Sequence[int]] | None = None) -> None:
    """Write the mark of the log as it is now."""
    if ends is None:
        with closing(connect(path, durability="full", read_only=True)) as db:
            ends = read_ends(db)
    file = MarkFile(mark_path(path), mark)
    file.write(ends)
    file.close()


def _text(raw: bytes) -> str:
    """Decode text leniently, because damage in one name must not hide the other rows."""
    return raw.decode("utf-8", "replace")


def _copy_offsets(
    old: sqlite3.Connection,
    new: sqlite3.Connection,
    lost: list[DamagedRecord],
    ends: Mapping[tuple[str, int], int],
) -> list[Slot]:
    """Copy everything but the records; `ends` has the end offsets of the mark."""
    new.execute("BEGIN")
    topics = _topic_rows(old)
    new.executemany("INSERT INTO topics VALUES (?, ?, ?, ?, ?, 0)", topics)
    compacted = {row[0]: row[2] for row in topics}
    slots = []
    for *row, crc in old.execute(_with_crc(old, _SLOTS, "slots ORDER BY slot")).fetchall():
        slot, topic, partition, *_ = row
        if not is_partition_row(slot, topic, partition, 0, 0) or topic not in compacted:
            msg = f"the row of a partition of {topic!r} is malformed"
            raise sqlite3.DatabaseError(msg)
        is_damaged = not is_partition_row(*row)
        if is_damaged:
            lost.append(DamagedRecord(topic, partition, -1, "its first and last offset"))
        records = row[5] if not is_damaged and crc == slot_crc(*row) else None
        if is_damaged or crc not in (None, slot_crc(*row)):  # derived from its records instead
            row = [slot, topic, partition, ends.get((topic, partition), END), 0, 0, 0, 0]
        new.execute("INSERT INTO slots VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)", row)
        slots.append(Slot(slot, topic, partition, row[3], row[4], compacted[topic], records))
    places = {slot.slot: slot for slot in slots}
    for *row, crc in old.execute(_with_crc(old, _OFFSETS, "offsets")).fetchall():
        group, slot, *_ = row
        is_good = is_group_row(*row) and crc in (None, offset_crc(*row))
        if is_good and slot in places and "\ufffd" not in group:
            new.execute("INSERT INTO offsets VALUES (?, ?, ?, ?, ?, 0)", row)
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


def _topic_rows(old: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """The rows of `topics` without their checksums, corrected where a checksum tells how.

    Raises:
        sqlite3.DatabaseError: A row is malformed.
    """
    rows = []
    for *row, crc in old.execute(_with_crc(old, _TOPICS, "topics")).fetchall():
        name, partitions, compacted, *limits = row
        if not is_topic_row(name, compacted, *limits) or type(partitions) is not int:
            msg = "a row of the table topics is malformed"
            raise sqlite3.DatabaseError(msg)
        good = [
            each
            for is_compacted in (compacted, 1 - compacted)
            for each in ((name, partitions, is_compacted, *limits),)
            if crc in (None, topic_crc(*each))
        ]
        # Else a limit or the checksum is damaged: the log's own limits apply.
        rows.append(good[0] if good else (name, partitions, compacted, None, None))
    return rows


def _with_crc(old: sqlite3.Connection, columns: str, table: str) -> str:
    """A query for the rows of a table with their checksums, NULL in the old format."""
    crc = "crc" if old.execute("PRAGMA user_version").fetchone()[0] == FORMAT else "NULL"
    return f"SELECT {columns}, {crc} FROM {table}"  # noqa: S608  (ours)


def _is_intact_log(path: Path) -> bool:
    """Whether the log opens and accepts records."""
    try:
        inspect_log(path, sys.maxsize)
        with closing(connect(path, durability="full")) as db:
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
    _move(path, backup)
    fresh.replace(path)
    sync_folder(path.parent)
    return backup


def _move(path: Path, backup: Path) -> None:
    for end in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + end).replace(backup.with_name(backup.name + end))


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
    sys.stdout.write(report_text(report))
    return 0


def report_text(report: RepairReport) -> str:
    """The outcome in lines: each record that is lost, what was mended, and the totals."""
    lines = [
        f"lost {lost.topic}[{lost.partition}] {lost.offset}: {lost.reason}"
        for lost in report.damaged
    ]
    lines += [
        f"lost {topic}[{partition}] {span.start} to {span.stop - 1}: not in the files"
        for (topic, partition), span in report.missing.items()
    ]
    if report.mended is not None:
        lines.append(
            f"write-ahead file: {report.mended.corrected} frames corrected, {report.mended.kept} "
            f"damaged frames read as they are; as it was: {report.mended.backup}"
        )
    state = "intact" if report.backup is None else f"repaired, the old file is {report.backup}"
    lost = len(report.damaged) + lost_records(report.missing)
    lines.append(f"{report.kept} records kept, {lost} lost: {state}")
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    raise SystemExit(main())
