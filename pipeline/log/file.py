"""The file of the local log: its connections, its lock, and the errors of reading it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal

from ingest.statefile import NotRegular, check_database, open_regular
from pipeline.errors import LogCorrupt, LogError, LogLocked

__all__ = [
    "FILE_ERRORS",
    "PAGE_BYTES",
    "connect",
    "damaged_log",
    "damaged_record",
    "file_error",
    "is_damage",
    "lock_file",
    "within",
]

_READER_CACHE = "PRAGMA cache_size = -256"
"""For each reader: it reads straight on, and SQLite empties the cache at every change anyway."""
_CHECK_S = 30.0
_CHECK_BYTES_PER_S = 2_000_000  # a slow SD card reads ten times as fast

PAGE_BYTES = 8192
FILE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""Errors of reading the file, to be caught and translated by `file_error`."""
_DAMAGE_SIGNS = (
    "malformed",
    "not a database",
    "unsupported file format",  # of the schema: SQLite has had no higher one since 2006
    "Could not decode",
    "no such table",  # every log has all tables and columns
    "no such col",
)
"""Fragments of SQLite's messages."""
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
    seconds. A connection that is `read_only` never changes the file or its write-ahead file, not
    even by a checkpoint when it is closed.

    Raises:
        LogError: See `file_error`.
    """
    name = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    try:
        check_database(path)
        db = sqlite3.connect(
            name, uri=True, isolation_level=None, check_same_thread=False, timeout=10.0
        )
    except (*FILE_ERRORS, OSError) as exc:
        raise file_error(path, exc) from exc
    try:
        if read_only:
            db.execute("PRAGMA query_only = 1")
            db.execute(_READER_CACHE)
            return db
        db.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # both only take effect on an empty file
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}")
        db.execute("PRAGMA cache_size = -2048")
        db.execute("PRAGMA journal_size_limit = 67108864")
        db.execute("PRAGMA secure_delete = OFF")  # Debian's default zeroes and writes free pages
    except FILE_ERRORS as exc:
        db.close()
        raise file_error(path, exc) from exc
    return db


@contextmanager
def within(db: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Bound the time of what is read from a file that may be damaged.

    The limit is 30 s plus a second for every 2 MB, many times what a slow disk needs.

    Raises:
        LogCorrupt: The time is over.
    """
    size_bytes = path.stat().st_size if path.exists() else 0
    limit_s = _CHECK_S + size_bytes / _CHECK_BYTES_PER_S
    timer = threading.Timer(limit_s, db.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    except sqlite3.OperationalError as exc:
        if "interrupted" in str(exc):
            raise damaged_log(path, f"it could not be checked within {limit_s:.0f} s") from exc
        raise
    finally:
        timer.cancel()


def lock_file(path: Path) -> IO[Any]:
    """Lock the log for this process until the returned file is closed.

    The lock is advisory (flock) on ``<path>.lock``; the kernel drops it when the process dies.

    Raises:
        LogLocked: Another process holds the lock; the message has its process id.
        LogError: The folder or the lock file cannot be written, see `file_error`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        found = open_regular(path.with_name(path.name + ".lock"), flags, 0o666)
        lock = os.fdopen(found, "a+", encoding="ascii")
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
    return damaged_log(path, f"record {offset} of {topic}[{partition}] does not match its checksum")


def file_error(path: Path, exc: Exception) -> LogError:
    """Translate an error of opening or reading the file; it is damage only if SQLite reports it so.

    >>> file_error(Path("log.db"), sqlite3.DatabaseError("file is not a database")).args[0][:26]
    'the log log.db is damaged:'
    >>> type(file_error(Path("log.db"), sqlite3.OperationalError("disk I/O error")))
    <class 'pipeline.errors.LogError'>
    """
    text = str(exc)
    if isinstance(exc, NotRegular):
        return LogError(f"cannot open the log {path}: {text}")
    if is_damage(exc):
        return damaged_log(path, exc)
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


def damaged_log(path: Path, finding: object) -> LogCorrupt:
    """Build the error for a damaged log; the message has the finding and what to do."""
    msg = (
        f"the log {path} is damaged: {finding}. Stop the gateway, keep a copy of the file, then "
        f"run `python -m pipeline.log.repair {path}`: it keeps every readable record and all "
        "offsets, sets damaged records aside and lists them. Check the disk"
    )
    return LogCorrupt(msg)
