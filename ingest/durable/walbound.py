"""A bound on the write-ahead file, which SQLite lets grow for as long as some program reads.

SQLite starts a write-ahead file anew only when no reader needs it, and never makes it smaller by
itself. Beside a program that reads for hours (a shell with an open query, a backup), every write
therefore makes it larger, far beyond the cap of the data in it.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

from ingest.durable.wal import wal_path

__all__ = ["WalBound"]

log = logging.getLogger(__name__)

_LARGE_BYTES = 32_000_000
"""Size from which the file is made small again whenever no reader needs it."""
_LEAST_LIMIT_BYTES = 64_000_000
_SHARE = 8
_RETRY_S = 1.0


class WalBound:
    """Keeps the write-ahead file of one database small; used by its writing thread only.

    Args:
        db: The write connection, outside of a transaction at every call.
        path: The database.
        max_bytes: Its cap; the write-ahead file may have an eighth of it, at least 64 MB.

    Attributes:
        size_bytes: Size at the last call of `shrink`.
    """

    def __init__(self, db: sqlite3.Connection, path: Path, max_bytes: int) -> None:
        self.limit_bytes = max(_LEAST_LIMIT_BYTES, max_bytes // _SHARE)
        self.size_bytes = 0
        self._db = db
        self._path = path
        self._wal = str(wal_path(path))  # as text: its size is asked for at every commit
        self._retry_at = 0.0
        self._has_warned = False

    @property
    def is_full(self) -> bool:
        """Whether the file is at its limit: no more writes until `shrink` succeeds."""
        return self.size_bytes >= self.limit_bytes

    def shrink(self) -> None:
        """Copy a large file into the database and empty it, unless a reader needs it."""
        self.size_bytes = self._size()
        if self.size_bytes < min(_LARGE_BYTES, self.limit_bytes // 2):
            self._has_warned = False
            return
        if time.monotonic() < self._retry_at:
            return
        with suppress(sqlite3.OperationalError):  # locked: as for a reader
            (wait_ms,) = self._db.execute("PRAGMA busy_timeout").fetchone()
            self._db.execute("PRAGMA busy_timeout = 0")
            try:
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                self._db.execute(f"PRAGMA busy_timeout = {wait_ms}")
        self.size_bytes = self._size()
        self._retry_at = time.monotonic() + _RETRY_S
        if self.size_bytes >= self.limit_bytes // 2 and not self._has_warned:
            self._has_warned = True
            log.warning("%s", self.reason)

    @property
    def reason(self) -> str:
        """Why the file is large, and what to do."""
        return (
            f"the write-ahead file of {self._path} has {self.size_bytes // 1_000_000} MB (at "
            f"{self.limit_bytes // 1_000_000} MB nothing more is written), because another program "
            "has been reading the file for long: end it (sqlite3, a backup)"
        )

    def _size(self) -> int:
        try:
            return os.stat(self._wal).st_size  # noqa: PTH116
        except OSError:
            return 0
