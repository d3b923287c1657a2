"""Look into a log beside the process that has it open: read-only, no lock, no cache.

For commands that show what is in the log (`kpstream dead-letters list`). SQLite in WAL mode gives a
reader a consistent view of what was committed when it began.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from pipeline.errors import LogError
from pipeline.logfile import connect

__all__ = ["peek_values"]


def peek_values(path: Path, topic: str) -> Iterator[bytes]:
    """The values of all records of a topic, partition by partition, in order of their offsets.

    Tombstones are left out; a topic that does not exist has none.

    Raises:
        LogError: There is no log at `path`, or it cannot be read.
    """
    if not path.is_file():
        msg = f"no log at {path}: no gateway has run with this state folder"
        raise LogError(msg)
    with closing(connect(path, durability="full", read_only=True)) as db:
        try:
            rows = db.execute(
                "SELECT r.value FROM slots s JOIN records r"
                " ON r.id >= (s.slot << 40) AND r.id < ((s.slot + 1) << 40)"
                " WHERE s.topic = ? AND r.value IS NOT NULL ORDER BY r.id",
                (topic,),
            )
            for (value,) in rows:
                yield bytes(value)
        except db.DatabaseError as exc:
            msg = f"{path} cannot be read: {exc}. `kpstream doctor` says more"
            raise LogError(msg) from exc
