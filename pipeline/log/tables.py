"""The tables of the local log, their checksums, and the check of the stored schema.

One SQLite file in WAL mode. A record's primary key is ``slot << 40 | offset``, where a slot is one
partition of one topic. A partition is therefore one contiguous range of the tree, and reading it in
order needs no index. The table `slots` keeps the values that must outlive deleted records (next
offset, first offset, sizes); it changes in the same transaction as the records.

Every row of `topics`, `slots` and `offsets` has a checksum, because one flipped bit there would
hide records, or have a group skip them, in a file that SQLite calls sound.
"""

from __future__ import annotations

import re
import secrets
import sqlite3
import zlib
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

from ingest.durable.wal import WalState
from pipeline.errors import LogError
from pipeline.log.file import FILE_ERRORS, PAGE_BYTES, damaged_log, file_error

__all__ = [
    "FORMAT",
    "check_format",
    "check_page_count",
    "check_schema",
    "create_old_tables",
    "create_tables",
    "offset_crc",
    "read_identity",
    "slot_crc",
    "topic_crc",
    "upgrade_tables",
]

APPLICATION_ID = 0x6B70_6C67  # "kplg", so that `file` and other programs can identify the log
FORMAT = 2
_NO_FORMAT = 100  # no version will have that many formats: such a number is damage
_OLD_FORMAT = 1  # without checksums of rows and without an identity

_TOPICS = """
CREATE TABLE topics (
    name TEXT PRIMARY KEY,
    partitions INTEGER NOT NULL,
    compacted INTEGER NOT NULL,      -- 1: keep the newest record of each key
    retention_ms INTEGER,            -- NULL: the log's default
    retention_bytes INTEGER{}        -- NULL: the log's default
) WITHOUT ROWID;
"""
_SLOTS = """
CREATE TABLE slots (                 -- one partition of one topic
    slot INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,    -- never falls, also when every record is gone
    earliest INTEGER NOT NULL,       -- first offset still stored; next_offset when none is
    records INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    stored_ms INTEGER NOT NULL{},    -- when the newest record was stored (retention by age)
    UNIQUE (topic, partition)
);
"""
_RECORDS = """
CREATE TABLE records (
    id INTEGER PRIMARY KEY,          -- slot << 40 | offset
    crc INTEGER NOT NULL,
    ts_ms INTEGER NOT NULL,
    stored_ms INTEGER NOT NULL,
    key BLOB,
    headers BLOB,
    value BLOB                       -- NULL: a tombstone; last, so that the rest reads cheaply
);
"""
_OFFSETS = """
CREATE TABLE offsets (               -- of consumer groups
    grp TEXT NOT NULL,
    slot INTEGER NOT NULL,
    offset INTEGER NOT NULL,         -- next offset the group has to read
    committed INTEGER NOT NULL,      -- 0: registered, nothing committed yet
    pins INTEGER NOT NULL{},         -- 1: retention keeps what the group has still to read
    PRIMARY KEY (grp, slot)
) WITHOUT ROWID;
"""
_DAMAGED = """
CREATE TABLE damaged (               -- raw records that the repair set aside
    slot INTEGER, offset INTEGER, reason TEXT, ts_ms INTEGER, key BLOB, headers BLOB, value BLOB
);
"""
_IDENTITY = """
CREATE TABLE identity (              -- random name of this log; the mark beside it has the same
    id TEXT NOT NULL
);
"""
_CRC = ", crc INTEGER NOT NULL DEFAULT 0"
_WITH_CRC = _TOPICS.format(_CRC) + _SLOTS.format(_CRC) + _OFFSETS.format(_CRC)
_TABLES = _WITH_CRC + _RECORDS + _DAMAGED + _IDENTITY
_OLD_TABLES = _TOPICS.format("") + _SLOTS.format("") + _OFFSETS.format("") + _RECORDS + _DAMAGED
_STORED = "SELECT type, name, tbl_name, sql FROM sqlite_master"
_FIRST_ROOT = 3
"""With auto-vacuum, SQLite keeps the first pages of all tables together, from this page on."""


def create_tables(db: sqlite3.Connection, path: Path, identity: str | None = None) -> bool:
    """Create the tables if the file is empty; returns whether it was.

    Args:
        db: The write connection.
        path: The file, for messages.
        identity: Name of the log; None makes a new one.

    Raises:
        LogError: See `check_format`.
    """
    try:
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables == 0:
            own = _new_identity() if identity is None else identity
            db.executescript(
                f"BEGIN IMMEDIATE; {_TABLES} PRAGMA application_id = {APPLICATION_ID};"
                f" PRAGMA user_version = {FORMAT};"
            )
            db.execute("INSERT INTO identity VALUES (?)", (own,))
            db.execute("COMMIT")
            return True
    except FILE_ERRORS as exc:
        raise file_error(path, exc) from exc
    check_format(db, path)
    return False


def create_old_tables(db: sqlite3.Connection) -> None:
    """Create the tables of the old format in an empty file.

    Raises:
        sqlite3.Error: The file cannot be written.
    """
    db.executescript(
        f"BEGIN IMMEDIATE; {_OLD_TABLES} PRAGMA application_id = {APPLICATION_ID};"
        f" PRAGMA user_version = {_OLD_FORMAT}; COMMIT;"
    )


def check_format(db: sqlite3.Connection, path: Path) -> int:
    """Check that the file is a log that this version reads; returns its format.

    Raises:
        LogError: The file belongs to another program or a newer version; else see `file_error`.
        LogCorrupt: The file is not a database, or is a log with a damaged header.
    """
    try:
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
    except FILE_ERRORS as exc:
        raise file_error(path, exc) from exc
    if application == APPLICATION_ID and version in (_OLD_FORMAT, FORMAT):
        return int(version)
    if application == APPLICATION_ID and FORMAT < version < _NO_FORMAT:
        msg = (
            f"{path} has log format {version}, but this version reads {FORMAT}; upgrade kpstream. "
            "If no newer version has used the log, its header is damaged: put a backup back"
        )
        raise LogError(msg)
    if _has_own_schema(db):
        raise damaged_log(
            path, f"its header has the application {application:#x} and the format {version}"
        )
    msg = f"{path} is a SQLite file of another program; choose another file for the log"
    raise LogError(msg)


def _has_own_schema(db: sqlite3.Connection) -> bool:
    """Whether the stored schema is that of a log, whatever the header says."""
    try:
        found = sorted(_plain(*row) for row in db.execute(_STORED))
    except FILE_ERRORS:
        return False
    return found in (_schema(_OLD_FORMAT), _schema(FORMAT))


def check_schema(db: sqlite3.Connection, path: Path, version: int) -> None:
    """Check that the stored schema is that of the format, before any other query relies on it.

    SQLite trusts the schema in the file. One flipped bit there may turn a primary key into an
    ordinary column, and every lookup into a scan of the whole table.

    Raises:
        LogCorrupt: The schema differs.
        LogError: See `file_error`.
    """
    try:
        rows = db.execute(_STORED).fetchall()
        roots = sorted(root for (root,) in db.execute("SELECT rootpage FROM sqlite_master"))
        (vacuum,) = db.execute("PRAGMA auto_vacuum").fetchone()
    except FILE_ERRORS as exc:
        raise file_error(path, exc) from exc
    found = sorted(_plain(*row) for row in rows)
    if found != _schema(version):
        wrong = sorted(set(found) ^ set(_schema(version)))
        raise damaged_log(path, f"its stored schema is not that of a log (see {wrong[0][1]!r})")
    if not vacuum or roots != list(range(_FIRST_ROOT, _FIRST_ROOT + len(roots))):
        raise damaged_log(path, f"its stored schema has tables at the pages {roots}")


def check_page_count(db: sqlite3.Connection, path: Path, wal: WalState) -> None:
    """Check that the header counts every page of the log, before anything is written.

    SQLite trusts this number. If a flipped bit makes it smaller, the records in the pages behind
    are unreadable, and the next records are written over them.

    Args:
        db: A connection to the log.
        path: The file, for messages.
        wal: Its write-ahead file, which decides the number as long as it has a commit.

    Raises:
        LogCorrupt: The number differs.
        LogError: See `file_error`.
    """
    try:
        (counted,) = db.execute("PRAGMA page_count").fetchone()
        pages = wal.pages or path.stat().st_size // PAGE_BYTES
    except (*FILE_ERRORS, OSError) as exc:
        raise file_error(path, exc) from exc
    if counted != pages:
        raise damaged_log(path, f"its header counts {counted} pages, but it has {pages}")


@lru_cache(maxsize=2)
def _schema(version: int) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(_OLD_TABLES if version == _OLD_FORMAT else _TABLES)
        return sorted(_plain(*row) for row in db.execute(_STORED))


def _plain(*columns: Any) -> tuple[str, ...]:
    """Columns of the schema without comments and spacing, which older versions wrote otherwise."""
    sql = re.sub(r"--[^\n]*", "", str(columns[3]))
    return (*map(str, columns[:3]), re.sub(r"\s+(?=\W)|(?<=\W)\s+", "", " ".join(sql.split())))


def read_identity(db: sqlite3.Connection) -> str:
    """The name of the log; "" for one of the old format.

    Raises:
        sqlite3.DatabaseError: The row is malformed.
    """
    if db.execute("PRAGMA user_version").fetchone()[0] == _OLD_FORMAT:
        return ""
    rows = db.execute("SELECT id FROM identity").fetchall()
    if len(rows) != 1 or not _is_identity(rows[0][0]):
        msg = "malformed row in the table identity"
        raise sqlite3.DatabaseError(msg)
    return str(rows[0][0])


def upgrade_tables(db: sqlite3.Connection) -> None:
    """Give a log of the old format its checksums and its identity, in one transaction.

    Raises:
        sqlite3.Error: The file cannot be written; it is unchanged.
    """
    if db.execute("PRAGMA user_version").fetchone()[0] != _OLD_FORMAT:
        return
    topics = db.execute(
        "SELECT name, partitions, compacted, retention_ms, retention_bytes FROM topics"
    ).fetchall()
    slots = db.execute(
        "SELECT slot, topic, partition, next_offset, earliest,"
        " (SELECT count(*) FROM records WHERE id >= slot << 40 AND id < slot + 1 << 40),"
        " bytes, stored_ms FROM slots"
    ).fetchall()
    offsets = db.execute("SELECT grp, slot, offset, committed, pins FROM offsets").fetchall()
    db.execute("BEGIN IMMEDIATE")
    try:
        for table in ("topics", "slots", "offsets"):
            db.execute(f"DROP TABLE {table}")
        for create in (_WITH_CRC + _IDENTITY).split(";\n"):
            if create.strip():
                db.execute(create)
        db.executemany(
            "INSERT INTO topics VALUES (?, ?, ?, ?, ?, ?)",
            [(*row, topic_crc(*row)) for row in topics],
        )
        db.executemany(
            "INSERT INTO slots VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(*row, slot_crc(*row)) for row in slots],
        )
        db.executemany(
            "INSERT INTO offsets VALUES (?, ?, ?, ?, ?, ?)",
            [(*row, offset_crc(*row)) for row in offsets],
        )
        db.execute("INSERT INTO identity VALUES (?)", (_new_identity(),))
        db.execute(f"PRAGMA user_version = {FORMAT}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def _new_identity() -> str:
    """A random name with a checksum, so that damage is not taken for another log."""
    name = secrets.token_hex(8)
    return f"{name}{_row_crc(name):08x}"


def _is_identity(found: Any) -> bool:
    return type(found) is str and found[16:] == f"{_row_crc(found[:16]):08x}"


def topic_crc(
    name: str,
    partitions: int,
    compacted: int,
    retention_ms: int | None,
    retention_bytes: int | None,
) -> int:
    """Checksum of a row of `topics`."""
    return _row_crc(name, partitions, int(compacted), retention_ms, retention_bytes)


def slot_crc(slot: int, topic: str, *numbers: int) -> int:
    """Checksum of a row of `slots`; `numbers` in the order of the table, from the partition on."""
    return _row_crc(slot, topic, *numbers)


def offset_crc(group: str, slot: int, offset: int, committed: int, pins: int) -> int:
    """Checksum of a row of `offsets`."""
    return _row_crc(group, slot, offset, int(committed), int(pins))


def _row_crc(*values: int | str | None) -> int:
    return zlib.crc32(repr(values).encode())
