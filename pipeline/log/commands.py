"""Commands of the log writer: append, commit, or run one function in its thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.log.state import GroupOffset, LogState, Partition, Topic
from pipeline.log.tables import offset_crc, slot_crc, topic_crc

__all__ = ["Append", "Call", "Command", "Commit", "create_topic", "register_group"]


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
