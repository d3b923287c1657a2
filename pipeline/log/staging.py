"""Changes of one transaction to the log, before they are durable."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pipeline.log.commands import Commit
from pipeline.log.state import (
    LogState,
    Partition,
    RecordRow,
    StoredRecord,
    checksum,
    encode_headers,
    record_id,
    stored_size,
)
from pipeline.log.tables import offset_crc, slot_crc

__all__ = ["Staged", "adopt_keys", "earliest_of", "stage_record", "write_offsets", "write_slots"]


@dataclass(slots=True)
class Staged:
    """Changes of a transaction to one partition, applied to the state once they are durable."""

    part: Partition
    next_offset: int
    records: int
    size_bytes: int
    stored_ms: int
    fresh: list[StoredRecord] = field(default_factory=list)
    newest: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    tombstones: dict[bytes, int | None] = field(default_factory=dict)
    earliest: int = 0


def stage_record(
    record: Any,
    stage: Staged,
    rows: list[RecordRow],
    superseded: list[tuple[int]],
    now: int,
) -> int:
    """Add a record to the changes of its partition; returns its offset.

    Args:
        record: A record as in `pipeline.log.commands.Append`.
        stage: The changes of its partition.
        rows: Gets the row to insert.
        superseded: Gets the id of the record that this one replaces in a compacted topic.
        now: Time of a record without a time of its own, epoch milliseconds.
    """
    part = stage.part
    offset = stage.next_offset
    stage.next_offset += 1
    ts_ms = now if record.ts_ms is None else record.ts_ms
    key, value, headers = record.key, record.value, encode_headers(record.headers)
    crc = checksum(part.slot, offset, ts_ms, key, headers, value)
    row_id = record_id(part.slot, offset)
    rows.append((row_id, crc, ts_ms, stage.stored_ms, key, headers, value))
    size = stored_size(key, headers, value)
    stage.size_bytes += size
    stage.records += 1
    if part.compacted:
        older = stage.newest.pop(key, None) or part.newest.get(key)
        if older is not None:
            superseded.append((record_id(part.slot, older[0]),))
            stage.size_bytes -= older[1]
            stage.records -= 1
        stage.newest[key] = (offset, size)
        stage.tombstones[key] = stage.stored_ms if value is None else None
    stage.fresh.append(
        StoredRecord(part.topic, part.partition, offset, ts_ms, key, value, tuple(record.headers))
    )
    return offset


def earliest_of(stage: Staged) -> int:
    """First offset of the partition after the transaction."""
    part = stage.part
    if not part.compacted:
        return part.earliest
    kept = (at[0] for key, at in part.newest.items() if key not in stage.newest)
    return min(next(kept, stage.next_offset), next(iter(stage.newest.values()))[0])


def write_slots(db: sqlite3.Connection, staged: Iterable[Staged]) -> None:
    """Write the rows of the partitions, with their checksums."""
    rows = []
    for stage in staged:
        part = stage.part
        numbers = (
            stage.next_offset,
            stage.earliest,
            stage.records,
            stage.size_bytes,
            stage.stored_ms,
        )
        crc = slot_crc(part.slot, part.topic, part.partition, *numbers)
        rows.append((*numbers, crc, part.slot))
    db.executemany(
        "UPDATE slots SET next_offset = ?, earliest = ?, records = ?, bytes = ?,"
        " stored_ms = ?, crc = ? WHERE slot = ?",
        rows,
    )


def write_offsets(db: sqlite3.Connection, state: LogState, commits: Iterable[Commit]) -> None:
    """Write the offsets of groups, with their checksums; whether a group pins stays as it is."""
    rows = []
    for commit in commits:
        before = state.groups.get(commit.group, {})
        for tp, offset in commit.offsets.items():
            slot = state.partition(*tp).slot
            pins = slot in before and before[slot].pins
            row = (commit.group, slot, offset, True, pins)
            rows.append((*row, offset_crc(*row)))
    db.executemany("INSERT OR REPLACE INTO offsets VALUES (?, ?, ?, ?, ?, ?)", rows)


def adopt_keys(stage: Staged) -> None:
    """Apply the keys of a compacted topic once they are durable."""
    part = stage.part
    for key, at in stage.newest.items():
        part.newest.pop(key, None)  # inserted again at the end, to keep the order of offsets
        part.newest[key] = at
        stored_ms = stage.tombstones[key]
        if stored_ms is None:
            part.tombstones.pop(key, None)
        else:
            part.tombstones[key] = stored_ms
