"""Records of the local log, and the partitions, groups and recent records it keeps in memory.

The state is loaded once when the file is opened. Afterwards only the writer thread changes it,
under the lock, after its transaction is durable; readers therefore never see a record that could
still be lost.
"""

from __future__ import annotations

import sqlite3
import struct
import threading
import zlib
from collections import deque
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from pipeline.errors import LogError
from pipeline.log.tables import FORMAT, offset_crc, slot_crc, topic_crc

__all__ = [
    "MAX_RECORD_BYTES",
    "OFFSET_BITS",
    "GroupOffset",
    "LogState",
    "NewRecord",
    "Partition",
    "RecordRow",
    "StoredRecord",
    "Topic",
    "checksum",
    "decode_headers",
    "encode_headers",
    "is_group_row",
    "is_intact",
    "is_partition_row",
    "is_topic_row",
    "read_state",
    "record_id",
    "stored_size",
]

OFFSET_BITS = 40
MAX_RECORD_BYTES = 16 * 1024 * 1024
"""Largest value of one record; one with readings has some ten kilobytes."""
ROW_OVERHEAD_BYTES = 48
"""Size of a row without key, value and headers; counted so that many tiny records fill the cap."""

_HEAD = struct.Struct("<qqqqqq")
_COUNT = struct.Struct("<H")
_LENGTHS = struct.Struct("<HI")

Headers = tuple[tuple[str, bytes], ...]
_SLOT_BITS = 63 - OFFSET_BITS


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A record to append; any object with these attributes works.

    Attributes:
        topic: Created with the log's default number of partitions if it does not exist.
        value: None is a tombstone, which removes its key in a compacted topic.
        key: Decides the partition when `partition` is None; a compacted topic needs one.
        ts_ms: Event time, epoch milliseconds; None means now.
    """

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    ts_ms: int | None = None
    headers: Headers = ()


class StoredRecord(NamedTuple):
    """A record of the log; `ts_ms` is epoch milliseconds."""

    topic: str
    partition: int
    offset: int
    ts_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


RecordRow = tuple[int, int, int, int, "bytes | None", "bytes | None", "bytes | None"]
"""A row of `records`, columns in the order of the table."""


def record_id(slot: int, offset: int) -> int:
    """Primary key of a record.

    >>> record_id(1, 5) - record_id(1, 0)
    5
    """
    return slot << OFFSET_BITS | offset


def checksum(
    slot: int,
    offset: int,
    ts_ms: int,
    key: bytes | None,
    headers: bytes | None,
    value: bytes | None,
) -> int:
    """CRC-32 over the identity and the content of a record.

    >>> checksum(0, 1, 2, None, None, b"x") == checksum(0, 1, 2, b"", None, b"x")
    False
    """
    parts = (key, headers, value)
    head = _HEAD.pack(slot, offset, ts_ms, *(-1 if p is None else len(p) for p in parts))
    crc = zlib.crc32(head)
    for part in parts:
        if part:
            crc = zlib.crc32(part, crc)
    return crc


def is_intact(
    crc: int,
    slot: int,
    offset: int,
    ts_ms: int,
    key: bytes | None,
    headers: bytes | None,
    value: bytes | None,
) -> bool:
    """Whether a row is unchanged since it was written; a damaged row may hold any types.

    >>> crc = checksum(0, 1, 2, None, None, b"x")
    >>> is_intact(crc, 0, 1, 2, None, None, b"x"), is_intact(crc, 0, 1, "2", None, None, 3.5)
    (True, False)
    """
    parts = (key, headers, value)
    if type(ts_ms) is not int or not all(part is None or type(part) is bytes for part in parts):
        return False
    return checksum(slot, offset, ts_ms, *parts) == crc


def encode_headers(headers: Sequence[tuple[str, bytes]]) -> bytes | None:
    """Encode headers as one blob; None without headers.

    >>> decode_headers(encode_headers([("origin", b"bridge"), ("empty", b"")]))
    (('origin', b'bridge'), ('empty', b''))
    """
    if not headers:
        return None
    parts = [_COUNT.pack(len(headers))]
    for name, value in headers:
        raw = name.encode()
        parts += (_LENGTHS.pack(len(raw), len(value)), raw, value)
    return b"".join(parts)


def decode_headers(data: bytes | None) -> Headers:
    """Inverse of `encode_headers`; the record's checksum must have been verified before."""
    if data is None:
        return ()
    (count,) = _COUNT.unpack_from(data)
    at = _COUNT.size
    headers = []
    for _ in range(count):
        name_bytes, value_bytes = _LENGTHS.unpack_from(data, at)
        at += _LENGTHS.size
        headers.append((data[at : at + name_bytes].decode(), data[at + name_bytes :][:value_bytes]))
        at += name_bytes + value_bytes
    return tuple(headers)


def stored_size(key: bytes | None, headers: bytes | None, value: bytes | None) -> int:
    """Size of a record in bytes, as retention and the disk cap count it."""
    return len(key or b"") + len(headers or b"") + len(value or b"") + ROW_OVERHEAD_BYTES


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
    """The most recent records, contiguous up to `next_offset`."""


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
    """The offset of a group in a partition.

    Attributes:
        offset: Next offset that the group has to read.
        committed: Whether the group has committed it; False after registration only.
        pins: Whether retention keeps what the group has still to read.
    """

    offset: int
    committed: bool
    pins: bool


class LogState:
    """Partitions, groups and the tail cache, guarded by `lock`.

    Args:
        cache_bytes: Bytes of the most recent records to keep in memory.
    """

    def __init__(self, cache_bytes: int) -> None:
        self.lock = threading.Lock()
        self.topics: dict[str, Topic] = {}
        self.groups: dict[str, dict[int, GroupOffset]] = {}
        self.total_bytes = 0
        self._cache_limit = cache_bytes
        self._cached_bytes = 0
        self._cached: deque[Partition] = deque()  # in order of arrival, to drop the oldest

    def adopt(self, topic: Topic) -> None:
        """Add a topic that is durable now."""
        with self.lock:
            self.topics.setdefault(topic.name, topic)

    def partition(self, topic: str, partition: int) -> Partition:
        """Look up a partition.

        Raises:
            LogError: No such topic or partition.
        """
        try:
            found = self.topics[topic].partitions
        except KeyError:
            msg = f"the log has no topic {topic!r}, only {sorted(self.topics)}"
            raise LogError(msg) from None
        if not 0 <= partition < len(found):
            msg = f"topic {topic!r} has partitions 0 to {len(found) - 1}, not {partition}"
            raise LogError(msg)
        return found[partition]

    def partitions(self) -> list[Partition]:
        """All partitions of all topics."""
        return [part for topic in list(self.topics.values()) for part in topic.partitions]

    def ends(self) -> dict[str, list[int]]:
        """Topic to end offsets, one per partition, for the mark."""
        return {
            name: [part.next_offset for part in topic.partitions]
            for name, topic in self.topics.items()
        }

    def first_unread(self, slot: int, without: Set[str] = frozenset()) -> int | None:
        """First offset that a registered group still has to read; None without such a group.

        Args:
            slot: Slot of the partition.
            without: Groups to ignore.
        """
        pinned = [
            at.offset
            for group, offsets in self.groups.items()
            if group not in without and (at := offsets.get(slot)) is not None and at.pins
        ]
        return min(pinned, default=None)

    def cache(self, part: Partition, records: Iterable[StoredRecord]) -> None:
        """Put new records into the tail cache; the caller holds the lock."""
        for record in records:
            part.tail.append(record)
            self._cached.append(part)
            self._cached_bytes += _memory_bytes(record)
        while self._cached_bytes > self._cache_limit and self._cached:
            oldest = self._cached.popleft()
            self._cached_bytes -= _memory_bytes(oldest.tail.popleft())

    def read_cache(
        self, part: Partition, offset: int, max_records: int, max_bytes: int
    ) -> list[StoredRecord] | None:
        """Records from `offset` on from the tail cache; None when the cache starts later."""
        with self.lock:
            if offset >= part.next_offset:
                return []
            if not part.tail or offset < part.tail[0].offset:
                return None
            first = offset - part.tail[0].offset
            records: list[StoredRecord] = []
            for record in islice(part.tail, first, first + max_records):
                max_bytes -= _memory_bytes(record)
                if max_bytes < 0 and records:
                    break
                records.append(record)
            return records


def read_state(db: sqlite3.Connection, cache_bytes: int) -> LogState:
    """Load the state from the file; of the records, only keys of compacted topics are read.

    Raises:
        sqlite3.DatabaseError: A row is malformed; the message reads like SQLite's own of a
            damaged page.
    """
    state = LogState(cache_bytes)
    (version,) = db.execute("PRAGMA user_version").fetchone()
    for name, partitions, compacted, retention_ms, retention_bytes, crc in _rows(
        db, version, "name, partitions, compacted, retention_ms, retention_bytes", "topics"
    ):
        _expect(is_topic_row(name, compacted, retention_ms, retention_bytes), "topics")
        found = topic_crc(name, partitions, compacted, retention_ms, retention_bytes)
        _expect(crc in (None, found), "topics")
        state.topics[name] = Topic(name, bool(compacted), retention_ms, retention_bytes)
    for *row, crc in _rows(
        db,
        version,
        "slot, topic, partition, next_offset, earliest, records, bytes, stored_ms",
        "slots ORDER BY topic, partition",
    ):
        _expect(is_partition_row(*row) and row[1] in state.topics, "slots")
        _expect(crc in (None, slot_crc(*row)), "slots")
        part = _read_partition(db, state, row)
        is_whole = part.records == len(part.newest) or version != FORMAT
        _expect(is_whole or not part.compacted, "records")
    for group, slot, offset, committed, pins, crc in _rows(
        db, version, "grp, slot, offset, committed, pins", "offsets"
    ):
        _expect(is_group_row(group, slot, offset, committed, pins), "offsets")
        _expect(crc in (None, offset_crc(group, slot, offset, committed, pins)), "offsets")
        at = GroupOffset(offset, bool(committed), bool(pins))
        state.groups.setdefault(group, {})[slot] = at
    return state


def _rows(db: sqlite3.Connection, version: int, columns: str, table: str) -> sqlite3.Cursor:
    """The rows of a table, each with its checksum; None where the old format has none."""
    crc = "crc" if version == FORMAT else "NULL"
    return db.execute(f"SELECT {columns}, {crc} FROM {table}")  # noqa: S608  (ours)


def _read_partition(db: sqlite3.Connection, state: LogState, row: Sequence[Any]) -> Partition:
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
    return part


def _read_keys(db: sqlite3.Connection, part: Partition) -> None:
    first = record_id(part.slot, 0)
    for row_id, key, size, stored_ms, is_tombstone in db.execute(
        "SELECT id, key, length(key) + ifnull(length(headers), 0) + ifnull(length(value), 0),"
        " stored_ms, value IS NULL FROM records WHERE id >= ? AND id < ? ORDER BY id",
        (first, record_id(part.slot + 1, 0)),
    ):
        _expect(type(key) is bytes and type(size) is int and type(stored_ms) is int, "records")
        _expect(key not in part.newest, "records")  # compaction leaves one record of each key
        part.newest[key] = (row_id - first, size + ROW_OVERHEAD_BYTES)
        if is_tombstone:
            part.tombstones[key] = stored_ms


def is_topic_row(name: Any, compacted: Any, retention_ms: Any, retention_bytes: Any) -> bool:
    """Whether the values form a valid row of `topics`."""
    limits = all(limit is None or type(limit) is int for limit in (retention_ms, retention_bytes))
    return bool(type(name) is str and compacted in (0, 1) and limits)


def is_partition_row(slot: Any, topic: Any, *numbers: Any) -> bool:
    """Whether the values form a valid row of `slots`; `numbers` start with the partition."""
    if not (type(topic) is str and all(type(each) is int for each in (slot, *numbers))):
        return False
    partition, next_offset, earliest = numbers[:3]
    fits = 0 <= slot < (1 << _SLOT_BITS) - 1 and partition >= 0
    return bool(fits and 0 <= earliest <= next_offset < 1 << OFFSET_BITS)


def is_group_row(group: Any, slot: Any, offset: Any, committed: Any, pins: Any) -> bool:
    """Whether the values form a valid row of `offsets`."""
    whole = all(type(each) is int for each in (slot, offset, committed, pins))
    return bool(type(group) is str and whole and 0 <= offset < 1 << OFFSET_BITS)


def _expect(holds: bool, table: str) -> None:
    if not holds:
        msg = f"malformed row in the table {table}"
        raise sqlite3.DatabaseError(msg)


def _memory_bytes(record: StoredRecord) -> int:
    return len(record.value or b"") + len(record.key or b"") + 200
