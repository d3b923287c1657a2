"""Commands of the log writer: append, commit, or run one function in its thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.log.state import GroupOffset, LogState, Partition, Topic, record_id
from pipeline.log.tables import offset_crc, slot_crc, topic_crc

__all__ = [
    "Append",
    "Call",
    "Command",
    "Commit",
    "create_topic",
    "delete_records",
    "register_group",
]


@dataclass(slots=True)
class Append:
    """Append records, all or none; resolves to their offsets."""

    records: Sequence[Any]
    size: int
    future: Future[list[int]] = field(default_factory=Future)
    offsets: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Commit:
    """Store the offsets of a group."""

    group: str
    offsets: Mapping[tuple[str, int], int]
    future: Future[None] = field(default_factory=Future)


@dataclass(slots=True)
class Call:
    """Run a function in the writer's thread, in a transaction of its own.

    Attributes:
        function: Called with the write connection; its result resolves the future.
        adopt: Applies the result to memory once the transaction is durable.
    """

    function: Callable[[sqlite3.Connection], Any]
    adopt: Callable[[Any], None] | None = None
    future: Future[Any] = field(default_factory=Future)


Command = Append | Commit | Call


def create_topic(db: sqlite3.Connection, topic: Topic, partitions: int) -> Topic:
    """Write the rows of a new topic inside a transaction; `LogState.adopt` it once durable."""
    row = (topic.name, partitions, topic.compacted, topic.retention_ms, topic.retention_bytes)
    db.execute("INSERT INTO topics VALUES (?, ?, ?, ?, ?, ?)", (*row, topic_crc(*row)))
    for partition in range(partitions):
        cursor = db.execute(
            "INSERT INTO slots (topic, partition, next_offset, earliest, records, bytes,"
            " stored_ms) VALUES (?, ?, 0, 0, 0, 0, 0)",
            (topic.name, partition),
        )
        slot = cursor.lastrowid or 0
        crc = slot_crc(slot, topic.name, partition, 0, 0, 0, 0, 0)
        db.execute("UPDATE slots SET crc = ? WHERE slot = ?", (crc, slot))
        topic.partitions.append(Partition(slot, topic.name, partition, topic.compacted))
    return topic


def delete_records(
    db: sqlite3.Connection, part: Partition, gone: Sequence[tuple[int]], size: int
) -> tuple[int, int, int]:
    """Delete records of a partition inside a transaction.

    Args:
        db: The write connection.
        part: The partition, as it was before.
        gone: Ids of the records.
        size: Their size against the cap.

    Returns:
        First offset, number and size of the records that are left, for the state once it is
        durable.
    """
    records, left = part.records - len(gone), part.size_bytes - size
    db.executemany("DELETE FROM records WHERE id = ?", gone)
    row = db.execute(
        "SELECT min(id) FROM records WHERE id >= ? AND id < ?",
        (record_id(part.slot, 0), record_id(part.slot + 1, 0)),
    ).fetchone()
    first = part.next_offset if row[0] is None else row[0] - record_id(part.slot, 0)
    numbers = (part.next_offset, first, records, left, part.stored_ms)
    crc = slot_crc(part.slot, part.topic, part.partition, *numbers)
    db.execute(
        "UPDATE slots SET earliest = ?, records = ?, bytes = ?, crc = ? WHERE slot = ?",
        (first, records, left, crc, part.slot),
    )
    return first, records, left


def register_group(
    db: sqlite3.Connection,
    state: LogState,
    group: str,
    topics: Iterable[str],
    start: Literal["earliest", "latest"],
) -> dict[int, GroupOffset]:
    """Write the rows of a group that reads `topics` inside a transaction.

    Returns:
        Slot to offset of the group; put it into `LogState.groups` once durable.
    """
    before = state.groups.get(group, {})
    after = {slot: GroupOffset(at.offset, at.committed, pins=False) for slot, at in before.items()}
    for name in topics:
        for part in state.topics[name].partitions:
            at = before.get(part.slot)
            fresh = part.earliest if start == "earliest" else part.next_offset
            offset, committed = (fresh, False) if at is None else (at.offset, at.committed)
            after[part.slot] = GroupOffset(offset, committed, pins=True)
    rows = [(group, slot, at.offset, at.committed, at.pins) for slot, at in after.items()]
    db.executemany(
        "INSERT OR REPLACE INTO offsets VALUES (?, ?, ?, ?, ?, ?)",
        [(*row, offset_crc(*row)) for row in rows],
    )
    return after
