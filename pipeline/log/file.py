"""The file of the local log: its tables, its records, its checksums, its lock.

One SQLite file in WAL mode. A record's primary key is ``slot << 40 | offset`` where a slot is one
partition of one topic, so a partition is one contiguous range of the tree and reading it in order
needs no index. What must outlive deleted records (the next offset, the first offset, sizes) stands
in the `slots` table and changes in the same transaction as the records do.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import struct
import zlib
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from pipeline.errors import LogCorrupt, LogError, LogLocked

__all__ = [
    "FILE_ERRORS",
    "MAX_RECORD_BYTES",
    "NewRecord",
    "RecordRow",
    "StoredRecord",
    "check_file",
    "check_format",
    "checksum",
    "connect",
    "create_tables",
    "damaged_record",
    "decode_headers",
    "encode_headers",
    "file_error",
    "is_damage",
    "is_intact",
    "lock_file",
    "record_id",
    "stored_size",
]

APPLICATION_ID = 0x6B70_6C67  # "kplg": `file` and a careless open tell whose database this is
FORMAT = 1
OFFSET_BITS = 40
MAX_RECORD_BYTES = 16 * 1024 * 1024
"""Largest value of one record; a bundle is some ten kilobytes."""
ROW_OVERHEAD_BYTES = 48
"""What a row costs beside key, value and headers; counted so that many tiny records fill a cap."""

_HEAD = struct.Struct("<qqqqqq")
_COUNT = struct.Struct("<H")
_LENGTHS = struct.Struct("<HI")

Headers = tuple[tuple[str, bytes], ...]

_TABLES = """
CREATE TABLE topics (
    name TEXT PRIMARY KEY,
    partitions INTEGER NOT NULL,
    compacted INTEGER NOT NULL,      -- 1: keep the newest record of each key
    retention_ms INTEGER,            -- NULL: the log's default
    retention_bytes INTEGER          -- NULL: the log's default
) WITHOUT ROWID;
CREATE TABLE slots (                 -- one partition of one topic
    slot INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,    -- never falls, also when every record is gone
    earliest INTEGER NOT NULL,       -- first offset still stored; next_offset when none is
    records INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    stored_ms INTEGER NOT NULL,      -- when the newest record was stored (retention by age)
    UNIQUE (topic, partition)
);
CREATE TABLE records (
    id INTEGER PRIMARY KEY,          -- slot << 40 | offset
    crc INTEGER NOT NULL,
    ts_ms INTEGER NOT NULL,
    stored_ms INTEGER NOT NULL,
    key BLOB,
    headers BLOB,
    value BLOB                       -- NULL: a tombstone; last, so that the rest reads cheaply
);
CREATE TABLE offsets (               -- of consumer groups
    grp TEXT NOT NULL,
    slot INTEGER NOT NULL,
    offset INTEGER NOT NULL,         -- next offset the group has to read
    committed INTEGER NOT NULL,      -- 0: registered, nothing committed yet
    pins INTEGER NOT NULL,           -- 1: retention keeps what the group has still to read
    PRIMARY KEY (grp, slot)
) WITHOUT ROWID;
CREATE TABLE damaged (               -- set aside by the repair, raw
    slot INTEGER, offset INTEGER, reason TEXT, ts_ms INTEGER, key BLOB, headers BLOB, value BLOB
);
"""


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A record to append; anything with these attributes will do.

    Attributes:
        topic: created with the log's default partition count when it does not exist.
        value: None is a tombstone: in a compacted topic it removes its key.
        key: decides the partition when `partition` is None; a compacted topic needs one.
        ts_ms: event time, epoch milliseconds; None means now.
    """

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    ts_ms: int | None = None
    headers: Headers = ()


class StoredRecord(NamedTuple):
    """A record as it stands in the log; `ts_ms` is epoch milliseconds."""

    topic: str
    partition: int
    offset: int
    ts_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


RecordRow = tuple[int, int, int, int, "bytes | None", "bytes | None", "bytes | None"]
"""A row of `records`, columns in the order of the table."""


def record_id(slot: int, offset: int) -> int:
    """Primary key of a record.

    >>> record_id(1, 5) - record_id(1, 0)
    5
    """
    return slot << OFFSET_BITS | offset


def checksum(
    slot: int,
    offset: int,
    ts_ms: int,
    key: bytes | None,
    headers: bytes | None,
    value: bytes | None,
) -> int:
    """CRC-32 over everything a reader relies on, also over which record it is.

    >>> checksum(0, 1, 2, None, None, b"x") == checksum(0, 1, 2, b"", None, b"x")
    False
    """
    parts = (key, headers, value)
    head = _HEAD.pack(slot, offset, ts_ms, *(-1 if p is None else len(p) for p in parts))
    crc = zlib.crc32(head)
    for part in parts:
        if part:
            crc = zlib.crc32(part, crc)
    return crc


def is_intact(
    crc: int,
    slot: int,
    offset: int,
    ts_ms: int,
    key: bytes | None,
    headers: bytes | None,
    value: bytes | None,
) -> bool:
    """Whether a row holds what was written there; in a damaged one, anything may have any type.

    >>> crc = checksum(0, 1, 2, None, None, b"x")
    >>> is_intact(crc, 0, 1, 2, None, None, b"x"), is_intact(crc, 0, 1, "2", None, None, 3.5)
    (True, False)
    """
    parts = (key, headers, value)
    if type(ts_ms) is not int or not all(part is None or type(part) is bytes for part in parts):
        return False
    return checksum(slot, offset, ts_ms, *parts) == crc


def encode_headers(headers: Sequence[tuple[str, bytes]]) -> bytes | None:
    """Headers as one blob, None for none.

    >>> decode_headers(encode_headers([("origin", b"bridge"), ("empty", b"")]))
    (('origin', b'bridge'), ('empty', b''))
    """
    if not headers:
        return None
    parts = [_COUNT.pack(len(headers))]
    for name, value in headers:
        raw = name.encode()
        parts += (_LENGTHS.pack(len(raw), len(value)), raw, value)
    return b"".join(parts)


def decode_headers(data: bytes | None) -> Headers:
    """Inverse of `encode_headers`; the record's checksum has been verified before."""
    if data is None:
        return ()
    (count,) = _COUNT.unpack_from(data)
    at = _COUNT.size
    headers = []
    for _ in range(count):
        name_bytes, value_bytes = _LENGTHS.unpack_from(data, at)
        at += _LENGTHS.size
        headers.append((data[at : at + name_bytes].decode(), data[at + name_bytes :][:value_bytes]))
        at += name_bytes + value_bytes
    return tuple(headers)


def stored_size(key: bytes | None, headers: bytes | None, value: bytes | None) -> int:
    """What a record counts against the retention and the disk cap, bytes."""
    return len(key or b"") + len(headers or b"") + len(value or b"") + ROW_OVERHEAD_BYTES


def connect(
    path: Path, *, durability: Literal["full", "normal"], read_only: bool = False
) -> sqlite3.Connection:
    """A connection with our settings; usable from any one thread at a time.

    ``full`` fsyncs at every commit: a resolved append survives loss of power. ``normal`` fsyncs at
    checkpoints only: it survives a killed process, but loss of power may take the last seconds.

    Raises:
        LogError: see `file_error`.
    """
    try:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
    except FILE_ERRORS as exc:
        raise file_error(path, exc) from exc
    try:
        if read_only:
            db.execute("PRAGMA query_only = 1")
            db.execute("PRAGMA cache_size = -1024")
            return db
        db.execute("PRAGMA page_size = 8192")  # both only take effect on an empty file
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}")
        db.execute("PRAGMA cache_size = -4096")
        db.execute("PRAGMA journal_size_limit = 67108864")
    except FILE_ERRORS as exc:
        db.close()
        raise file_error(path, exc) from exc
    return db


def create_tables(db: sqlite3.Connection, path: Path) -> bool:
    """Create the tables of an empty file; True when it was empty.

    Raises:
        LogError: the file belongs to something else or to a newer version, or see `file_error`.
        LogCorrupt: it is not a database.
    """
    try:
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables == 0:
            script = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT};"
            db.executescript(f"BEGIN IMMEDIATE; {_TABLES} {script} COMMIT;")
            return True
    except FILE_ERRORS as exc:
        raise file_error(path, exc) from exc
    check_format(db, path)
    return False


def check_format(db: sqlite3.Connection, path: Path) -> None:
    """See whose file it is.

    Raises:
        LogError: the file belongs to something else or to a newer version, or see `file_error`.
        LogCorrupt: it is not a database.
    """
    try:
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
    except FILE_ERRORS as exc:
        raise file_error(path, exc) from exc
    if application != APPLICATION_ID:
        msg = f"{path} is a SQLite file of another program: name another file for the log"
        raise LogError(msg)
    if version != FORMAT:
        msg = f"{path} has log format {version}, this version reads {FORMAT}: upgrade kpstream"
        raise LogError(msg)


def check_file(path: Path) -> None:
    """Look for damaged pages (``PRAGMA quick_check``); reads the whole file.

    Raises:
        LogCorrupt: with the first finding and what to do.
        LogError: the file cannot be read for another reason, see `file_error`.
    """
    try:
        with closing(connect(path, durability="full", read_only=True)) as db:
            (finding,) = db.execute("PRAGMA quick_check(1)").fetchone()
    except FILE_ERRORS as exc:
        raise file_error(path, exc) from exc
    if finding != "ok":
        raise _damaged(path, finding)


def lock_file(path: Path) -> IO[Any]:
    """Take the log for this process until the returned file is closed.

    The lock is advisory (flock) on ``<path>.lock``; the kernel drops it when the process dies.

    Raises:
        LogLocked: somebody else has it; the message names the process.
        LogError: the folder or the lock file cannot be written, see `file_error`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(path.name + ".lock").open("a+", encoding="ascii")
    except OSError as exc:
        raise file_error(path, exc) from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        msg = (
            f"{path} is in use by process {holder}: one gateway per log. Stop that process, or "
            "give this one another state directory"
        )
        raise LogLocked(msg) from exc
    with suppress(OSError):  # no room for the number of the process: the lock holds without it
        os.ftruncate(lock.fileno(), 0)
        os.write(lock.fileno(), str(os.getpid()).encode())
    return lock


def damaged_record(path: Path, topic: str, partition: int, offset: int) -> LogCorrupt:
    """The error for a record whose checksum does not match."""
    return _damaged(path, f"record {offset} of {topic}[{partition}] does not match its checksum")


def file_error(path: Path, exc: Exception) -> LogError:
    """What to tell of a file that cannot be opened or read; only SQLite's verdict is damage.

    >>> file_error(Path("log.db"), sqlite3.DatabaseError("file is not a database")).args[0][:26]
    'the log log.db is damaged:'
    >>> type(file_error(Path("log.db"), sqlite3.OperationalError("disk I/O error")))
    <class 'pipeline.errors.LogError'>
    """
    text = str(exc)
    if is_damage(exc):
        return _damaged(path, exc)
    advice = next((advice for sign, advice in _ADVICE if sign in text.lower()), _OTHER_ADVICE)
    return LogError(
        f"cannot open or read the log {path} ({text}): {advice}. Nothing says that the file is "
        "damaged; keep it"
    )


def is_damage(exc: BaseException) -> bool:
    """Whether SQLite says that the content of the file is wrong (and not that it can't reach it).

    >>> is_damage(sqlite3.OperationalError("database or disk is full"))
    False
    """
    text = str(exc)
    if isinstance(exc, sqlite3.Error):
        return any(sign in text for sign in _DAMAGE_SIGNS)
    return isinstance(exc, UnicodeDecodeError)  # text of the file, in a message of SQLite


FILE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What reading the file may raise: for ``except FILE_ERRORS``, then `file_error`."""
_DAMAGE_SIGNS = ("malformed", "not a database", "Could not decode", "no such table", "no such col")
"""In SQLite's messages; the last two because our own tables have all that we ask for."""
_FULL = "its disk is full: make room on it, then start again"
_READ_ONLY = (
    "it cannot be written: look at the owner and the permissions of the file, of its -wal, -shm "
    "and .lock, and of their folder, and whether the disk is mounted read-only"
)
_ADVICE = (
    ("disk is full", _FULL),
    ("no space left", _FULL),
    ("quota", _FULL),
    ("readonly", _READ_ONLY),
    ("read-only", _READ_ONLY),
    ("permission denied", _READ_ONLY),
    ("unable to open", _READ_ONLY + "; or its disk is full"),
    ("locked", "another program has it open (sqlite3, a backup?): end that, then start again"),
    ("i/o error", "its disk is full or fails: look at the free space and the kernel log (dmesg)"),
)
_OTHER_ADVICE = "look at the disk (kernel log, free space, mount options)"


def _damaged(path: Path, finding: object) -> LogCorrupt:
    msg = (
        f"the log {path} is damaged: {finding}. Stop the gateway, keep a copy of the file, then "
        f"run `python -m pipeline.log.repair {path}`: it keeps every readable record and all "
        "positions, sets damaged records aside, and says which those are. Check the disk"
    )
    return LogCorrupt(msg)
