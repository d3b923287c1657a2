"""Deletion of chosen records of a topic that nobody reads, such as dead letters."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.log.commands import Call, delete_records
from pipeline.log.locallog import SqliteLog
from pipeline.log.state import Partition, record_id, stored_size

__all__ = ["purge"]


def purge(path: Path, topic: str, is_chosen: Callable[[bytes], bool]) -> int:
    """Delete records of a topic for good; returns how many.

    Args:
        path: The log.
        topic: A topic without a reader.
        is_chosen: Whether a record with this value is deleted.

    Raises:
        LogLocked: A gateway uses the log.
        LogError: The log cannot be opened or written.
    """
    # Nothing else is deleted meanwhile: the limits of the gateway are not known here.
    with SqliteLog(path, max_bytes=1 << 50, maintenance_ms=1 << 40) as log:
        found = log._state.topics.get(topic)  # noqa: SLF001  (the state is part of this package)
        calls = [_call(log, part, is_chosen) for part in (found.partitions if found else ())]
        for call in calls:
            log._writer.submit(call)  # noqa: SLF001
        return sum(len(call.future.result()[0]) for call in calls)


def _call(log: SqliteLog, part: Partition, is_chosen: Callable[[bytes], bool]) -> Call:
    state = log._state  # noqa: SLF001

    def delete(db: sqlite3.Connection) -> tuple[list[tuple[int]], int, tuple[int, int, int]]:
        gone: list[tuple[int]] = []
        size = 0
        for row_id, key, headers, value in db.execute(
            "SELECT id, key, headers, value FROM records WHERE id >= ? AND id < ?",
            (record_id(part.slot, 0), record_id(part.slot + 1, 0)),
        ):
            if is_chosen(value or b""):
                gone.append((row_id,))
                size += stored_size(key, headers, value)
        return gone, size, delete_records(db, part, gone, size)

    def adopt(result: Any) -> None:
        _, size, (first, records, left) = result
        with state.lock:
            state.total_bytes -= size
            part.earliest, part.records, part.size_bytes = first, records, left

    return Call(delete, adopt)
