"""Before InfluxDB starts: cut the incomplete entry that a killed one left in its write-ahead log.

A write takes several system calls, so a kill may leave the last entry of a segment incomplete. It
was never confirmed, and influxd (2.7.12) discards it at its start. But before that, influxd has
opened the segment for appending, at its former end. What it confirms from then on stands behind a
hole of zeros, and the start after another kill discards it: confirmed points are gone. A segment
that ends with a whole entry gets no hole. `findings/influxdb-loses-writes-after-a-torn-wal.sh`
shows it.

    python -m deploy.stack.influxwal ENGINE-FOLDER    # before influxd starts, never beside it
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

__all__ = ["cut_torn_entries"]

log = logging.getLogger(__name__)

_HEADER = 5
"""One byte for the type of an entry, four for the length of what follows, big-endian."""
_TYPES = {1, 2, 3}
"""Types of entries: write, delete, delete a range."""


def cut_torn_entries(engine: Path) -> list[Path]:
    """Cut incomplete last entries off the newest segment of every shard.

    Args:
        engine: InfluxDB's engine path; influxd does not run on it.

    Returns:
        The files that were cut.

    Raises:
        OSError: A file cannot be read or cut.
    """
    newest: dict[Path, Path] = {}
    for path in sorted((engine / "wal").rglob("_*.wal")):
        newest[path.parent] = path
    cut = []
    for path in newest.values():
        size, whole = path.stat().st_size, _whole_bytes(path)
        if whole < size:
            log.warning("%s: cut the last %d bytes, an incomplete entry", path, size - whole)
            os.truncate(path, whole)
            cut.append(path)
    return cut


def _whole_bytes(path: Path) -> int:
    """Bytes up to the end of the last entry that is whole; all of a file of another form."""
    size, at = path.stat().st_size, 0
    with path.open("rb") as file:
        while len(header := file.read(_HEADER)) == _HEADER:
            if header[0] not in _TYPES:
                return size
            end = at + _HEADER + int.from_bytes(header[1:], "big")
            if end > size:
                break
            file.seek(end)
            at = end
    return at


if __name__ == "__main__":
    cut_torn_entries(Path(sys.argv[1]))
