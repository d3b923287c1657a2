"""What the local log knows in memory: partitions, groups and the most recent records.

Loaded once when the file is opened; afterwards only the writer thread changes it, under the lock,
after its transaction is durable. Readers therefore never see what could still be lost.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pipeline.errors import LogError
from pipeline.log.file import OFFSET_BITS, ROW_OVERHEAD_BYTES, StoredRecord, record_id

__all__ = [
    "GroupOffset",
    "LogState",
    "Partition",
    "Topic",
    "are_limits",
    "is_group_offset",
    "is_position",
    "read_state",
]

_SLOT_BITS = 63 - OFFSET_BITS


@dataclass(slots=True)
class Partition:
    """One partition of one topic; `next_offset` is durable."""

    slot: int
    topic: str
    partition: int
    compacted: bool
    next_offset: int = 0
    earliest: int = 0
    records: int = 0
    size_bytes: int = 0
    stored_ms: int = 0
    newest: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    """Compacted topics: key -> (offset, size) of its one record, in order of offset."""
    tombstones: dict[bytes, int] = field(default_factory=dict)
    """Compacted topics: key -> when its tombstone was stored."""
    tail: deque[StoredRecord] = field(default_factory=deque)
    """The most recent records without a hole, ending at `next_offset`."""


@dataclass(slots=True)
class Topic:
    """A topic and its limits; None means the log's default."""

    name: str
    compacted: bool
    retention_ms: int | None
    retention_bytes: int | None
    partitions: list[Partition] = field(default_factory=list)


@dataclass(slots=True)
class GroupOffset:
    """Where a group stands in a partition; `offset` is the next one it has to read."""

    offset: int
    committed: bool
    pins: bool


class LogState:
    """Partitions, groups and the tail cache, guarded by `lock`.

    Args:
        cache_bytes: how much of the most recent records is kept in memory.
    """

    def __init__(self, cache_bytes: int) -> None:
        self.lock = threading.Lock()
        self.topics: dict[str, Topic] = {}
        self.groups: dict[str, dict[int, GroupOffset]] = {}
        self.total_bytes = 0
        self._cache_limit = cache_bytes
        self._cached_bytes = 0
        self._cached: deque[Partition] = deque()  # order of arrival, to let go of the oldest

    def adopt(self, topic: Topic) -> None:
        """Take over a topic that is durable now."""
        with self.lock:
            self.topics.setdefault(topic.name, topic)

    def partition(self, topic: str, partition: int) -> Partition:
        """The partition.

        Raises:
            LogError: there is no such topic or partition.
        """
        try:
            found = self.topics[topic].partitions
        except KeyError:
            msg = f"the log has no topic {topic!r}; it has {sorted(self.topics)}"
            raise LogError(msg) from None
        if not 0 <= partition < len(found):
            msg = f"topic {topic!r} has partitions 0 to {len(found) - 1}, not {partition}"
            raise LogError(msg)
        return found[partition]

    def partitions(self) -> list[Partition]:
        """All partitions of all topics."""
        return [part for topic in list(self.topics.values()) for part in topic.partitions]

    def floor(self, slot: int, without: Set[str] = frozenset()) -> int | None:
        """First offset that a registered group has still to read; None without such a group.

        Args:
            slot: of the partition.
            without: groups that don't count.
        """
        pinned = [
            at.offset
            for group, offsets in self.groups.items()
            if group not in without and (at := offsets.get(slot)) is not None and at.pins
        ]
        return min(pinned, default=None)

    def remember(self, part: Partition, records: Iterable[StoredRecord]) -> None:
        """Put fresh records into the tail cache (the lock is held)."""
        for record in records:
            part.tail.append(record)
            self._cached.append(part)
            self._cached_bytes += _memory(record)
        while self._cached_bytes > self._cache_limit and self._cached:
            oldest = self._cached.popleft()
            self._cached_bytes -= _memory(oldest.tail.popleft())

    def recall(
        self, part: Partition, offset: int, max_records: int, max_bytes: int
    ) -> list[StoredRecord] | None:
        """Records from `offset` on out of the tail cache; None when it starts later."""
        with self.lock:
            if offset >= part.next_offset:
                return []
            if not part.tail or offset < part.tail[0].offset:
                return None
            first = offset - part.tail[0].offset
            records: list[StoredRecord] = []
            for record in islice(part.tail, first, first + max_records):
                max_bytes -= _memory(record)
                if max_bytes < 0 and records:
                    break
                records.append(record)
            return records


def read_state(db: sqlite3.Connection, cache_bytes: int) -> LogState:
    """Load the state; reads no records except the keys of compacted topics.

    Raises:
        sqlite3.DatabaseError: As SQLite's own of damaged pages: a row cannot be what was written.
    """
    state = LogState(cache_bytes)
    for name, compacted, retention_ms, retention_bytes in db.execute(
        "SELECT name, compacted, retention_ms, retention_bytes FROM topics"
    ):
        _expect(are_limits(name, compacted, retention_ms, retention_bytes), "topics")
        state.topics[name] = Topic(name, bool(compacted), retention_ms, retention_bytes)
    for row in db.execute(
        "SELECT slot, topic, partition, next_offset, earliest, records, bytes, stored_ms"
        " FROM slots ORDER BY topic, partition"
    ):
        _expect(is_position(*row) and row[1] in state.topics, "slots")
        topic = state.topics[row[1]]
        _expect(row[2] == len(topic.partitions), "slots")
        part = Partition(row[0], row[1], row[2], topic.compacted, *row[3:])
        for which in ("min", "max"):  # two queries: SQLite looks up one end only, not both
            (found,) = db.execute(
                f"SELECT {which}(id) FROM records WHERE id >= ? AND id < ?",  # noqa: S608  (ours)
                (record_id(part.slot, 0), record_id(part.slot + 1, 0)),
            ).fetchone()
            offset = part.earliest if found is None else found - record_id(part.slot, 0)
            _expect(part.earliest <= offset < part.next_offset or found is None, "slots")
        topic.partitions.append(part)
        state.total_bytes += part.size_bytes
        if part.compacted:
            _read_keys(db, part)
    for group, slot, offset, committed, pins in db.execute(
        "SELECT grp, slot, offset, committed, pins FROM offsets"
    ):
        _expect(is_group_offset(group, slot, offset, committed, pins), "offsets")
        at = GroupOffset(offset, bool(committed), bool(pins))
        state.groups.setdefault(group, {})[slot] = at
    return state


def _read_keys(db: sqlite3.Connection, part: Partition) -> None:
    first = record_id(part.slot, 0)
    for row_id, key, size, stored_ms, is_tombstone in db.execute(
        "SELECT id, key, length(key) + ifnull(length(headers), 0) + ifnull(length(value), 0),"
        " stored_ms, value IS NULL FROM records WHERE id >= ? AND id < ? ORDER BY id",
        (first, record_id(part.slot + 1, 0)),
    ):
        _expect(type(key) is bytes and type(size) is int and type(stored_ms) is int, "records")
        part.newest.pop(key, None)
        part.newest[key] = (row_id - first, size + ROW_OVERHEAD_BYTES)
        if is_tombstone:
            part.tombstones[key] = stored_ms


def are_limits(name: Any, compacted: Any, retention_ms: Any, retention_bytes: Any) -> bool:
    """Whether these can be a topic's row."""
    limits = all(limit is None or type(limit) is int for limit in (retention_ms, retention_bytes))
    return bool(type(name) is str and compacted in (0, 1) and limits)


def is_position(slot: Any, topic: Any, *numbers: Any) -> bool:
    """Whether these can be a partition's row: partition, next offset, earliest, and the rest."""
    if not (type(topic) is str and all(type(each) is int for each in (slot, *numbers))):
        return False
    partition, next_offset, earliest = numbers[:3]
    fits = 0 <= slot < (1 << _SLOT_BITS) - 1 and partition >= 0
    return bool(fits and 0 <= earliest <= next_offset < 1 << OFFSET_BITS)


def is_group_offset(group: Any, slot: Any, offset: Any, committed: Any, pins: Any) -> bool:
    """Whether these can be the row of where a group stands."""
    whole = all(type(each) is int for each in (slot, offset, committed, pins))
    return bool(type(group) is str and whole and 0 <= offset < 1 << OFFSET_BITS)


def _expect(holds: bool, table: str) -> None:
    if not holds:
        msg = f"malformed row in the table {table}"
        raise sqlite3.DatabaseError(msg)


def _memory(record: StoredRecord) -> int:
    return len(record.value or b"") + len(record.key or b"") + 200
