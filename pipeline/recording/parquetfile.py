"""One Parquet file of rows. The only file of the pipeline that imports pyarrow."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ingest.secrettext import error_text
from pipeline.errors import RecordingUnavailable
from pipeline.recording.rows import PartRows

__all__ = ["COLUMNS", "column_of", "write_part"]

COLUMNS = ("ts_ms", "recv_ms", "site", "device")
"""Columns of every file, before those of the channels."""


def column_of(channel: str) -> str:
    """Return the column of a channel; no channel has a colon in its name.

    >>> column_of("T24"), column_of("device")
    ('T24', ':device')
    """
    return f":{channel}" if channel in COLUMNS else channel


def write_part(path: Path, rows: PartRows) -> int:
    """Write a new file; it is on disk when this returns.

    Returns:
        Its size in bytes.

    Raises:
        RecordingUnavailable: It cannot be written (disk, permissions).
    """
    columns = [
        pa.array(rows.ts_ms),
        pa.array(rows.recv_ms),
        pa.array(rows.site, pa.string()),
        pa.array(rows.device, pa.string()),
        *map(pa.array, rows.values),
    ]
    names = [*COLUMNS, *map(column_of, rows.key.channels)]
    try:
        with path.open("xb") as file:
            pq.write_table(pa.table(columns, names=names), file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
            return file.tell()
    except (OSError, pa.ArrowException) as exc:
        message = f"cannot write {path}: {error_text(exc)}"
        raise RecordingUnavailable(message) from exc
