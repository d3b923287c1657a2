"""The file of the local log: its tables, its lock, and the errors of opening and reading it.

One SQLite file in WAL mode. A record's primary key is ``slot << 40 | offset``, where a slot is one
partition of one topic. A partition is therefore one contiguous range of the tree, and reading it in
order needs no index. The table `slots` keeps the values that must outlive deleted records (next
offset, first offset, sizes); it changes in the same transaction as the records.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, Any, Literal

from pipeline.errors import LogCorrupt, LogError, LogLocked

__all__ = [
    "FILE_ERRORS",
    "check_file",
    "check_format",
    "connect",
    "create_tables",
    "damaged_record",
    "file_error",
    "is_damage",
    "lock_file",
    "open_file",
]

APPLICATION_ID = 0x6B70_6C67  # "kplg", so that `file` and other programs can identify the log
FORMAT = 1
_SQLITE_LEAST_BYTES = 512

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
CREATE TABLE damaged (               -- raw records that the repair set aside
    slot INTEGER, offset INTEGER, reason TEXT, ts_ms INTEGER, key BLOB, headers BLOB, value BLOB
);
"""

FILE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""Errors of reading the file, to be caught and translated by `file_error`."""
_DAMAGE_SIGNS = ("malformed", "not a database", "Could not decode", "no such table", "no such col")
"""Fragments of SQLite's messages; the last two because every log has all tables and columns."""
_FULL = "its disk is full: free some space, then start again"
_READ_ONLY = (
    "it cannot be written: check the owner and permissions of the file, of its -wal, -shm and "
    ".lock, and of their folder, and whether the disk is mounted read-only"
)
_ADVICE = (
    ("disk is full", _FULL),
    ("no space left", _FULL),
    ("quota", _FULL),
    ("readonly", _READ_ONLY),
    ("read-only", _READ_ONLY),
    ("permission denied", _READ_ONLY),
    ("unable to open", _READ_ONLY + "; or its disk is full"),
    (
        "locked",
        "another program has it open (sqlite3, a backup?): end that program, then start again",
    ),
    ("i/o error", "its disk is full or fails: check the free space and the kernel log (dmesg)"),
)
_OTHER_ADVICE = "check the disk (kernel log, free space, mount options)"


def connect(
    path: Path, *, durability: Literal["full", "normal"], read_only: bool = False
) -> sqlite3.Connection:
    """Open a connection with the settings of the log; any one thread at a time may use it.

    ``full`` fsyncs at every commit, so a resolved append survives loss of power. ``normal`` fsyncs
    at checkpoints only: an append survives a killed process, but loss of power may take the last
    seconds.

    Raises:
        LogError: See `file_error`.
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


def open_file(
    path: Path, durability: Literal["full", "normal"], check_bytes: int
) -> sqlite3.Connection:
    """Open the file of a log for writing; create its tables if it is new.

    Args:
        path: The file; its folder exists.
        durability: See `connect`.
        check_bytes: Files up to this size are checked for damaged pages first.

    Raises:
        LogError: See `create_tables` and `check_file`.
    """
    size = path.stat().st_size if path.exists() else 0
    if 0 < size < _SQLITE_LEAST_BYTES:  # SQLite would start a new database
        raise file_error(path, sqlite3.DatabaseError("the file is truncated: malformed"))
    db = connect(path, durability=durability)
    try:
        create_tables(db, path)
        if 0 < size <= check_bytes:
            check_file(path)
    except BaseException:
        db.close()
        raise
    return db


def create_tables(db: sqlite3.Connection, path: Path) -> bool:
    """Create the tables if the file is empty; returns whether it was.

    Raises:
        LogError: The file belongs to another program or a newer version; else see `file_error`.
        LogCorrupt: The file is not a database.
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
    """Check that the file is a log of this format.

    Raises:
        LogError: The file belongs to another program or a newer version; else see `file_error`.
        LogCorrupt: The file is not a database.
    """
    try:
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
    except FILE_ERRORS as exc:
        raise file_error(path, exc) from exc
    if application != APPLICATION_ID:
        msg = f"{path} is a SQLite file of another program; choose another file for the log"
        raise LogError(msg)
    if version != FORMAT:
        msg = f"{path} has log format {version}, but this version reads {FORMAT}; upgrade kpstream"
        raise LogError(msg)


def check_file(path: Path) -> None:
    """Check the file for damaged pages (``PRAGMA quick_check``); reads the whole file.

    Raises:
        LogCorrupt: A page is damaged; the message has the first finding and what to do.
        LogError: The file cannot be read for another reason, see `file_error`.
    """
    try:
        with closing(connect(path, durability="full", read_only=True)) as db:
            (finding,) = db.execute("PRAGMA quick_check(1)").fetchone()
    except FILE_ERRORS as exc:
        raise file_error(path, exc) from exc
    if finding != "ok":
        raise _damaged(path, finding)


def lock_file(path: Path) -> IO[Any]:
    """Lock the log for this process until the returned file is closed.

    The lock is advisory (flock) on ``<path>.lock``; the kernel drops it when the process dies.

    Raises:
        LogLocked: Another process holds the lock; the message has its process id.
        LogError: The folder or the lock file cannot be written, see `file_error`.
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
            f"{path} is in use by process {holder}, and only one gateway may use a log. Stop that "
            "process, or choose another state directory for this one"
        )
        raise LogLocked(msg) from exc
    with suppress(OSError):  # disk full: the lock holds without the process id
        os.ftruncate(lock.fileno(), 0)
        os.write(lock.fileno(), str(os.getpid()).encode())
    return lock


def damaged_record(path: Path, topic: str, partition: int, offset: int) -> LogCorrupt:
    """Build the error for a record whose checksum does not match."""
    return _damaged(path, f"record {offset} of {topic}[{partition}] does not match its checksum")


def file_error(path: Path, exc: Exception) -> LogError:
    """Translate an error of opening or reading the file; it is damage only if SQLite reports it so.

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
        f"cannot open or read the log {path} ({text}): {advice}. Keep the file; it is not known to "
        "be damaged"
    )


def is_damage(exc: BaseException) -> bool:
    """Whether SQLite reports wrong content, as opposed to a file that it cannot reach.

    >>> is_damage(sqlite3.OperationalError("database or disk is full"))
    False
    """
    text = str(exc)
    if isinstance(exc, sqlite3.Error):
        return any(sign in text for sign in _DAMAGE_SIGNS)
    return isinstance(exc, UnicodeDecodeError)  # SQLite's message quotes bytes of the file


def _damaged(path: Path, finding: object) -> LogCorrupt:
    msg = (
        f"the log {path} is damaged: {finding}. Stop the gateway, keep a copy of the file, then "
        f"run `python -m pipeline.log.repair {path}`: it keeps every readable record and all "
        "offsets, sets damaged records aside and lists them. Check the disk"
    )
    return LogCorrupt(msg)
