"""What the results file cannot prove of itself: that no stored point is gone, in a few checks.

The store commits its place in the log behind points that are durable here, so a point that is lost
afterwards is lost for good. The rule is that of the log (`pipeline.log.inspection`): a file that
is damaged, cut or older is an error that says what to do, before anything is changed. A file that
is missing or another one is what the advice of that error leads to: it is told, and used.

Every transaction counts up `_writes`, and the mark beside the file (`ingest.durable.mark`) notes
the count. Values inside points have no checksum: a bit that flips there at rest stays unseen.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from ingest.durable.inplace import OpenFiles
from ingest.durable.mark import Mark, MarkFile, boot_id, mark_path, read_mark
from ingest.durable.wal import follows, read_wal, wal_path
from ingest.durable.walbound import WalBound
from ingest.statefile import check_database
from pipeline.errors import ResultsCorrupted, ResultsGone, SinkUnavailable

__all__ = ["ResultsGuard", "check_results", "check_tables"]

log = logging.getLogger(__name__)

_WRITES = "writes"
_TABLE = "CREATE TABLE IF NOT EXISTS _writes (identity TEXT NOT NULL, count INTEGER NOT NULL)"
_KEYS = {
    "_series": {"id": ("INTEGER", 1), "measurement": ("TEXT", 0), "last_time_ns": ("INTEGER", 0)},
    "points_": {"series": ("INTEGER", 1), "time_ns": ("INTEGER", 2)},
}


def check_results(path: Path, connect: Callable[[], sqlite3.Connection]) -> None:
    """Check the files of a results file that no process has open for writing; changes nothing.

    Args:
        path: The file.
        connect: Opens it for reading only.

    Raises:
        ResultsCorrupted: The file is damaged, or ends before points that were stored.
        sqlite3.Error: It cannot be read.
        OSError: As before.
    """
    check_database(path)
    mark = read_mark(mark_path(path))
    stored = 0 if mark is None else mark.ends.get(_WRITES, (0,))[0]
    if not path.exists() or not path.stat().st_size:
        if stored:
            log.error(
                "results file %s is gone, with the points of %d writes: a new one is made. Stop "
                "the gateway and put the file back if you still have it",
                path,
                stored,
            )
        return
    boot = boot_id()
    lost_power = mark is None or mark.may_have_lost_power(boot)
    wal = read_wal(path)
    if wal.is_damaged(after_power_loss=lost_power):
        raise ResultsCorrupted(path, wal.finding)
    if mark is None:
        return
    if wal.salts is not None and mark.wal and not lost_power:
        if not follows(wal.salts, (mark.wal[0], mark.wal[1])):
            raise ResultsCorrupted(path, f"{wal_path(path).name} is of another file or time")
    with closing(connect()) as db:
        identity, count = _found(db)
    if identity and identity != mark.identity:
        log.error(
            "results file %s is not the one that was here before, which had the points of %d "
            "writes: it is used as it is. Stop the gateway and put the other back if you miss them",
            path,
            stored,
        )
    elif count < stored:
        detail = (
            f"it has {count} of {stored} writes: it or {wal_path(path).name} was cut, removed or "
            "replaced by an older copy. Put the right file back, or, to go on with this one, "
            f"delete {mark_path(path)}"
        )
        raise ResultsCorrupted(path, detail)


def check_tables(path: Path, db: sqlite3.Connection) -> None:
    """Check that the keys of all tables are those of a results file, before they are relied on.

    Raises:
        ResultsCorrupted: The stored schema differs.
        sqlite3.Error: It cannot be read.
    """
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        wanted = _KEYS.get("points_" if name.startswith("points_") else name, {})
        found = {
            row[0]: (row[1], row[2])
            for row in db.execute("SELECT name, type, pk FROM pragma_table_info(?)", (name,))
        }
        if any(found.get(column) != key for column, key in wanted.items()):
            raise ResultsCorrupted(path, f"the stored schema of {name!r} is damaged")


def _found(db: sqlite3.Connection) -> tuple[str, int]:
    """Identity and number of writes; "" and 0 in a file of an older version."""
    exists = "SELECT count(*) FROM sqlite_master WHERE name = '_writes'"
    if not db.execute(exists).fetchone()[0]:
        return "", 0
    row = db.execute("SELECT identity, count FROM _writes").fetchone()
    return ("", 0) if row is None else (str(row[0]), int(row[1]))


class ResultsGuard:
    """Watches one results file while it is open for writing; used under its write lock.

    Args:
        path: The file.
        db: The write connection, in WAL mode.
        max_bytes: Cap of the file; the write-ahead file has a bound of its own within it.
    """

    def __init__(self, path: Path, db: sqlite3.Connection, max_bytes: int) -> None:
        self._path = path
        self._db = db
        db.execute(_TABLE)
        identity, self._count = _found(db)
        if not identity:
            identity = secrets.token_hex(8)
            db.execute("INSERT INTO _writes VALUES (?, 0)", (identity,))
        self._files = OpenFiles(path)
        self._bound = WalBound(db, path, max_bytes)
        self._mark = MarkFile(mark_path(path), Mark(identity, boot_id(), syncs_commits=True))
        self._mark.write({_WRITES: [self._count]}, self._files.salts())

    @property
    def wal_bytes(self) -> int:
        """Size of the write-ahead file at the last write."""
        return self._bound.size_bytes

    def before_write(self) -> None:
        """Check that the write-ahead file has room; outside of a transaction.

        Raises:
            SinkUnavailable: It is at its bound, because another program reads for long.
            ResultsCorrupted: A file was cut since the last write.
        """
        cut = self._files.cut()
        if cut is not None:
            raise ResultsCorrupted(self._path, f"{cut.name} was cut while it was open")
        if self._bound.is_full:
            self._bound.shrink()
            self._files.note()
        if self._bound.is_full:
            raise SinkUnavailable(self._bound.reason)

    def before_commit(self) -> None:
        """Count the write, and check that the files are in place; inside the transaction.

        Raises:
            ResultsGone: A file was deleted or replaced while it was open; the write would be lost.
        """
        gone = self._files.gone()
        if gone is not None:
            raise ResultsGone(*gone)
        self._db.execute("UPDATE _writes SET count = ?", (self._count + 1,))

    def after_commit(self) -> None:
        """Note the mark of a durable write, and keep the write-ahead file small."""
        self._count += 1
        self._bound.shrink()
        self.after_change()
        self._mark.write({_WRITES: [self._count]}, self._files.salts())

    def after_change(self) -> None:
        """Note sizes after a change that stores no point."""
        self._files.note()

    def close(self) -> None:
        """Make the mark durable, once the write connection is closed."""
        self._mark.write({_WRITES: [self._count]})
        self._files.close()
        self._mark.close()
