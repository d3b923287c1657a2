"""The memory of the Sparkplug decoder on disk: births, sequence numbers, values, last digests.

If the file is lost or damaged (`ingest.decoderfile`), the decoder asks the nodes for new births:
with values of an earlier moment it would compute wrong rows, and the sequence numbers prove that
only in 255 of 256 cases.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingest.decoderfile import DecoderFile, Layout, sealed
from ingest.errors import LogUnavailable

__all__ = ["Checkpoint", "SparkplugStore"]

_LAYOUT = Layout(
    version=1,
    tables="""
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
""",
    columns=(
        "grp, node, state FROM nodes",
        "grp, node, device, metrics FROM births",
        "grp, node, device, state FROM live",
        "id, digest FROM seen",
        "one, digest FROM mapping",
    ),
    first="nodes",
    setting="KPSTREAM_INGEST_SPARKPLUG_STATE",
    without="asking every node for a new birth",
)


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


class SparkplugStore(DecoderFile):
    """The file of one Sparkplug decoder.

    Attributes:
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
        super().__init__(path, _LAYOUT)
        self.remembered = remembered

    def nodes(self) -> Iterator[tuple[str, str, bytes]]:
        """Yield group, node and state of every node."""
        for group, node, row in self._db.execute("SELECT grp, node, state FROM nodes"):
            state = self.checked(row, group, node)
            if state is not None:
                yield group, node, state

    def devices(self) -> Iterator[tuple[str, str, str, bytes, bytes | None]]:
        """Yield group, node, device, birth and present state of every device that had a birth."""
        rows = self._db.execute(
            "SELECT grp, node, device, metrics, state FROM births LEFT JOIN live"
            " USING (grp, node, device)"
        )
        for *where, birth_row, live_row in rows:
            birth, live = (self.checked(row, *where) for row in (birth_row, live_row))
            if birth is not None:
                yield where[0], where[1], where[2], birth, live

    def seen(self) -> list[bytes]:
        """Return the digests of the last messages, oldest first."""
        rows = self._db.execute("SELECT digest FROM seen ORDER BY id")
        return [digest for (digest,) in rows if isinstance(digest, bytes)]

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

        def change(db: sqlite3.Connection) -> None:
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
                db.executemany(insert, [(*key, sealed(key, state)) for *key, state in rows])
            if checkpoint.seen:
                digests = [(digest,) for digest in checkpoint.seen]
                db.executemany("INSERT INTO seen (digest) VALUES (?)", digests)
                db.execute(
                    "DELETE FROM seen WHERE id <= (SELECT max(id) FROM seen) - ?",
                    (self.remembered,),
                )

        self.commit(change)
