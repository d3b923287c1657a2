"""The memory of a decoder on disk: one SQLite file, written once per load of messages.

The bridge keeps a checkpoint of the memory after the log has confirmed the load, and before it
acknowledges the messages (`ingest.decoder`). A killed process loses nothing of it. Every commit is
counted in the file and noted in the mark beside it (`ingest.durable.mark`). A file that is damaged,
or lacks commits that the mark has, is renamed and replaced: with the memory of an earlier moment a
decoder would compute wrong readings and could not know it. A power failure that takes the last
commits is such a case, too.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ingest.durable.mark import Mark, MarkFile, boot_id, mark_path, read_mark
from ingest.errors import IngestError, LogUnavailable
from ingest.statefile import check_database

__all__ = ["DecoderFile", "Layout", "StoreUnusable", "sealed"]

log = logging.getLogger(__name__)

_COMMITS_TABLE = """
CREATE TABLE IF NOT EXISTS commits (
    one INTEGER PRIMARY KEY CHECK (one = 1), identity TEXT NOT NULL, count INTEGER NOT NULL);
"""
_COMMITS = "commits"


class _OlderCopy(sqlite3.DatabaseError):
    """The file is sound, but lacks commits, or is another one."""


class StoreUnusable(IngestError):
    """The file is unusable: another process has it open, or its folder is not writable."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a file of one decoder holds.

    Attributes:
        version: Version of the tables.
        tables: Statements that create the tables, each with IF NOT EXISTS.
        columns: `<columns> FROM <table>` of every table; a file without them is damaged.
        first: Table that has a row as soon as the memory holds anything.
        setting: Setting that places the file, for messages.
        without: What the decoder does without the file, for messages.
    """

    version: int
    tables: str
    columns: Sequence[str]
    first: str
    setting: str
    without: str


class DecoderFile:
    """The file, open in one process and used by one thread at a time.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        """Open or create the file; a damaged one is renamed to `<name>.damaged`.

        Args:
            path: The file; its folder is created.
            layout: What it holds.

        Raises:
            StoreUnusable: Another process has the file open, a newer version wrote it, or it cannot
                be written.
        """
        self.path = path
        self._layout = layout
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._db = _open(path, layout)
                self._check_mark()
            except (sqlite3.DatabaseError, UnicodeDecodeError) as exc:
                if not _is_damage(exc):
                    raise
                log.error("%s is damaged (%s): renamed it, %s", path, exc, layout.without)
                _rename_damaged(path)
                self._db = _open(path, layout)
            self._commits, self._mark = self._begin_mark()
        except (sqlite3.Error, OSError) as exc:
            in_use = "locked" in str(exc)
            advice = "give each bridge its own file" if in_use else "check the folder and the disk"
            msg = f"cannot use {path} ({exc}): {advice} ({layout.setting})"
            raise StoreUnusable(msg) from exc

    def close(self) -> None:
        """Close the file."""
        self._db.close()
        self._mark.close()

    def _check_mark(self) -> None:
        """Compare the file with its mark; a file that is gone is told.

        Raises:
            _OlderCopy: The file lacks commits that were made, or is not the one of the mark.
        """
        mark = read_mark(mark_path(self.path))
        if mark is None or not (made := mark.ends.get(_COMMITS, (0,))[0]):
            return
        row = self._db.execute("SELECT identity, count FROM commits").fetchone()
        finding = None
        if row is None and self._is_empty():
            log.error("%s is gone: %s", self.path, self._layout.without)
        elif row is None or row[0] != mark.identity:
            finding = "it is not the file that was here before"
        elif row[1] < made:
            finding = f"it has {row[1]} of {made} commits, so it is an older copy or was cut"
        if finding is not None:
            self._db.close()
            raise _OlderCopy(finding)

    def _is_empty(self) -> bool:
        count = f"SELECT count(*) FROM {self._layout.first}"  # noqa: S608  (ours)
        return bool(self._db.execute(count).fetchone() == (0,))

    def _begin_mark(self) -> tuple[int, MarkFile]:
        new = (secrets.token_hex(8), 0)
        self._db.execute("INSERT OR IGNORE INTO commits VALUES (1, ?, ?)", new)
        identity, count = self._db.execute("SELECT identity, count FROM commits").fetchone()
        mark = MarkFile(mark_path(self.path), Mark(identity, boot_id(), syncs_commits=False))
        mark.write({_COMMITS: [count]})
        return count, mark

    def checked(self, row: object, *where: object) -> bytes | None:
        """Return the state in a row; None (and a warning) if its checksum does not fit."""
        if row is None:
            return None
        if isinstance(row, bytes) and row == sealed(where, row[4:]):
            return row[4:]
        log.warning("%s: the row of %s is damaged and ignored", self.path, where)
        return None

    def commit(self, change: Callable[[sqlite3.Connection], None]) -> None:
        """Make a change, all or nothing; it survives the end of the process.

        Raises:
            LogUnavailable: The file cannot be written.
        """
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            try:
                change(db)
                db.execute("UPDATE commits SET count = ?", (self._commits + 1,))
                db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise
        except sqlite3.Error as exc:
            msg = f"{self.path}: {exc}"
            raise LogUnavailable(msg) from exc
        self._commits += 1
        self._mark.write({_COMMITS: [self._commits]})


def sealed(where: Sequence[object], state: bytes) -> bytes:
    """Return a state preceded by a checksum over the state and its key."""
    return zlib.crc32(state, zlib.crc32(repr(tuple(where)).encode())).to_bytes(4, "big") + state


def _open(path: Path, layout: Layout) -> sqlite3.Connection:
    check_database(path)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
    db.text_factory = lambda raw: raw.decode("utf-8", "replace")  # a damaged name matches no row
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")  # fails for a second bridge on the file
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version not in (0, layout.version):
            msg = f"format {version}, this version reads {layout.version}: upgrade kpstream"
            raise sqlite3.OperationalError(msg)
        tables = f"{layout.tables} {_COMMITS_TABLE} PRAGMA user_version = {layout.version};"
        db.executescript(f"BEGIN IMMEDIATE; {tables} COMMIT;")
        for columns in (*layout.columns, "one, identity, count FROM commits"):
            db.execute(f"SELECT {columns} LIMIT 0")
        (finding,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if finding != "ok":
            msg = f"malformed: {finding}"
            raise sqlite3.DatabaseError(msg)
    except BaseException:
        db.close()
        raise
    return db


def _is_damage(exc: Exception) -> bool:
    signs = ("malformed", "not a database", "no such")
    return isinstance(exc, UnicodeDecodeError | _OlderCopy) or any(
        sign in str(exc) for sign in signs
    )


def _rename_damaged(path: Path) -> None:
    for end in ("", "-wal", ".mark"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + end).replace(path.with_name(f"{path.name}.damaged{end}"))
