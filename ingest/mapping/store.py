"""The memory of joined mappings on disk: the values that wait, a row for each stream of a device.

If the file is lost or damaged (`ingest.decoderfile`), the values that were waiting are lost with
it; the next values of each device begin anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ingest.decoderfile import DecoderFile, Layout, sealed
from ingest.topics import Address

__all__ = ["JoinCheckpoint", "JoinKey", "JoinStore"]

JoinKey = tuple[str, Address]
"""Name of the mapping, and the stream of a device."""

_LAYOUT = Layout(
    version=1,
    tables="""
CREATE TABLE IF NOT EXISTS joins (
    mapping TEXT, site TEXT, device TEXT, stream TEXT, state BLOB NOT NULL,
    PRIMARY KEY (mapping, site, device, stream)) WITHOUT ROWID;
""",
    columns=("mapping, site, device, stream, state FROM joins",),
    first="joins",
    setting="its folder is that of the state of the process",
    without="values that were waiting for the rest of their reading are lost",
)


@dataclass(slots=True)
class JoinCheckpoint:
    """Changes since the last checkpoint.

    Attributes:
        rows: State by key.
        gone: Keys to delete; before the rest.
    """

    rows: dict[JoinKey, bytes] = field(default_factory=dict)
    gone: list[JoinKey] = field(default_factory=list)


class JoinStore(DecoderFile):
    """The file of the joined mappings of one process."""

    def __init__(self, path: Path) -> None:
        """Open or create the file; a damaged one is renamed to `<name>.damaged`.

        Raises:
            StoreUnusable: Another process has the file open, a newer version wrote it, or it cannot
                be written.
        """
        super().__init__(path, _LAYOUT)

    def rows(self) -> Iterator[tuple[JoinKey, bytes]]:
        """Yield key and state of every row."""
        for *where, row in self._db.execute(f"SELECT {_LAYOUT.columns[0]}"):
            state = self.checked(row, *where)
            if state is not None:
                mapping, site, device, stream = where
                yield (mapping, Address(site, device, stream)), state

    def write(self, checkpoint: JoinCheckpoint) -> None:
        """Write a checkpoint, all or nothing; it survives the end of the process.

        Raises:
            LogUnavailable: The file cannot be written.
        """
        rows = [((name, *address), state) for (name, address), state in checkpoint.rows.items()]

        def change(db: sqlite3.Connection) -> None:
            delete = (
                "DELETE FROM joins WHERE mapping = ? AND site = ? AND device = ? AND stream = ?"
            )
            db.executemany(delete, [(name, *address) for name, address in checkpoint.gone])
            insert = "INSERT OR REPLACE INTO joins VALUES (?, ?, ?, ?, ?)"
            db.executemany(insert, [(*where, sealed(where, state)) for where, state in rows])

        self.commit(change)
