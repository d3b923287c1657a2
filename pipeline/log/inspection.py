"""Opening a log: everything that is checked before the first write, and the rule behind it.

The rule: **whatever happens to the files of a log, opening it either gives every confirmed record
or raises a typed error that names the file, what is lost and the ways on.** `inspect_log` looks at
the files in an order in which nothing is changed before everything is checked:

| what happens | to ``log.db`` | to ``log.db-wal`` |
|---|---|---|
| a bit flips at rest | LogCorrupt (e); of a record, when read | LogCorrupt (a), else LogLost (b) |
| cut at rest | LogCorrupt | LogLost (b) |
| removed, emptied, older, foreign | LogLost (b) | LogLost (b), LogCorrupt (c) |
| a bit flips while open | when it is read, or at the next start | at the next start |
| cut while open | LogCorrupt (d) | LogCorrupt (d) |
| removed or replaced while open | LogLost (d) | LogLost (d), nothing is lost |
| all files from one earlier moment | none: a restored backup | |

a. From the chain of checksums (`ingest.durable.wal`), if a confirmed transaction stands behind.
b. From the mark (`ingest.durable.mark`), which names the offsets that are missing.
c. Where its pages do not fit those of ``log.db``.
d. Before the next confirmation, or within the next round of retention (`ingest.durable.inplace`).
e. Of a large file in the background (`pipeline.log.contentcheck`), but of a record that is missing
   always before a reader steps over it (`pipeline.log.reader`).

Something else than a regular file under one of the names is a LogError that says so.
Of the other files, ``log.db-shm`` and ``log.db.lock`` have no effect at rest and are LogLost when
they are taken away while the log is open. A mark that is missing, cut, damaged, older or foreign
loses nothing: it is written anew with a warning, except that an intact mark of another log is
LogLost, because it cannot be told from another log under this mark.

What remains unseen: the last seconds before a *loss of power* are known to the mark only as far as
it was synced (`ingest.durable.mark`); the chain of checksums still proves what stood before the
last transaction. A log without a mark (made by an older version, or the mark was deleted with
the end of the log) has the chain only.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ingest.durable.mark import Mark, MarkFile, boot_id, mark_path, read_mark
from ingest.durable.wal import WalState, follows, read_wal, wal_path
from ingest.statefile import check_database
from pipeline.errors import LogError, LogLost
from pipeline.log.contentcheck import check_counts, check_pages
from pipeline.log.file import FILE_ERRORS, connect, damaged_log, file_error, within
from pipeline.log.state import LogState, read_state
from pipeline.log.tables import (
    check_format,
    check_page_count,
    check_schema,
    create_tables,
    read_identity,
    upgrade_tables,
)

__all__ = [
    "LogFiles",
    "inspect_log",
    "load_state",
    "lost_error",
    "lost_records",
    "make_mark",
    "open_file",
    "read_ends",
]

log = logging.getLogger(__name__)

_SQLITE_LEAST_BYTES = 512


@dataclass(frozen=True, slots=True)
class LogFiles:
    """What `inspect_log` found.

    Attributes:
        mark: The mark; None without one.
        identity: Name of the log; "" for a new log or one of the old format.
        ends: Topic to end offsets.
    """

    mark: Mark | None
    identity: str
    ends: Mapping[str, Sequence[int]]


def open_file(
    path: Path, durability: Literal["full", "normal"], check_bytes: int
) -> tuple[sqlite3.Connection, LogFiles]:
    """Open the file of a log for writing; create its tables if it is new, upgrade old ones.

    Args:
        path: The file; its folder exists.
        durability: See `pipeline.log.file.connect`.
        check_bytes: Files up to this size are checked for damaged pages first.

    Raises:
        LogError: See `inspect_log` and `pipeline.log.tables.create_tables`.
    """
    files = inspect_log(path, check_bytes)
    db = connect(path, durability=durability)
    try:
        create_tables(db, path)
        try:
            upgrade_tables(db)
            identity = read_identity(db)
        except FILE_ERRORS as exc:
            raise file_error(path, exc) from exc
    except BaseException:
        db.close()
        raise
    return db, LogFiles(files.mark, identity, files.ends)


def load_state(db: sqlite3.Connection, path: Path, cache_bytes: int) -> LogState:
    """Load the state of an open log; closes the connection on an error.

    Raises:
        LogError: A row is malformed, or the file cannot be read.
    """
    try:
        with within(db, path):
            return read_state(db, cache_bytes)
    except FILE_ERRORS as exc:
        db.close()
        raise file_error(path, exc) from exc
    except LogError:
        db.close()
        raise


def make_mark(
    path: Path, files: LogFiles, ends: Mapping[str, Sequence[int]], durability: str
) -> MarkFile:
    """Begin the mark of a log that has just been opened."""
    accepted = 0 if files.mark is None else files.mark.accepted_lost
    mark = Mark(files.identity, boot_id(), durability == "full", accepted_lost=accepted)
    file = MarkFile(mark_path(path), mark)
    file.write(ends)
    return file


def inspect_log(path: Path, check_bytes: int) -> LogFiles:
    """Check the files of a log that no process has open; changes nothing.

    Args:
        path: The file.
        check_bytes: Files up to this size are read as a whole.

    Raises:
        LogLost: Confirmed records are gone; see the module.
        LogCorrupt: A file is damaged.
        LogError: The file belongs to another program or a newer version, or cannot be read.
    """
    try:
        check_database(path)
        mark = read_mark(mark_path(path))
        size_bytes = path.stat().st_size if path.exists() else 0
        if 0 < size_bytes < _SQLITE_LEAST_BYTES:  # SQLite would start a new database
            raise damaged_log(path, "the file is truncated")
        if size_bytes == 0:
            _check_absent(path, mark)
            return LogFiles(mark, "", {})
        boot = boot_id()
        wal = read_wal(path)
        lost_power = mark is None or mark.may_have_lost_power(boot)
        syncs = mark is None or mark.syncs_commits
        if wal.is_damaged(after_power_loss=lost_power, syncs_commits=syncs):
            raise damaged_log(path, wal.finding)
        if mark is not None and not lost_power and wal.salts is not None and mark.wal:
            if not follows(wal.salts, (mark.wal[0], mark.wal[1])):
                raise lost_error(path, f"{wal_path(path).name} is of another log or time", {})
        identity, ends = _read(path, wal, size_bytes, check_bytes)
    except OSError as exc:
        raise file_error(path, exc) from exc
    if mark is not None:
        _check_mark(path, mark, identity, ends, boot)
    elif identity:
        log.warning("%s has no mark beside it: a loss of its last records would go unnoticed", path)
    return LogFiles(mark, identity, ends)


def _check_absent(path: Path, mark: Mark | None) -> None:
    """Check that a log that does not exist has never existed."""
    wal = wal_path(path)
    if mark is not None and any(map(any, mark.ends.values())):
        what = "is gone" if not path.exists() else "is empty"
        raise lost_error(path, f"it {what}", mark.lost({}))
    if wal.exists() and wal.stat().st_size:
        raise lost_error(path, f"it is gone, but {wal.name} is there", {})


def _read(
    path: Path, wal: WalState, size_bytes: int, check_bytes: int
) -> tuple[str, dict[str, list[int]]]:
    """Check header, schema, pages and counts; returns the identity and the end offsets."""
    try:
        with closing(connect(path, durability="full", read_only=True)) as db, within(db, path):
            if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                return "", {}  # killed before its first transaction
            version = check_format(db, path)
            check_schema(db, path, version)
            check_page_count(db, path, wal)
            if size_bytes <= check_bytes:
                check_pages(path)
                check_counts(path)
            return read_identity(db), read_ends(db)
    except FILE_ERRORS as exc:
        raise file_error(path, exc) from exc


def read_ends(db: sqlite3.Connection) -> dict[str, list[int]]:
    """Topic to end offsets, one per partition.

    Raises:
        sqlite3.Error: The table is unreadable.
    """
    ends: dict[str, list[int]] = {}
    query = "SELECT topic, next_offset FROM slots ORDER BY topic, partition"
    for topic, end in db.execute(query):
        ends.setdefault(topic, []).append(end)
    return ends


def _check_mark(
    path: Path, mark: Mark, identity: str, ends: Mapping[str, Sequence[int]], boot: str
) -> None:
    """Check that the log is the one of the mark, and reaches it."""
    if identity != mark.identity:
        raise lost_error(path, "it is another log, or a copy from before an upgrade", mark.lost({}))
    lost = mark.lost(ends)
    if not lost:
        return
    if not mark.syncs_commits and mark.may_have_lost_power(boot):
        log.error(
            "the log %s lost %d records to a loss of power (durability normal): %s",
            path,
            lost_records(lost),
            _listed(lost),
        )
        return
    raise lost_error(
        path,
        f"it or {wal_path(path).name} was cut, removed or replaced by an older copy",
        lost,
    )


def lost_records(lost: Mapping[tuple[str, int], range]) -> int:
    """Number of offsets in `lost`."""
    return sum(map(len, lost.values()))


def lost_error(path: Path, what: str, lost: Mapping[tuple[str, int], range]) -> LogLost:
    """Build the error for confirmed records that are gone."""
    known = _listed(lost) if lost else "how much is not known"
    return LogLost(
        f"the log {path} has lost records that were confirmed: {what}. Lost ({lost_records(lost)} "
        f"records): {known}. Put the right file back, with its -wal, or accept the loss: "
        f"`kpstream log accept-loss {path}` keeps what is there and counts what is not"
    )


def _listed(lost: Mapping[tuple[str, int], range], most: int = 6) -> str:
    """Ranges in words.

    >>> _listed({("readings", 0): range(5, 8), ("scores", 1): range(0, 1)})
    'readings[0] 5 to 7, scores[1] 0'
    """
    parts = [
        f"{topic}[{partition}] {span[0]}" + (f" to {span[-1]}" if len(span) > 1 else "")
        for (topic, partition), span in lost.items()
    ]
    return ", ".join(parts[:most]) + (f" and {len(parts) - most} more" if parts[most:] else "")
