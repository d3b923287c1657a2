"""Records of the local log read from its file, in the gateway and beside it.

The reader in the gateway (`DiskReader`) never steps over a record that is missing, because its user
would commit an offset behind it. Offsets that retention or a repair left empty are told from damage
by the number of records in the row of the partition.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from pipeline.errors import LogClosed, LogCorrupt
from pipeline.log.file import (
    FILE_ERRORS,
    connect,
    damaged_log,
    damaged_record,
    file_error,
    is_damage,
)
from pipeline.log.state import (
    Partition,
    StoredRecord,
    decode_headers,
    is_intact,
    record_id,
    stored_size,
)
from pipeline.log.tables import read_identity

__all__ = ["DiskReader", "peek_back", "peek_ends", "peek_from", "peek_log", "peek_partitions"]

_SELECT = "SELECT id, crc, ts_ms, key, headers, value FROM records WHERE id >= ? AND id < ?"
_PAGE_RECORDS = 128
_PARTITION = "SELECT next_offset, earliest, records FROM slots WHERE slot = ?"
_COUNT = "SELECT count(*) FROM records WHERE id >= ? AND id < ?"


class DiskReader:
    """Reads records on read-only connections of its own; thread-safe.

    Args:
        path: The file of the log.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._counted: set[int] = set()  # slots with empty offsets, and with all their records
        self._closed = False

    def read(
        self, part: Partition, offset: int, max_records: int, max_bytes: int
    ) -> list[StoredRecord]:
        """Durable records from `offset` on, in order; at least one if there is one.

        Raises:
            LogCorrupt: A record is missing or does not match its checksum, or a page is damaged.
            LogError: The file cannot be read for another reason.
        """
        first = record_id(part.slot, 0)
        at, end = max(offset, 0), part.next_offset
        has_gaps = False
        records: list[StoredRecord] = []
        db = self._connection()
        try:
            with (
                _one_moment(db),
                closing(
                    db.execute(
                        f"{_SELECT} ORDER BY id LIMIT ?", (first + at, first + end, max_records)
                    )
                ) as rows,
            ):
                for row_id, *row in rows:
                    record = _decode(
                        self._path, part.slot, part.topic, part.partition, row_id - first, *row
                    )
                    if record.offset < at or (record.offset > at and not has_gaps):
                        has_gaps = self._check_gap(db, part, at, record.offset)
                    max_bytes -= stored_size(record.key, None, record.value)
                    if max_bytes < 0 and records:
                        break
                    records.append(record)
                    at = record.offset + 1
                else:
                    if len(records) < max_records and at < end and not has_gaps:
                        self._check_gap(db, part, at, end)
        except LogCorrupt:
            if not records:  # else return the intact ones; the next read starts here and raises
                db.close()
                raise
        except FILE_ERRORS as exc:
            db.close()
            if records and is_damage(exc):  # as above; the next read opens another connection
                return records
            raise file_error(self._path, exc) from exc
        self._idle.append(db)
        if self._closed:  # closed meanwhile: nothing else would close this connection
            self.close()
        return records

    def _check_gap(self, db: sqlite3.Connection, part: Partition, at: int, to: int) -> bool:
        """Check that the offsets from `at` to `to` are empty for a good reason.

        A partition without empty offsets has as many records as offsets. The records of another one
        are counted, once.

        Returns:
            Whether the partition has all its records and yet empty offsets among them.

        Raises:
            LogCorrupt: A record is missing.
        """
        name = f"{part.topic}[{part.partition}]"
        row = db.execute(_PARTITION, (part.slot,)).fetchone()
        if row is None or to < at:
            raise _out_of_order(self._path, part.topic, part.partition)
        next_offset, earliest, records = row
        missing = max(at, earliest)
        if missing >= min(to, next_offset):  # retention deleted them
            return False
        if records >= next_offset - earliest:
            raise damaged_log(self._path, f"record {missing} of {name} is missing")
        if part.slot in self._counted:
            return True
        ends = (record_id(part.slot, 0), record_id(part.slot + 1, 0))
        (found,) = db.execute(_COUNT, ends).fetchone()
        if found != records:
            raise damaged_log(self._path, f"{name} has {found} records and should have {records}")
        self._counted.add(part.slot)
        return True

    def close(self) -> None:
        """Close all idle connections; reads in progress close theirs."""
        self._closed = True
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _connection(self) -> sqlite3.Connection:
        if self._closed:
            msg = f"the log {self._path} is closed"
            raise LogClosed(msg)
        try:
            return self._idle.pop()
        except IndexError:
            return connect(self._path, durability="full", read_only=True)


@contextmanager
def _one_moment(db: sqlite3.Connection) -> Iterator[None]:
    """Let all queries see the log as it is now."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        with suppress(sqlite3.Error):  # a failed disk has ended the transaction
            db.execute("ROLLBACK")


def _out_of_order(path: Path, topic: str, partition: int) -> LogCorrupt:
    return damaged_log(path, f"the records of {topic}[{partition}] are out of order")


def peek_log(path: str | Path, topic: str) -> Iterator[StoredRecord]:
    """Read the records of a topic, partition by partition, beside a running gateway.

    Takes no lock and writes nothing, so another process may use it (to list dead letters), and
    holds no read transaction while the caller works. A topic that does not exist has no records.

    Raises:
        LogCorrupt: A record does not match its checksum, or the file is no log.
        LogError: The file cannot be read for another reason.
    """
    file = Path(path).resolve(strict=True)
    try:
        with closing(connect(file, durability="full", read_only=True)) as db:
            slots = db.execute(
                "SELECT slot, partition FROM slots WHERE topic = ? ORDER BY partition", (topic,)
            ).fetchall()
            for slot, partition in slots:
                yield from _forward(file, db, slot, topic, partition, 0)
    except FILE_ERRORS as exc:
        raise file_error(file, exc) from exc


def peek_from(path: str | Path, topic: str, partition: int, offset: int) -> Iterator[StoredRecord]:
    """Read the records of a partition from an offset on, as `peek_log` does.

    Raises:
        LogCorrupt: A record does not match its checksum, or the file is no log.
        LogError: The file cannot be read for another reason.
    """
    file = Path(path).resolve(strict=True)
    try:
        with closing(connect(file, durability="full", read_only=True)) as db:
            row = db.execute(
                "SELECT slot FROM slots WHERE topic = ? AND partition = ?", (topic, partition)
            ).fetchone()
            if row is not None:
                yield from _forward(file, db, row[0], topic, partition, offset)
    except FILE_ERRORS as exc:
        raise file_error(file, exc) from exc


def peek_ends(path: str | Path, topic: str) -> tuple[str, dict[int, tuple[int, int]]]:
    """Return the identity of a log, and the first and the next offset of a topic's partitions.

    Raises:
        LogCorrupt: The file is no log.
        LogError: The file cannot be read for another reason.
    """
    file = Path(path).resolve(strict=True)
    try:
        with closing(connect(file, durability="full", read_only=True)) as db:
            rows = db.execute(
                "SELECT partition, earliest, next_offset FROM slots WHERE topic = ?", (topic,)
            ).fetchall()
            return read_identity(db), {row[0]: (row[1], row[2]) for row in rows}
    except FILE_ERRORS as exc:
        raise file_error(file, exc) from exc


def peek_partitions(path: str | Path, topic: str) -> int:
    """Number of partitions of a topic, read beside a running gateway; 0 for an unknown topic.

    Raises:
        LogCorrupt: The file is no log.
        LogError: The file cannot be read for another reason.
    """
    file = Path(path).resolve(strict=True)
    try:
        with closing(connect(file, durability="full", read_only=True)) as db:
            row = db.execute("SELECT partitions FROM topics WHERE name = ?", (topic,)).fetchone()
    except FILE_ERRORS as exc:
        raise file_error(file, exc) from exc
    return 0 if row is None else int(row[0])


def peek_back(path: str | Path, topic: str, partition: int) -> Iterator[StoredRecord]:
    """Read the records of a partition from the newest to the oldest, beside a running gateway.

    Takes no lock, writes nothing, and holds no read transaction while the caller works, so the
    gateway can truncate its write-ahead log meanwhile. Records appended after the first one was
    read are not seen.

    Raises:
        LogCorrupt: A record does not match its checksum, or the file is no log.
        LogError: The file cannot be read for another reason.
    """
    file = Path(path).resolve(strict=True)
    try:
        with closing(connect(file, durability="full", read_only=True)) as db:
            row = db.execute(
                "SELECT slot FROM slots WHERE topic = ? AND partition = ?", (topic, partition)
            ).fetchone()
            if row is None:
                return
            first, end = record_id(row[0], 0), record_id(row[0] + 1, 0)
            while rows := db.execute(
                f"{_SELECT} ORDER BY id DESC LIMIT ?", (first, end, _PAGE_RECORDS)
            ).fetchall():
                for row_id, *columns in rows:
                    if row_id >= end:
                        raise _out_of_order(file, topic, partition)
                    yield _decode(file, row[0], topic, partition, row_id - first, *columns)
                    end = row_id
    except FILE_ERRORS as exc:
        raise file_error(file, exc) from exc


def _forward(
    file: Path, db: sqlite3.Connection, slot: int, topic: str, partition: int, offset: int
) -> Iterator[StoredRecord]:
    first, end = record_id(slot, 0), record_id(slot + 1, 0)
    at = first + offset
    while rows := db.execute(f"{_SELECT} ORDER BY id LIMIT ?", (at, end, _PAGE_RECORDS)).fetchall():
        for row_id, *row in rows:
            if row_id < at:  # pages that point backwards would be read for ever
                raise _out_of_order(file, topic, partition)
            yield _decode(file, slot, topic, partition, row_id - first, *row)
            at = row_id + 1


def _decode(
    path: Path,
    slot: int,
    topic: str,
    partition: int,
    offset: int,
    crc: int,
    ts_ms: int,
    key: bytes | None,
    headers: bytes | None,
    value: bytes | None,
) -> StoredRecord:
    if not is_intact(crc, slot, offset, ts_ms, key, headers, value):
        raise damaged_record(path, topic, partition, offset)
    return StoredRecord(topic, partition, offset, ts_ms, key, value, decode_headers(headers))
