"""The results file: a sink without a server, and the source of the console.

One SQLite file has the same measurements, tags and fields as InfluxDB:

1. `_series` interns measurement and tags, and has the time of each series' newest point. The age of
   a series counts only time for which the file was open (`ingest.clock.RunningTime`).
2. `points_<measurement>` has one column per field, clustered by series and time. A new field adds
   a column. A point is identified by measurement, tags and time; writing it again overwrites the
   fields that it has, as in InfluxDB.
3. A view per measurement (`rul`, `activity`, ...) joins the two, all tags as columns, for manual
   SQL queries:
   `sqlite3 results.db "SELECT * FROM rul WHERE device = 'engine-01' ORDER BY time_ns"`.

A write is one transaction in a write-ahead log, synced to disk before it returns. After a kill, the
file has all points of a batch or none, and the batch is written again. Readers have a connection of
their own and never block the writer.
"""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ingest.clock import RunningTime
from ingest.clock import now_ms as process_now_ms
from ingest.clock import steady_ms as process_steady_ms
from ingest.statefile import check_database
from pipeline.errors import ResultsCorrupted, SinkUnavailable
from pipeline.points.pointblocks import Points
from pipeline.stores.resultsguard import ResultsGuard, check_results, check_tables
from pipeline.stores.resultsrows import ResultsRows, quoted
from pipeline.stores.sinks import Refused

__all__ = ["ResultsFile"]

_T = TypeVar("_T")

_APPLICATION_ID = 0x6B707374  # "kpst"
_SCHEMA_VERSION = 1
_CHECK_LIMIT_BYTES = 64 * 2**20  # quick_check reads everything: only small files are checked whole
_READ_S = 60.0  # a longer read would keep the write-ahead file from being emptied
_STEPS_BETWEEN_LOOKS = 100_000
_RETENTION_EVERY_MS = 60_000
_STILL_WRITTEN_MS = 86_400_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS _series (
    id INTEGER PRIMARY KEY,
    measurement TEXT NOT NULL,
    tags TEXT NOT NULL,
    site TEXT NOT NULL, device TEXT NOT NULL, stream TEXT NOT NULL, model TEXT NOT NULL,
    last_time_ns INTEGER NOT NULL,
    written_ms INTEGER NOT NULL,
    UNIQUE (measurement, tags)
);
CREATE INDEX IF NOT EXISTS _series_device ON _series (site, device, stream);
"""


class ResultsFile:
    """A SQLite file of points: a `pipeline.stores.sinks.Sink`, read by `pipeline.console.queries`.

    Thread-safe. One process writes; others may open the file with `read_only=True` meanwhile.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_age_ms: int = 30 * 86_400_000,
        max_bytes: int = 2 * 2**30,
        read_only: bool = False,
        now_ms: Callable[[], int] = process_now_ms,
        steady_ms: Callable[[], int] = process_steady_ms,
    ) -> None:
        """Open or create the file.

        Args:
            path: The file; its directory is created. SQLite adds `-wal` and `-shm` beside it.
            max_age_ms: Age at which points are deleted, counted back from the newest point of their
                series, so that replayed old data stays. Series of one measurement that differ in
                other tags than site, device, stream and model age together, from the newest point
                of the one that is furthest behind: a forecast lies ahead of the readings, which is
                no reason to delete it before they come. A series without a write for as long is
                deleted as a whole; time for which the file was closed does not count.
            max_bytes: Size, with the write-ahead file, above which the oldest points are deleted.
            read_only: Open an existing file without writing.
            now_ms: The clock, epoch milliseconds.
            steady_ms: Monotonic milliseconds. No step of a clock makes a series old.

        Raises:
            ResultsCorrupted: The file is damaged, of a newer version, or not a results file.
            SinkUnavailable: The file cannot be opened (permissions, disk).
        """
        self._path = path
        self._max_age_ms = max_age_ms
        self._max_bytes = max_bytes
        self._now_ms = now_ms
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._rows = ResultsRows()
        self._steady_ms = steady_ms
        self._next_retention_ms: int | None = None  # monotonic; None: with the first write
        self._running = RunningTime(None, now_ms(), steady_ms)
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._guard: ResultsGuard | None = None
        self._read_until = math.inf
        try:
            with self._translated():
                self._open(read_only=read_only)
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self._path

    def write(self, points: Points) -> list[Refused]:
        """Store points in one transaction, durable when this returns; see `Sink.write`.

        Raises:
            SinkUnavailable: The disk is full, or the file is locked or not writable; no point of
                the batch is stored.
            ResultsCorrupted: The file is damaged.
            ResultsGone: The file was deleted or replaced while it was open.
        """
        with self._write_lock, self._translated():
            db, guard = self._writer, self._guard
            if db is None or guard is None:
                raise SinkUnavailable(f"results file {self._path} is closed or read-only")  # noqa: EM102
            guard.before_write()
            db.execute("BEGIN IMMEDIATE")
            try:
                refused = self._rows.store(db, points, self._now_ms(), self._running.now_ms())
                guard.before_commit()
                db.execute("COMMIT")
            except BaseException:
                db.rollback()
                self._rows.forget()  # the rollback removed what this transaction interned
                raise
            guard.after_commit()
            if self._next_retention_ms is None or self._steady_ms() >= self._next_retention_ms:
                self._next_retention_ms = self._steady_ms() + _RETENTION_EVERY_MS
                self._retain(db)
                guard.after_change()
        return refused

    def apply_retention(self) -> int:
        """Delete points that exceed age or size; return how many were deleted.

        `write` does this once a minute.
        """
        with self._write_lock, self._translated():
            return 0 if self._writer is None else self._retain(self._writer)

    def select(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        """Rows of a query on a read-only connection, which sees everything committed so far."""
        with self._read_lock, self._translated():
            if self._reader is None:
                raise SinkUnavailable(f"results file {self._path} is closed")  # noqa: EM102
            self._read_until = time.monotonic() + _READ_S
            return self._reader.execute(sql, parameters).fetchall()

    def reduce(
        self, sql: str, parameters: Mapping[str, Any], fold: Callable[[Iterator[Any]], _T]
    ) -> _T:
        """Fold the rows of a query, which are never all in memory at once."""
        with self._read_lock, self._translated():
            if self._reader is None:
                raise SinkUnavailable(f"results file {self._path} is closed")  # noqa: EM102
            self._read_until = time.monotonic() + _READ_S
            return fold(iter(self._reader.execute(sql, parameters)))

    def fields(self, measurement: str) -> list[str]:
        """Field names of a measurement in order of appearance; [] for an unknown measurement."""
        rows = self.select("SELECT name FROM pragma_table_info(?)", (f"points_{measurement}",))
        return [row[0] for row in rows[2:]]

    def size_bytes(self) -> int:
        """Bytes in use in the file, without the write-ahead log and free pages."""
        with self._read_lock, self._translated():
            return 0 if self._reader is None else _used_bytes(self._reader)

    def wal_bytes(self) -> int:
        """Size of the write-ahead file at the last write."""
        return 0 if (guard := self._guard) is None else guard.wal_bytes

    def close(self) -> None:
        """Close both connections; idempotent."""
        with self._write_lock, self._read_lock:
            for each in (self._reader, self._writer, self._guard):
                if each is not None:
                    each.close()
            self._reader = self._writer = self._guard = None

    # opening

    def _open(self, *, read_only: bool) -> None:
        if not read_only:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            check_results(self._path, lambda: _connect(self._path, read_only=True))
            self._writer = _connect(self._path)
            self._prepare(self._writer)
            self._guard = ResultsGuard(self._path, self._writer, self._max_bytes)
        self._reader = _connect(self._path, read_only=True)
        self._reader.set_progress_handler(
            lambda: time.monotonic() > self._read_until, _STEPS_BETWEEN_LOOKS
        )
        if read_only:
            self._check(self._reader)

    def _prepare(self, db: sqlite3.Connection) -> None:
        if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        self._check(db)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        # As much as a busy minute fills, so that memory is flat soon; 2 MB save no time.
        db.execute("PRAGMA cache_size = -512")
        db.execute("PRAGMA journal_size_limit = 16000000")
        db.execute("PRAGMA secure_delete = OFF")  # Debian's default zeroes and writes free pages
        db.executescript(_SCHEMA)
        self._continue_running_time(db)

    def _continue_running_time(self, db: sqlite3.Connection) -> None:
        """Continue the ages of the series; those of a file of an older version start now."""
        if "run_ms" not in [row[1] for row in db.execute("PRAGMA table_info(_series)")]:
            db.execute("ALTER TABLE _series ADD COLUMN run_ms INTEGER")
        (last_ms,) = db.execute("SELECT max(run_ms) FROM _series").fetchone()
        self._running = RunningTime(last_ms, self._now_ms(), self._steady_ms)
        run_ms = self._running.now_ms()
        db.execute("UPDATE _series SET run_ms = ? WHERE run_ms IS NULL", (run_ms,))

    def _check(self, db: sqlite3.Connection) -> None:
        if db.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
            raise ResultsCorrupted(self._path, "it is a SQLite file, but not a results file")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version != _SCHEMA_VERSION:
            detail = (
                f"its format is {version}, and this version of kpstream reads {_SCHEMA_VERSION}"
            )
            raise ResultsCorrupted(self._path, detail)
        if self._path.stat().st_size <= _CHECK_LIMIT_BYTES:
            answer = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if answer != "ok":
                raise ResultsCorrupted(self._path, answer)
        check_tables(self._path, db)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as exc:
            text = f"{exc}; check free disk space and permissions"
            if "interrupted" in str(exc):
                text = f"the query took over {_READ_S:.0f} s: ask for less"
            raise SinkUnavailable(f"results file {self._path}: {text}") from exc  # noqa: EM102
        except sqlite3.DatabaseError as exc:
            raise ResultsCorrupted(self._path, str(exc)) from exc
        except OSError as exc:
            raise SinkUnavailable(f"results file {self._path}: {exc}") from exc  # noqa: EM102

    # retention

    def _retain(self, db: sqlite3.Connection) -> int:
        db.execute("BEGIN IMMEDIATE")
        try:
            deleted = self._delete_excess(db)
            db.execute("COMMIT")
        except BaseException:
            db.rollback()
            raise
        if deleted:
            self._rows.forget()
            db.execute("PRAGMA incremental_vacuum").fetchall()
        return deleted

    def _delete_excess(self, db: sqlite3.Connection) -> int:
        deleted = self._delete_older(db, lambda oldest, newest: newest - self._max_age_ms * 10**6)
        gone = self._running.now_ms() - self._max_age_ms
        for series, measurement in db.execute(
            "SELECT id, measurement FROM _series WHERE run_ms < ?", (gone,)
        ).fetchall():
            deleted += _delete(db, measurement, series, None)
        wal_bytes = 0 if self._guard is None else self._guard.wal_bytes
        for _ in range(20):  # each round deletes a share of every series; a few rounds suffice
            used = _used_bytes(db) + wal_bytes
            if used <= self._max_bytes:
                break
            share = max(0.05, 1 - 0.9 * self._max_bytes / used)
            deleted += self._delete_older(
                db,
                lambda oldest, newest, share=share: oldest + math.ceil((newest - oldest) * share),  # type: ignore[misc]
            )
        if deleted:
            for measurement in _measurements(db):
                db.execute(
                    "DELETE FROM _series WHERE measurement = ? AND NOT EXISTS (SELECT 1 FROM "  # noqa: S608
                    f"{quoted('points_' + measurement)} p WHERE p.series = _series.id)",
                    (measurement,),
                )
        return deleted

    def _delete_older(self, db: sqlite3.Connection, bound: Callable[[int, int], int]) -> int:
        deleted = 0
        for series, measurement, newest in db.execute(
            # Only series that are still written: one that has ended would keep the others for ever.
            "SELECT id, measurement, min(last_time_ns, ifnull(min(last_time_ns) FILTER "
            "(WHERE run_ms >= :since) OVER (PARTITION BY measurement, site, device, stream, "
            "model), last_time_ns)) FROM _series",
            {"since": self._running.now_ms() - _STILL_WRITTEN_MS},
        ).fetchall():
            table = quoted("points_" + measurement)
            (oldest,) = db.execute(
                f"SELECT min(time_ns) FROM {table} WHERE series = ?",  # noqa: S608 quoted
                (series,),
            ).fetchone()
            if oldest is not None and oldest < (before := bound(oldest, newest)):
                deleted += _delete(db, measurement, series, before)
        return deleted


def _connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    check_database(path)
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}",
        uri=True,
        timeout=5.0,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        db.execute("PRAGMA cache_size = -1024")
    except BaseException:
        db.close()
        raise
    return db


def _delete(db: sqlite3.Connection, measurement: str, series: int, before_ns: int | None) -> int:
    table = quoted("points_" + measurement)
    if before_ns is None:
        before_ns = 2**63 - 1
    return db.execute(
        f"DELETE FROM {table} WHERE series = ? AND time_ns < ?",  # noqa: S608 quoted
        (series, before_ns),
    ).rowcount


def _measurements(db: sqlite3.Connection) -> list[str]:
    rows = db.execute("SELECT DISTINCT measurement FROM _series").fetchall()
    return [row[0] for row in rows]


def _used_bytes(db: sqlite3.Connection) -> int:
    pages, free, size = (
        db.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)
