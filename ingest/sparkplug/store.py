"""The memory of the Sparkplug decoder on disk: births, sequence numbers, values, last digests.

One SQLite file, written once per load of messages, after the log has confirmed the load. A killed
process loses nothing of it. Every commit is counted in the file and noted in the mark beside it
(`ingest.durable.mark`). A file that is damaged, or lacks commits that the mark has, is renamed and
replaced, and the decoder asks the nodes for new births: with values of an earlier moment it would
compute wrong rows, and the sequence numbers prove that only in 255 of 256 cases. A power failure
that takes the last commits is such a case, too.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingest.durable.mark import Mark, MarkFile, boot_id, mark_path, read_mark
from ingest.errors import IngestError, LogUnavailable
from ingest.statefile import check_database

__all__ = ["Checkpoint", "SparkplugStore", "StoreUnusable"]

log = logging.getLogger(__name__)

_FORMAT = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS nodes (
    grp TEXT, node TEXT, state BLOB NOT NULL, PRIMARY KEY (grp, node)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS births (
    grp TEXT, node TEXT, device TEXT, metrics BLOB NOT NULL, PRIMARY KEY (grp, node, device))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS live (
    grp TEXT, node TEXT, device TEXT, state BLOB NOT NULL, PRIMARY KEY (grp, node, device))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (id INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS mapping (one INTEGER PRIMARY KEY CHECK (one = 1), digest TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS commits (
    one INTEGER PRIMARY KEY CHECK (one = 1), identity TEXT NOT NULL, count INTEGER NOT NULL);
"""
_COMMITS = "commits"
_COLUMNS = (
    "grp, node, state FROM nodes",
    "grp, node, device, metrics FROM births",
    "grp, node, device, state FROM live",
    "id, digest FROM seen",
    "one, digest FROM mapping",
    "one, identity, count FROM commits",
)


class _OlderCopy(sqlite3.DatabaseError):
    """The file is sound, but lacks commits, or is another one."""


class StoreUnusable(IngestError):
    """The file is unusable: another process has it open, or its folder is not writable."""


@dataclass(slots=True)
class Checkpoint:
    """Changes since the last checkpoint, as rows. The device "" is the node itself.

    Attributes:
        nodes: Group, node, state.
        births: Group, node, device, metrics.
        live: Group, node, device, state (online or not, and values).
        seen: Digests of messages.
        gone_nodes: Group and node of nodes to delete, with all their devices; before the rest.
        gone_devices: Group, node, device of devices to delete.
    """

    nodes: list[tuple[Any, ...]] = field(default_factory=list)
    births: list[tuple[Any, ...]] = field(default_factory=list)
    live: list[tuple[Any, ...]] = field(default_factory=list)
    seen: list[bytes] = field(default_factory=list)
    gone_nodes: list[tuple[str, str]] = field(default_factory=list)
    gone_devices: list[tuple[str, str, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        gone = self.gone_nodes or self.gone_devices
        return bool(self.nodes or self.births or self.live or self.seen or gone)


class SparkplugStore:
    """The file, open in one process and used by one thread at a time.

    Attributes:
        path: The file.
        remembered: Digests to keep.
    """

    def __init__(self, path: Path, *, remembered: int = 8192) -> None:
        """Open or create the file; a damaged one is renamed to `<name>.damaged`.

        Args:
            path: The file; its folder is created.
            remembered: Digests to keep: at least as many as the broker may have unacknowledged
                messages on the way to us.

        Raises:
            StoreUnusable: Another process has the file open, a newer version wrote it, or it cannot
                be written.
        """
        self.path = path
        self.remembered = remembered
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._db = _open(path)
                self._check_mark()
            except (sqlite3.DatabaseError, UnicodeDecodeError) as exc:
                if not _is_damage(exc):
                    raise
                log.error(
                    "%s is damaged (%s): renamed it, asking every node for a new birth", path, exc
                )
                _rename_damaged(path)
                self._db = _open(path)
            self._commits, self._mark = self._begin_mark()
        except (sqlite3.Error, OSError) as exc:
            in_use = "locked" in str(exc)
            advice = "give each bridge its own file" if in_use else "check the folder and the disk"
            msg = f"cannot use {path} ({exc}): {advice} (KPSTREAM_INGEST_SPARKPLUG_STATE)"
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
        if row is None and self._db.execute("SELECT count(*) FROM nodes").fetchone() == (0,):
            log.error("%s is gone: asking every node for a new birth", self.path)
        elif row is None or row[0] != mark.identity:
            finding = "it is not the file that was here before"
        elif row[1] < made:
            finding = f"it has {row[1]} of {made} commits, so it is an older copy or was cut"
        if finding is not None:
            self._db.close()
            raise _OlderCopy(finding)

    def _begin_mark(self) -> tuple[int, MarkFile]:
        new = (secrets.token_hex(8), 0)
        self._db.execute("INSERT OR IGNORE INTO commits VALUES (1, ?, ?)", new)
        identity, count = self._db.execute("SELECT identity, count FROM commits").fetchone()
        mark = MarkFile(mark_path(self.path), Mark(identity, boot_id(), syncs_commits=False))
        mark.write({_COMMITS: [count]})
        return count, mark

    def nodes(self) -> Iterator[tuple[str, str, bytes]]:
        """Yield group, node and state of every node."""
        for group, node, row in self._db.execute("SELECT grp, node, state FROM nodes"):
            state = self._checked(row, group, node)
            if state is not None:
                yield group, node, state

    def devices(self) -> Iterator[tuple[str, str, str, bytes, bytes | None]]:
        """Yield group, node, device, birth and present state of every device that had a birth."""
        rows = self._db.execute(
            "SELECT grp, node, device, metrics, state FROM births LEFT JOIN live"
            " USING (grp, node, device)"
        )
        for *where, birth_row, live_row in rows:
            birth, live = (self._checked(row, *where) for row in (birth_row, live_row))
            if birth is not None:
                yield where[0], where[1], where[2], birth, live

    def seen(self) -> list[bytes]:
        """Return the digests of the last messages, oldest first."""
        rows = self._db.execute("SELECT digest FROM seen ORDER BY id")
        return [digest for (digest,) in rows if isinstance(digest, bytes)]

    def _checked(self, row: object, *where: object) -> bytes | None:
        """Return the state in a row; None (and a warning) if its checksum does not fit."""
        if row is None:
            return None
        if isinstance(row, bytes) and row == _sealed(where, row[4:]):
            return row[4:]
        log.warning("%s: the row of %s is damaged and ignored", self.path, where)
        return None

    def is_of_mapping(self, digest: str) -> bool:
        """Whether the values were stored under this mapping; stores its digest for the next time.

        Raises:
            LogUnavailable: The file cannot be written.
        """
        try:
            found = self._db.execute("SELECT digest FROM mapping").fetchone()
            self._db.execute("INSERT OR REPLACE INTO mapping VALUES (1, ?)", (digest,))
        except sqlite3.Error as exc:
            msg = f"{self.path}: {exc}"
            raise LogUnavailable(msg) from exc
        return found is None or found[0] == digest

    def write(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, all or nothing; it survives the end of the process.

        Raises:
            LogUnavailable: The file cannot be written.
        """
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            try:
                for table in ("nodes", "births", "live"):
                    delete = f"DELETE FROM {table} WHERE grp = ? AND node = ?"  # noqa: S608  (ours)
                    db.executemany(delete, checkpoint.gone_nodes)
                    if table != "nodes":
                        db.executemany(f"{delete} AND device = ?", checkpoint.gone_devices)
                for insert, rows in (
                    ("INSERT OR REPLACE INTO nodes VALUES (?, ?, ?)", checkpoint.nodes),
                    ("INSERT OR REPLACE INTO births VALUES (?, ?, ?, ?)", checkpoint.births),
                    ("INSERT OR REPLACE INTO live VALUES (?, ?, ?, ?)", checkpoint.live),
                ):
                    sealed = [(*where, _sealed(where, state)) for *where, state in rows]
                    db.executemany(insert, sealed)
                if checkpoint.seen:
                    digests = [(digest,) for digest in checkpoint.seen]
                    db.executemany("INSERT INTO seen (digest) VALUES (?)", digests)
                    db.execute(
                        "DELETE FROM seen WHERE id <= (SELECT max(id) FROM seen) - ?",
                        (self.remembered,),
                    )
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


def _sealed(where: Sequence[object], state: bytes) -> bytes:
    """Return a state preceded by a checksum over the state and its key."""
    return zlib.crc32(state, zlib.crc32(repr(tuple(where)).encode())).to_bytes(4, "big") + state


def _open(path: Path) -> sqlite3.Connection:
    check_database(path)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
    db.text_factory = lambda raw: raw.decode("utf-8", "replace")  # a damaged name matches no row
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")  # fails for a second bridge on the file
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version not in (0, _FORMAT):
            msg = f"format {version}, this version reads {_FORMAT}: upgrade kpstream"
            raise sqlite3.OperationalError(msg)
        db.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {_FORMAT}; COMMIT;")
        for columns in _COLUMNS:
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
